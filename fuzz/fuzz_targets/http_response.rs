//! HTTP responses, however they are cut: see [`parallax_fuzz::http_response`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::http_response::run(data));
