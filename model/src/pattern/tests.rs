//! The vectors of pattern matching, and what is refused.

use super::*;

/// Pattern, name, whether it matches.
const VECTORS: &str = "
cilium.io  cilium.io.  yes
cilium.io  www.cilium.io.  no
cilium.io  CILIUM.io.  yes
*.cilium.io  www.cilium.io.  yes
*.cilium.io  cilium.io.  no
*.cilium.io  a.b.cilium.io.  no
*cilium.io  cilium.io.  yes
*cilium.io  sub-cilium.io.  yes
*cilium.io  www.cilium.io.  no
sub*.cilium.io  sub.cilium.io.  yes
sub*.cilium.io  subdomain.cilium.io.  yes
sub*.cilium.io  www.cilium.io.  no
**.cilium.io  app.cilium.io.  yes
**.cilium.io  a.b.c.d.cilium.io.  yes
**.cilium.io  cilium.io.  no
**.cilium.io  xcilium.io.  no
***.cilium.io  a.b.cilium.io.  yes
***.cilium.io  cilium.io.  no
**cilium.io  cilium.io.  yes
**cilium.io  subcilium.io.  yes
**cilium.io  a.cilium.io.  no
a.**.cilium.io  a.b.cilium.io.  yes
a.**.cilium.io  a.b.c.cilium.io.  no
**.*.cilium.io  a.b.cilium.io.  yes
**.*.cilium.io  a.b.c.cilium.io.  yes
**.*.cilium.io  a.cilium.io.  no
*.*.cilium.io  _foobar._tcp.cilium.io.  yes
*.*.cilium.io  a.cilium.io.  no
*.ci*.io  anysub.ci.io.  yes
*.ci*.io  anysub.cilium.io.  yes
*.ci*.io  ci.io.  no
*.ci*.io  cilium.io.  no
part*ial.com  partial.com.  yes
part*ial.com  part-extra-ial.com.  yes
part*ial.com  part.x.ial.com.  no
*  .  yes
*  io.  yes
*  _foobar._tcp.cilium.io.  yes
**  a.b.c.  yes
*.  cilium.io.  yes
**.  cilium.io.  yes
";

#[test]
fn follows_the_vectors() {
    let mut rows = 0;
    for row in VECTORS.lines().filter(|row| !row.is_empty()) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let [pattern, name, expected] = columns[..] else { panic!("not a vector: {row}") };
        let pattern = Pattern::match_pattern(pattern).unwrap();
        let name: Name = name.parse().unwrap();
        assert_eq!(pattern.matches(name.as_ref()), expected == "yes", "{row}");
        rows += 1;
    }
    assert_eq!(rows, 41);
}

#[test]
fn a_star_matches_no_character_that_a_host_name_never_has() {
    let matches = |pattern: &str, name: &str| {
        Pattern::match_pattern(pattern).unwrap().matches(name.parse::<Name>().unwrap().as_ref())
    };
    assert!(!matches("*.example.com", "a\\.b.example.com"));
    assert!(!matches("**.example.com", "a\\032b.example.com"));
    assert!(matches("*", "a\\032b.example.com"));
}

#[test]
fn the_parts_of_a_glob_do_not_overlap() {
    let matches = |pattern: &str, name: &str| {
        Pattern::match_pattern(pattern).unwrap().matches(name.parse::<Name>().unwrap().as_ref())
    };
    assert!(!matches("ab*bc.io", "abc.io"));
    assert!(matches("ab*bc.io", "abbc.io"));
    assert!(matches("a*b*c.io", "a-b-b-c.io"));
    assert!(!matches("a*b*c.io", "a-c.io"));
}

#[test]
fn refuses_what_cilium_refuses() {
    let name = |text: &str| Pattern::match_name(text).unwrap_err().to_string();
    let pattern = |text: &str| Pattern::match_pattern(text).unwrap_err().to_string();
    assert_eq!(name(""), "must not be empty");
    assert_eq!(name("*.example.com"), "`*` is not allowed; use letters, digits, `-`, `_` and `.`");
    assert_eq!(
        pattern("foo[a-z].com"),
        "`[` is not allowed; use letters, digits, `-`, `_` and `.`, and `*` for any part of a label"
    );
    assert_eq!(pattern(&"a".repeat(256)), "has 256 characters, at most 255 are allowed");
    let empty = "has an empty label: it must not begin with a dot nor have two in a row";
    assert_eq!(pattern("a..b"), empty);
    assert_eq!(pattern(".example.com"), empty);
    assert_eq!(name("."), empty);
}

#[test]
fn a_label_that_cannot_be_matches_nothing() {
    let pattern = Pattern::match_pattern(&format!("{}.io", "a".repeat(64))).unwrap();
    assert_eq!(*pattern.kind(), PatternKind::Nothing);
}
