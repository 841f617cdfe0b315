//! The loopback laboratory, and load for measuring.
//!
//! [`lab`] is a small but real Internet on 127.0.0.0/8 and ::1. The real programs are run against it: they send real
//! DNS queries and real HTTP requests, and what they ought to conclude is known beforehand.
//!
//! [`internet`] is another one in network namespaces, with routers, in which routes are hijacked.

pub mod faults;
pub mod internet;
pub mod lab;
pub mod load;
pub mod measure;
pub mod netns;
pub mod node;
pub mod open;
pub mod peers;
pub mod plot;
pub mod program;
pub mod report;
pub mod signals;
pub mod soak;
pub mod validate_plan;
