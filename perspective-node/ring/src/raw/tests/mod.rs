//! The stack against peers in memory, on a clock of their own: no frame leaves
//! the process and nothing waits. Only [`wire`] is about the whole ring, frame
//! layer and loop included.

mod bounds;
mod closing;
mod datagrams;
mod handshake;
mod hostile;
mod hosts;
mod kept;
mod neighbours;
mod peer;
mod room;
mod segments;
mod transfer;
mod unreachable;
mod wire;
mod world;
