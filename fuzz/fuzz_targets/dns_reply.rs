//! Replies to a query: see [`parallax_fuzz::dns_reply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::dns_reply::run(data));
