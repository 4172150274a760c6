//! Random days of a node, beside a plain list of who may reach what.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::engine::check(data));
