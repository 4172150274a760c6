//! Kafka requests, read beside kafka-protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fqdnd_fuzz::kafka_requests::check(data));
