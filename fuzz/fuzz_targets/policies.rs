//! Documents of policies, as people or machines may break them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::policies::check(data));
