//! The examples, as a reader would copy them: all listed, all accepted, none with a warning that
//! it is not meant to show.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use policy::{Document, Policy};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

#[test]
fn the_list_of_examples_is_what_is_there() {
    let list = fs::read_to_string(format!("{DIRECTORY}/README.md")).unwrap();
    let listed: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| [")?.split_once(']'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, examples().into_iter().collect());
}

#[test]
fn every_example_is_read_without_a_problem_or_a_warning() {
    for name in examples().into_iter().filter(|name| !warned(name)) {
        let file: Arc<Path> = Path::new(&name).into();
        let text = fs::read_to_string(format!("{DIRECTORY}/{name}")).unwrap();
        let (documents, problems) = Document::read_all(&file, &text);
        assert_eq!(problems, [], "{name}");
        assert!(!documents.is_empty(), "{name}");
        let mut policies = 0;
        for document in documents.iter().filter(|document| Policy::key_of(document).is_some()) {
            let policy = Policy::read(document).unwrap_or_else(|problems| panic!("{problems:#?}"));
            assert_eq!(policy.warnings, [], "{name}");
            policies += 1;
        }
        assert!(policies > 0, "{name} holds no policy");
    }
}

/// Whether an example shows a warning; `guide.rs` has each one's.
fn warned(name: &str) -> bool {
    let shown = ["dns", "http", "kafka", "production"];
    shown.iter().any(|own| name == format!("seed/{own}.yaml"))
}

fn examples() -> Vec<String> {
    let mut names = Vec::new();
    for below in ["", "seed/"] {
        let entries = fs::read_dir(format!("{DIRECTORY}/{below}")).unwrap();
        let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let manifests = files.filter(|name| name.ends_with(".yaml"));
        names.extend(manifests.map(|name| format!("{below}{name}")));
    }
    names.sort();
    names
}
