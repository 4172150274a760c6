use clap::Parser;
use prost_types::Timestamp;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    observe: Observe,
}

fn request(flags: &[&str]) -> GetFlowsRequest {
    let flags = [&["observe", "--server", "localhost:1"], flags].concat();
    Command::try_parse_from(flags).unwrap().observe.into_request()
}

fn is_refused(flags: &[&str]) -> bool {
    Command::try_parse_from([&["observe"], flags].concat()).is_err()
}

#[test]
fn the_last_twenty_are_asked_for_unless_something_else_is() {
    let number = |flags: &[&str]| request(flags).number;
    assert_eq!(number(&[]), 20);
    assert_eq!(number(&["--last", "3"]), 3);
    assert_eq!(number(&["--all"]), 0);
    assert_eq!(number(&["--since", "5m"]), 0);
    assert_eq!(number(&["-f"]), 0);
    assert_eq!(number(&["-f", "--last", "3"]), 3);
    let first = request(&["--first", "4"]);
    assert!(first.first && first.number == 4);
}

#[test]
fn following_with_all_begins_with_the_oldest() {
    assert_eq!(request(&["-f"]).since, None);
    assert_eq!(request(&["-f", "--all"]).since, Some(Timestamp::default()));
}

#[test]
fn raw_filters_stand_beside_the_flags() {
    let raw = r#"{"verdict":["FORWARDED"]}"#;
    let request = request(&["--pod", "a/b", "--allowlist", raw, "--denylist", raw]);
    assert_eq!(request.whitelist.len(), 3);
    assert_eq!(request.blacklist, [FlowFilter { verdict: vec![1], ..FlowFilter::default() }]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert!(is_refused(&["--first", "1", "--last", "1"]));
    assert!(is_refused(&["--first", "1", "-f"]));
    assert!(is_refused(&["--all", "--last", "1"]));
    assert!(is_refused(&["--since", "yesterday"]));
    assert!(is_refused(&["--output", "wide"]));
    assert!(is_refused(&["--server", "nowhere"]));
    assert!(is_refused(&["--allowlist", "{"]));
    assert!(is_refused(&["--tls-client-key-file", "/a"]));
}
