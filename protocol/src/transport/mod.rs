//! How our programs speak to each other and to others: HTTP over TLS 1.3 with certificates on both sides.
//!
//! * [`identity`]: the files that say who a program is and whom it believes, loaded and loaded again;
//! * [`caller`]: who calls, as the certificate says, and lists of who may;
//! * [`mod@serve`]: accepts connections and hands their requests to a router;
//! * [`mod@connect`]: reaches a peer and makes sure that it is the one that was meant;
//! * [`routes`]: services of gRPC and plain HTTP on one router;
//! * [`refused`]: why a handshake came to nothing.
//!
//! What a caller may do is not decided here: a router sees a [`Caller`] with every request and judges for itself.
//!
//! Invariant: a request reaches a router of [`serve::serve`] only over TLS 1.3 and with a certificate that was verified,
//! in full, on the very connection the request came over: no session is resumed and nothing is sent early.

pub mod caller;
pub mod connect;
pub mod identity;
mod limit;
pub mod refused;
pub mod routes;
pub mod serve;

pub use caller::{AllowList, Caller, KeyPin};
pub use connect::{ConnectError, ConnectLimits, Peer, connect};
pub use identity::{Identity, IdentityError, TlsFiles};
pub use limit::LineLimit;
pub use refused::Refused;
pub use serve::{Events, ServeLimits, serve, serve_plain};
