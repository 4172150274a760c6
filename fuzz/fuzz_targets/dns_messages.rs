//! DNS messages, read beside hickory-proto.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::dns_messages::check(data));
