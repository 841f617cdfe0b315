//! Fuzz targets and the models they compare with.
//!
//! Each target is a module with `run(octets)`, which panics if an invariant is broken; the binaries in
//! `fuzz_targets/` hand it to libFuzzer. The models share nothing with the code under test:
//!
//! * [`abnf`]: the grammar of issue values, as an automaton.
//! * [`zone`]: small zones, what is true of them, and their genuine NSEC and NSEC3 chains.
//! * [`wire`]: messages and signatures, octet by octet.

pub mod abnf;
pub mod caa_rdata;
pub mod certificate;
pub mod dns_reply;
pub mod dnssec_denial;
pub mod feed;
pub mod http_response;
pub mod issue_value;
pub mod persist;
pub mod redirect;
pub mod seeds;
pub mod task;
pub mod tcp_framing;
pub mod wire;
pub mod zone;
