use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

fn read(text: &str) -> (Vec<Document>, Vec<String>) {
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("a.yaml")), text);
    (documents, problems.iter().map(ToString::to_string).collect())
}

fn names(documents: &[Document]) -> Vec<(&str, usize)> {
    documents.iter().map(|document| (&*document.name, document.line)).collect()
}

#[test]
fn every_document_knows_its_line() {
    let (documents, problems) = read(
        "# first\nkind: A\napiVersion: v1\nmetadata: {name: one}\n---\n---\n# second\n\nkind: B\n\
         apiVersion: v1\nmetadata: {name: two, namespace: prod}\n...\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(names(&documents), [("one", 2), ("two", 9)]);
    assert_eq!(documents[1].namespace.as_deref(), Some("prod"));
    assert_eq!((&*documents[1].kind, &*documents[1].api_version), ("B", "v1"));
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let good = |name: &str| format!("kind: A\napiVersion: v1\nmetadata: {{name: {name}}}\n");
    for broken in ["a: [1, 2\n", "a: b: c\n", "a: \"x\n", "\ta: 1\n", "a: 1\na: 2\n", "- 1\nb: 2\n"]
    {
        let (documents, problems) =
            read(&format!("{}---\n{broken}---\n{}", good("one"), good("two")));
        assert_eq!(names(&documents).iter().map(|n| n.0).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(problems.len(), 1, "{broken:?} {problems:?}");
        assert!(problems[0].starts_with("a.yaml:"), "{problems:?}");
    }
}

#[test]
fn what_is_no_object_is_named() {
    let problem = |text: &str| read(text).1.join("\n");
    assert_eq!(problem("- a\n"), "a.yaml:1:1: not a Kubernetes object: must be a map");
    assert_eq!(problem("apiVersion: v1\n"), "a.yaml:1:1: kind: must be set");
    assert_eq!(problem("kind: A\n"), "a.yaml:1:1: apiVersion: must be set");
    assert_eq!(
        problem("apiVersion: 1\nkind: A"),
        "a.yaml:1:13: apiVersion: must be text, not the number 1; quote it if text is meant"
    );
    assert_eq!(
        problem("kind: A\nkind: B"),
        "a.yaml:2:1: the key `kind` stands twice, first in line 1"
    );
    assert_eq!(problem("a: {<<: 1}"), "a.yaml:1:9: only maps can be merged (`<<`)");
    assert_eq!(
        problem("a: &x {b: 1}\nc: {b: 2, <<: *x}"),
        "a.yaml:2:5: the key `b` stands twice, first in line 1"
    );
    assert_eq!(problem("a: !foo b"), "a.yaml:1:9: the tag `!foo` is not supported");
    assert_eq!(problem(""), "");
    assert_eq!(problem("# nothing\n---\n"), "");
}

#[test]
fn the_items_of_a_list_are_documents() {
    let (documents, problems) = read(
        "kind: List\napiVersion: v1\nitems:\n- kind: A\n  apiVersion: v1\n  metadata: {name: one}\n\
         - kind: B\n",
    );
    assert_eq!(names(&documents), [("one", 4)]);
    assert_eq!(problems, ["a.yaml:7:3: apiVersion: must be set"]);
}

#[test]
fn depth_and_aliases_are_bounded() {
    let deep = format!("a: {}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(read(&deep).1, ["a.yaml:1:67: nested deeper than 64 levels"]);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let problems = read(&bomb).1;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("over 1048576 values"), "{problems:?}");
    assert!(read("a: &a [*a]").1[0].contains("an alias stands inside of what it names"));

    let long = " ".repeat(Document::MAX_FILE_LEN + 1);
    assert_eq!(read(&long).1, ["a.yaml:1:1: has 8388609 bytes, at most 8388608 are read"]);
}

#[test]
fn a_files_problems_are_told_up_to_a_bound() {
    let problems = read(&"a\n---\n".repeat(1000)).1;
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100], "a.yaml:1:1: has 900 more such documents");
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Thing {
    spec: Spec,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Spec {
    labels: BTreeMap<String, String>,
    ports: Vec<u16>,
    mode: Option<Mode>,
    on: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Mode {
    Fast,
    Slow,
}

fn thing(spec: &str) -> Result<Thing, String> {
    let (documents, _) = read(&format!("kind: A\napiVersion: v1\nspec:\n  {spec}\n"));
    documents[0].read().map_err(|problem| problem.to_string())
}

#[test]
fn reads_into_types_of_the_caller() {
    let spec = thing("{labels: {a: \"1\", b/c: x}, ports: [80, 443], mode: Fast, rest: {x: yes}}");
    let labels = [("a", "1"), ("b/c", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let expected =
        Spec { labels: labels.into(), ports: vec![80, 443], mode: Some(Mode::Fast), on: None };
    assert_eq!(spec, Ok(Thing { spec: expected }));
    assert_eq!(thing("mode: null").map(|thing| thing.spec), Ok(Spec::default()));
}

#[test]
fn merge_keys_put_what_they_name_into_the_map() {
    let spec = thing("{labels: {<<: [{a: b}, {c: d}], e: f}, <<: {ports: [80]}}").unwrap().spec;
    let labels = [("a", "b"), ("c", "d"), ("e", "f")];
    assert_eq!(spec.labels, labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(spec.ports, [80]);
}

#[test]
fn numbers_are_read_as_kubernetes_reads_them() {
    let ports = |list: &str| thing(&format!("ports: [{list}]")).map(|thing| thing.spec.ports);
    assert_eq!(ports("10, 0x10, 0o10, 010, 0b10, 1_0, +10"), Ok(vec![10, 16, 8, 8, 2, 10, 10]));
    assert!(ports("1.5").is_err() && ports("'10'").is_err() && ports("0b12").is_err());
}

#[test]
fn a_misfit_names_place_and_field() {
    let error = |spec: &str| thing(spec).unwrap_err();
    assert_eq!(
        error("ports: [80, http]"),
        "a.yaml:4:15: spec.ports[1]: invalid type: string \"http\", expected u16"
    );
    assert_eq!(
        error("labels: {a/b: 1}"),
        "a.yaml:4:17: spec.labels[a/b]: invalid type: integer `1`, expected a string"
    );
    assert_eq!(
        error("on: yes"),
        "a.yaml:4:7: spec.on: must not be `yes`, a boolean to YAML 1.1; quote it, or write true or false"
    );
    assert_eq!(
        error("mode: Medium"),
        "a.yaml:4:9: spec.mode: unknown variant `Medium`, expected `Fast` or `Slow`"
    );
}

#[test]
fn a_problem_can_be_put_at_a_field() {
    let (documents, _) = read("kind: A\napiVersion: v1\nmetadata:\n  annotations:\n    x/y: z\n");
    let place = |keys: &[&str]| documents[0].problem_at(keys, "bad").to_string();
    assert_eq!(
        place(&["metadata", "annotations", "x/y"]),
        "a.yaml:5:10: metadata.annotations[x/y]: bad"
    );
    assert_eq!(place(&["metadata", "name"]), "a.yaml:4:3: metadata.name: bad");
}
