use ::http::HeaderMap;
use model::{Hidden, HttpRule, KeyPair, Pattern};

use super::*;

fn rule(requests: Requests) -> L7Rule {
    L7Rule { server_names: None, terminate: None, originate: None, requests }
}

fn named(pattern: &str, requests: Requests) -> L7Rule {
    let names = ServerNames(vec![Pattern::match_pattern(pattern).unwrap()]);
    L7Rule { server_names: Some(names), ..rule(requests) }
}

fn intercepting(requests: Requests) -> L7Rule {
    let key = || KeyPair { chain: "chain".into(), key: Hidden("key".into()) };
    L7Rule {
        terminate: Some(Terminate::Issuer(key())),
        originate: Some(Originate::Trusting { trusted: "ca".into(), client: None }),
        ..rule(requests)
    }
}

fn path(path: &str) -> Requests {
    Requests::Http(vec![HttpRule { path: Some(path.into()), ..HttpRule::default() }])
}

fn compiled(rules: impl IntoIterator<Item = L7Rule>) -> Arc<CompiledRules> {
    Arc::new(CompiledRules::new(&L7Rules(rules.into_iter().collect())))
}

fn hello(name: Result<&str, Reason>) -> Hello {
    Hello { server_name: name.map(|name| name.parse().unwrap()), alpn: vec![] }
}

fn is_spliced(rules: impl IntoIterator<Item = L7Rule>, name: &str) -> Result<bool, Reason> {
    let route = compiled(rules).tls(&hello(Ok(name)), &Resolved::Any)?;
    Ok(matches!(route, TlsRoute::Splice))
}

fn admits(admitted: &Admitted, path: &str) -> bool {
    let headers = HeaderMap::new();
    admitted.http(&Facts { method: "GET", path, host: "a", headers: &headers }).is_some()
}

#[test]
fn a_server_name_must_match_and_be_resolved() {
    let rules = compiled([named("*.a.example", Requests::Any)]);
    let resolved = Resolved::Names(vec!["x.a.example".parse().unwrap()]);
    let judge = |name| rules.tls(&hello(name), &resolved).map(|_| ());
    assert_eq!(judge(Ok("x.a.example")), Ok(()));
    assert_eq!(judge(Ok("y.a.example")), Err(Reason::ServerNameNotResolved));
    assert_eq!(judge(Ok("b.example")), Err(Reason::ServerNameDenied));
    for reason in [Reason::ServerNameMissing, Reason::ServerNameOdd, Reason::EncryptedHello] {
        assert_eq!(judge(Err(reason)), Err(reason));
    }
    assert_eq!(rules.plain().map(|_| ()), Err(Reason::NotTls));
}

#[test]
fn no_rule_covers_nothing() {
    assert_eq!(is_spliced([], "a"), Err(Reason::NoRules));
    assert_eq!(compiled([]).plain().map(|_| ()), Err(Reason::NoRules));
}

#[test]
fn tls_under_rules_for_requests_has_to_be_terminated() {
    assert_eq!(is_spliced([rule(path("/"))], "a"), Err(Reason::TlsNotTerminated));
    assert_eq!(is_spliced([rule(Requests::Kafka(vec![]))], "a"), Err(Reason::TlsNotTerminated));
    assert_eq!(is_spliced([rule(path("/")), named("a", Requests::Any)], "a"), Ok(true));
}

#[test]
fn terminating_comes_before_letting_through_and_both_are_united() {
    let rules = compiled([named("a", Requests::Any), intercepting(path("/x"))]);
    let Ok(TlsRoute::Terminate { admitted, .. }) = rules.tls(&hello(Ok("a")), &Resolved::Any)
    else {
        panic!("not terminated");
    };
    assert!(admits(&admitted, "/y"), "the other alternative allows everything for this name");
    let Ok(TlsRoute::Terminate { admitted, .. }) = rules.tls(&hello(Ok("b")), &Resolved::Any)
    else {
        panic!("not terminated");
    };
    assert!(admits(&admitted, "/x") && !admits(&admitted, "/y"));
}

#[test]
fn terminated_tls_never_leaves_in_the_clear() {
    let bare = L7Rule { originate: None, ..intercepting(path("/")) };
    assert_eq!(is_spliced([bare], "a"), Err(Reason::NotOriginated));
}

#[test]
fn a_secret_that_is_not_there_opens_nothing() {
    let missing = || "prod/tls".to_owned();
    let ending = L7Rule {
        terminate: Some(Terminate::Unavailable(missing())),
        ..intercepting(Requests::Any)
    };
    let beginning = L7Rule {
        originate: Some(Originate::Unavailable(missing())),
        ..intercepting(Requests::Any)
    };
    for rule in [ending, beginning.clone()] {
        assert_eq!(is_spliced([rule], "a"), Err(Reason::SecretUnavailable));
    }
    let plain = L7Rule { terminate: None, ..beginning };
    assert_eq!(compiled([plain]).plain().map(|_| ()), Err(Reason::SecretUnavailable));
}

#[test]
fn a_terminated_connection_needs_a_name() {
    let rules = compiled([intercepting(path("/"))]);
    let judge = |reason| rules.tls(&hello(Err(reason)), &Resolved::Any).map(|_| ());
    for reason in [Reason::ServerNameMissing, Reason::EncryptedHello] {
        assert_eq!(judge(reason), Err(reason));
    }
}

#[test]
fn plain_connections_have_the_rules_without_names() {
    let rules = compiled([rule(path("/a")), rule(path("/b")), named("c", path("/c"))]);
    let (admitted, originate) = rules.plain().unwrap();
    assert!(originate.is_none());
    assert!(admits(&admitted, "/a") && admits(&admitted, "/b") && !admits(&admitted, "/c"));
    assert!(admitted.speaks_http() && !admitted.speaks_kafka() && !admitted.allows_anything());
}

#[test]
fn a_rule_that_does_not_compile_matches_nothing_and_is_told() {
    let rules = compiled([rule(path("(")), rule(path("/a"))]);
    assert_eq!(rules.problems().len(), 1);
    let (admitted, _) = rules.plain().unwrap();
    assert!(admits(&admitted, "/a") && !admits(&admitted, "("));
}
