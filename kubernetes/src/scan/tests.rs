//! Walks over real directories.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

#[test]
fn finds_manifests_at_every_depth_and_leaves_out_what_is_hidden() {
    let root = directory(&[
        "a.yaml",
        "b/c/d.yml",
        "b/e.json",
        ".hidden.yaml",
        ".git/f.yaml",
        "#a.yaml#",
        "#g.yaml",
        "a.yaml~",
        "README.md",
    ]);
    let scan = Scan::new(&[root.path().to_owned()]);
    assert_eq!(files(&scan, &root), ["a.yaml", "b/c/d.yml", "b/e.json"]);
    for path in ["", "b", "b/c"] {
        assert_eq!(scan.places[&root.path().join(path)], Interest::All);
    }
    assert!(!scan.places.contains_key(&root.path().join(".git")));
    assert!(scan.partial.is_empty() && scan.problems.is_empty());
}

#[test]
fn watches_the_way_to_a_root_only_for_the_next_name() {
    let root = directory(&["a/b/c.yaml"]);
    let scan = Scan::new(&[root.path().join("a/b")]);
    let names = |name: &str| Interest::Names([OsString::from(name)].into());
    assert_eq!(scan.places[root.path()], names("a"));
    assert_eq!(scan.places[&root.path().join("a")], names("b"));
}

#[test]
fn a_root_that_cannot_be_read_is_partial_and_told() {
    let root = directory(&["file"]);
    let roots = ["gone", "file"].map(|name| root.path().join(name));
    let scan = Scan::new(&roots);
    assert_eq!(scan.partial, roots.clone().into());
    let problems: Vec<String> = scan.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            format!(
                "{}:1:1: cannot be read: No such file or directory (os error 2); what it gave \
                 before stays in force",
                roots[0].display()
            ),
            format!(
                "{}:1:1: is not a directory; what it gave before stays in force",
                roots[1].display()
            ),
        ]
    );
}

#[test]
fn links_are_followed_once_and_watched_where_they_lead() {
    let root = directory(&["m/..2024/a.yaml", "else/b.yaml", "m/sub/c.yaml"]);
    let m = root.path().join("m");
    symlink("..2024", m.join("..data")).unwrap();
    symlink("..data/a.yaml", m.join("a.yaml")).unwrap();
    symlink(root.path().join("else/b.yaml"), m.join("b.yaml")).unwrap();
    symlink(&m, m.join("sub/loop")).unwrap();
    symlink("nowhere/x.yaml", m.join("x.yaml")).unwrap();
    let scan = Scan::new(std::slice::from_ref(&m));
    assert_eq!(files(&scan, &root), ["m/a.yaml", "m/b.yaml", "m/sub/c.yaml"]);
    let names = |name: &str| Interest::Names([OsString::from(name)].into());
    assert_eq!(scan.places[&m.join("..data")], names("a.yaml"));
    assert_eq!(scan.places[&root.path().join("else")], names("b.yaml"));
    assert!(scan.partial.is_empty() && scan.problems.is_empty());
}

#[test]
fn depth_is_bounded_and_said() {
    let deep = vec!["d"; MAX_DEPTH].join("/");
    let root = directory(&[&format!("{deep}/a.yaml"), &format!("{deep}/d/b.yaml")]);
    let scan = Scan::new(&[root.path().to_owned()]);
    assert_eq!(files(&scan, &root), [format!("{deep}/a.yaml")]);
    assert_eq!(scan.partial, [root.path().to_owned()].into());
    assert!(scan.problems[0].message.starts_with("lies deeper than 16 directories"));
}

#[test]
fn what_is_no_regular_file_is_never_opened() {
    let root = directory(&["a.yaml"]);
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("s.yaml")).unwrap();
    fs::create_dir(root.path().join("d.yaml")).unwrap();
    assert_eq!(files(&Scan::new(&[root.path().to_owned()]), &root), ["a.yaml"]);
}

#[test]
fn a_file_that_was_just_changed_is_fresh() {
    let root = directory(&["a.yaml"]);
    let fingerprint = Fingerprint::new(&fs::metadata(root.path().join("a.yaml")).unwrap());
    let (now, age) = (SystemTime::now(), Duration::from_secs(2));
    assert!(fingerprint.is_fresh(now, age));
    assert!(fingerprint.is_fresh(now - Duration::from_secs(100), age));
    assert!(!fingerprint.is_fresh(now + Duration::from_secs(3), age));
}

fn directory(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn files(scan: &Scan, root: &TempDir) -> Vec<String> {
    let relative = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
    scan.files.keys().map(relative).collect()
}
