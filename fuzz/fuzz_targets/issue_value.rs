//! The grammar of issue values: see [`parallax_fuzz::issue_value`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parallax_fuzz::issue_value::run(data));
