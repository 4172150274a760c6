//! Random packets on the programs in the kernel, beside a model of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::packets::check(data));
