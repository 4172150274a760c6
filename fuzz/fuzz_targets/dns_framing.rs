//! DNS messages in a TCP stream, beside a reader that has the whole stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::dns_framing::check(data));
