//! Times as people write and read them.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil};

/// A time, or how long ago it was.
pub(crate) fn parse(text: &str) -> Result<prost_types::Timestamp, String> {
    let now = Timestamp::try_from(SystemTime::now()).map_err(|error| error.to_string())?;
    parse_at(text, now).map(|time| prost_types::Timestamp {
        seconds: time.as_second(),
        // Behind the point, whatever is before it.
        nanos: time.subsec_nanosecond(),
    })
}

fn parse_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago).map_err(|error| error.to_string());
    }
    let utc = |time: civil::DateTime| time.to_zoned(jiff::tz::TimeZone::UTC);
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<civil::DateTime>().and_then(utc).map(|time| time.timestamp()))
        .map_err(|_| "write a time such as 2026-11-23T10:00:00Z, or how long ago, as 5m".to_owned())
}

/// A time as `Nov 23 10:00:00.123`.
pub(super) fn stamp(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map_or_else(|| "N/A".to_owned(), |time| time.strftime("%b %e %H:%M:%S.%3f").to_string())
}

/// A time since 1970, to the second, as RFC 3339 has it.
pub(crate) fn rfc3339(time: Duration) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "N/A".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_or_told_by_how_long_ago_they_were() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let read = |text: &str| parse_at(text, now).map(|time| time.to_string());
        assert_eq!(read("5m").unwrap(), "2026-11-23T09:55:00Z");
        assert_eq!(read("1h30m").unwrap(), "2026-11-23T08:30:00Z");
        assert_eq!(read("2026-11-22T10:00:00+02:00").unwrap(), "2026-11-22T08:00:00Z");
        assert_eq!(read("2026-11-22T10:00:00.5Z").unwrap(), "2026-11-22T10:00:00.5Z");
        assert_eq!(read("2026-11-22T10:00").unwrap(), "2026-11-22T10:00:00Z");
        assert_eq!(read("2026-11-22").unwrap(), "2026-11-22T00:00:00Z");
        assert!(read("yesterday").unwrap_err().contains("2026-11-23T10:00:00Z"));
    }

    #[test]
    fn stamps_have_milliseconds() {
        let time = prost_types::Timestamp { seconds: 1_764_151_205, nanos: 7_900_000 };
        assert_eq!(stamp(Some(&time)), "Nov 26 10:00:05.007");
        assert_eq!(stamp(None), "N/A");
    }
}
