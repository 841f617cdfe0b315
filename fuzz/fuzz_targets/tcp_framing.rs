//! Replies over TCP, however they are cut: see [`parallax_fuzz::tcp_framing`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::tcp_framing::run(data));
