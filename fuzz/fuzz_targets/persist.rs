//! The records of dns-persist-01: see [`parallax_fuzz::persist`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::persist::run(data));
