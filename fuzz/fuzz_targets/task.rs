//! A whole task in local DNSSEC mode: see [`parallax_fuzz::task`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::task::run(data));
