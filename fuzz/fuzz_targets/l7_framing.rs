//! HTTP/1 framing, beside httparse.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::l7_framing::check(data));
