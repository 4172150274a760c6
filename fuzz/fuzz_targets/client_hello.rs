//! ClientHellos, read beside tls-parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::client_hello::check(data));
