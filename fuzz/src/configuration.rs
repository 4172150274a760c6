//! The configuration file: whatever its text, it is read the same way twice, or refused in words.

use fqdnd::config::Config;

/// Reads a text as a configuration.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match (Config::parse(text), Config::parse(text)) {
        (Ok(first), Ok(second)) => assert_eq!(format!("{first:?}"), format!("{second:?}")),
        (Err(first), Err(second)) => {
            let said = format!("{first:#}");
            assert!(!said.is_empty());
            assert_eq!(said, format!("{second:#}"));
        }
        (first, second) => panic!("{first:?} and {second:?} of one text"),
    }
}
