//! An HTTP/1.1 client's side of one fetch.
//!
//! * [`redirect`]: which targets may be followed.
//! * [`response`]: bytes in, head and bounded body out.
//! * [`fetch`]: one fetch with its hops: addresses, fallback, deadlines, evidence.

pub mod fetch;
pub mod redirect;
pub mod response;
