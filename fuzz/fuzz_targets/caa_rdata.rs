//! CAA records and the decision about a set: see [`parallax_fuzz::caa_rdata`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::caa_rdata::run(data));
