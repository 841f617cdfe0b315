//! What genuine NSEC and NSEC3 records may prove: see [`parallax_fuzz::dnssec_denial`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::dnssec_denial::run(data));
