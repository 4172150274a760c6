//! The daemon's configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::configuration::check(data));
