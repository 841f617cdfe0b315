//! A perspective node: looks, and reports what it saw.
//!
//! A node is one viewpoint: one resolver, one source address for each family. Its workers share nothing;
//! each owns its ring, sockets, buffers, timers and tasks. Tasks come in batches over a bounded lock-free
//! queue and leave as reports in batches; when the queue is full the node says so. The node never judges:
//! rules live in `validation`, and a worker only carries bytes and time between its cores and the ring.

pub mod captures;
pub mod config;
pub mod desk;
mod ended;
pub mod link;
pub mod memory;
pub mod node;
mod pacing;
mod pool;
pub mod serve;
pub mod services;
pub mod settings;
mod talks;
mod tasks;
pub mod telemetry;
mod timers;
mod worker;

pub use config::{ConfigError, DnssecSetting, Laboratory, NodeConfig, RawTransport, Transport};
pub use node::{FrameCounters, FrameDrop, Full, Node, NodeError, NodeStats, Owner, PacketKeeper, TakePackets};
pub use parallax_ring::{Driver, FrameMethod};
