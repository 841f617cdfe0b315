//! Targets of redirects: see [`parallax_fuzz::redirect`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::redirect::run(data));
