use model::Hidden;

use super::*;
use crate::Reason;

fn facts<'a>(method: &'a str, host: &'a str, path: &'a str, headers: &'a HeaderMap) -> Facts<'a> {
    Facts { method, path, host, headers }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn stripe() -> HttpRule {
    HttpRule {
        method: Some("POST".into()),
        path: Some("/v1/payments".into()),
        host: Some("api.stripe.com".into()),
        ..HttpRule::default()
    }
}

fn header_rule(value: Wanted, mismatch: Mismatch) -> HttpRule {
    let rule = HeaderMatch { name: "x-token".into(), value, mismatch };
    HttpRule { header_matches: vec![rule], ..HttpRule::default() }
}

fn edits(rule: &HttpRule, map: &HeaderMap) -> Option<Vec<Edit>> {
    Matcher::new(rule).unwrap().judge(&facts("GET", "a", "/", map))
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

#[test]
fn every_condition_must_hold() {
    let matcher = Matcher::new(&stripe()).unwrap();
    let none = HeaderMap::new();
    let allows = |method, host, path| matcher.judge(&facts(method, host, path, &none)).is_some();
    assert!(allows("POST", "api.stripe.com", "/v1/payments"));
    assert!(allows("POST", "API.Stripe.com", "/v1/payments"));
    assert!(!allows("GET", "api.stripe.com", "/v1/payments"));
    assert!(!allows("POST", "api.stripe.com.evil.example", "/v1/payments"));
    assert!(!allows("POST", "api.stripe.com", "/v1/payments/1"));
    assert!(!allows("POST", "api.stripe.com", "/x/v1/payments"));
    assert!(!allows("POST", "api.stripe.com", "/v1/payments?to=me"));
    assert!(!allows("POST", "api.stripe.com:8443", "/v1/payments"));
    assert!(!allows("post", "api.stripe.com", "/v1/payments"));
}

#[test]
fn an_alternation_is_anchored_whole() {
    let rule = HttpRule { path: Some("/a|/b".into()), ..HttpRule::default() };
    let matcher = Matcher::new(&rule).unwrap();
    let none = HeaderMap::new();
    let allows = |path| matcher.judge(&facts("GET", "a", path, &none)).is_some();
    assert!(allows("/a") && allows("/b"));
    assert!(!allows("/ax") && !allows("/x/b"));
}

#[test]
fn an_expression_cannot_leave_its_anchors_or_grow_without_bound() {
    for source in ["a)|(.*", "(", "(?:(?:[a-z]{1000}){1000}){1000}"] {
        let rule = HttpRule { path: Some(source.into()), ..HttpRule::default() };
        assert!(matches!(Matcher::new(&rule), Err(HttpRuleError::Expression { .. })), "{source}");
    }
}

#[test]
fn headers_are_there_or_have_their_exact_value() {
    let condition = |value: Option<&str>| HttpRule {
        headers: vec![HeaderCondition { name: "x-token".into(), value: value.map(str::to_owned) }],
        ..HttpRule::default()
    };
    assert!(edits(&condition(None), &headers(&[("x-token", "")])).is_some());
    assert!(edits(&condition(None), &headers(&[])).is_none());
    assert!(edits(&condition(Some("a")), &headers(&[("x-token", "a")])).is_some());
    assert!(edits(&condition(Some("a")), &headers(&[("x-token", "ab")])).is_none());
    let twice = headers(&[("x-token", "a"), ("x-token", "b")]);
    assert!(edits(&condition(Some("a")), &twice).is_none());
    assert!(edits(&condition(Some("a,b")), &twice).is_some());
}

#[test]
fn each_mismatch_has_its_action() {
    let wanted = || Wanted::Exactly(Hidden("right".into()));
    let wrong = headers(&[("x-token", "wrong")]);
    let name = || HeaderName::from_static("x-token");
    let done = |mismatch| edits(&header_rule(wanted(), mismatch), &wrong);
    assert_eq!(done(Mismatch::Fail), None);
    assert_eq!(done(Mismatch::Log), Some(vec![Edit::Log(name())]));
    assert_eq!(done(Mismatch::Add), Some(vec![Edit::Add(name(), value("right"))]));
    assert_eq!(done(Mismatch::Delete), Some(vec![Edit::Delete(name())]));
    assert_eq!(done(Mismatch::Replace), Some(vec![Edit::Replace(name(), value("right"))]));
    let right = headers(&[("x-token", "right")]);
    assert_eq!(edits(&header_rule(wanted(), Mismatch::Replace), &right), Some(vec![]));
}

#[test]
fn edits_change_the_headers() {
    let edited = |edit: Edit| {
        let mut map = headers(&[("x-token", "a"), ("x-token", "b")]);
        edit.apply(&mut map);
        let values = map.get_all("x-token").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let name = || HeaderName::from_static("x-token");
    assert_eq!(edited(Edit::Log(name())), ["a", "b"]);
    assert_eq!(edited(Edit::Add(name(), value("c"))), ["a", "b", "c"]);
    assert_eq!(edited(Edit::Delete(name())), Vec::<String>::new());
    assert_eq!(edited(Edit::Replace(name(), value("c"))), ["c"]);
}

#[test]
fn a_rule_that_cannot_be_carried_out_is_none() {
    let unavailable = header_rule(Wanted::Unavailable("prod/token".into()), Mismatch::Log);
    assert!(matches!(Matcher::new(&unavailable), Err(HttpRuleError::Secret(_))));
    let mut framing = header_rule(Wanted::Exactly(Hidden("1".into())), Mismatch::Replace);
    framing.header_matches[0].name = "content-length".into();
    assert!(matches!(Matcher::new(&framing), Err(HttpRuleError::Framing(_))));
    let broken = header_rule(Wanted::Exactly(Hidden("a\r\nb: c".into())), Mismatch::Add);
    assert!(matches!(Matcher::new(&broken), Err(HttpRuleError::Value(_))));
}

#[test]
fn the_edits_of_all_rules_that_match_are_made() {
    let rule = |mismatch| header_rule(Wanted::Exactly(Hidden("right".into())), mismatch);
    let matchers = [rule(Mismatch::Fail), rule(Mismatch::Log), rule(Mismatch::Delete)]
        .map(|rule| Arc::new(Matcher::new(&rule).unwrap()));
    let none = HeaderMap::new();
    let edits = judge(matchers.iter(), &facts("GET", "a", "/", &none)).unwrap();
    assert_eq!(edits.len(), 2);
    assert_eq!(judge(matchers[..1].iter(), &facts("GET", "a", "/", &none)), None);
    assert_eq!(judge([].iter(), &facts("GET", "a", "/", &none)), None);
}

fn target(method: &str, uri: &str, hosts: &[&'static str]) -> Result<(String, String), Reason> {
    let mut map = HeaderMap::new();
    for host in hosts {
        map.append(header::HOST, HeaderValue::from_static(host));
    }
    let method = method.parse().unwrap();
    let target = Target::read(&method, &uri.parse().unwrap(), &map)?;
    Ok((target.host, target.path))
}

#[test]
fn a_target_is_read_where_it_is_one() {
    let is = |host: &str, path: &str| Ok((host.to_owned(), path.to_owned()));
    assert_eq!(target("GET", "/a?b", &["h"]), is("h", "/a?b"));
    assert_eq!(target("GET", "http://H:80/a", &["h:80"]), is("H:80", "/a"));
    assert_eq!(target("GET", "http://h", &[]), is("h", "/"));
    assert_eq!(target("OPTIONS", "*", &["h"]), is("h", "*"));
    assert_eq!(target("GET", "/", &["[::1]:80"]), is("[::1]:80", "/"));
}

#[test]
fn a_target_that_can_be_read_in_two_ways_is_refused() {
    let host = Err(Reason::AmbiguousHost);
    assert_eq!(target("GET", "/", &["a", "b"]), host);
    assert_eq!(target("GET", "/", &["a", "a"]), host);
    assert_eq!(target("GET", "http://a/", &["b"]), host);
    assert_eq!(target("GET", "http://a:80/", &["a"]), host);
    assert_eq!(target("GET", "/", &["u@a"]), host);
    assert_eq!(target("GET", "/", &["a,b"]), host);
    assert_eq!(target("GET", "/", &["a/b"]), host);
    assert_eq!(target("GET", "/", &["a:80:80"]), host);
    assert_eq!(target("GET", "/", &["a:port"]), host);
    assert_eq!(target("CONNECT", "a:443", &["a:443"]), Err(Reason::ConnectMethod));
    assert_eq!(target("GET", "ftp://a/", &["a"]), Err(Reason::MalformedRequest));
    assert_eq!(target("GET", "*", &["a"]), Err(Reason::AmbiguousPath));
}

#[test]
fn paths_that_servers_read_differently_are_refused() {
    for path in [
        "/a/../b",
        "/..",
        "/.",
        "/a/.",
        "/%2e%2E/b",
        "/a/.%2e",
        "/..;x/b",
        "/a\\b",
        "/%zz",
        "/%2",
        "a",
    ] {
        assert_eq!(check_path(path), Err(Reason::AmbiguousPath), "{path}");
    }
    for path in ["/", "/a.b/..c/...", "/a%2Fb", "/a//b", "/a?../b", "/.well-known/x", "/~a/%7E"] {
        assert_eq!(check_path(path), Ok(()), "{path}");
    }
}

#[test]
fn a_host_name_has_no_port() {
    let name = |host: &str| Target { host: host.into(), path: "/".into() }.host_name();
    assert_eq!(name("A.example:80"), "a.example");
    assert_eq!(name("a.example."), "a.example");
    assert_eq!(name("a.example"), "a.example");
}
