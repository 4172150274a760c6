//! Real directories, real events: what is written is seen, and how soon.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubernetes::{FileState, Inventory, Manifests};
use tempfile::TempDir;
use tokio::sync::watch::Receiver;

/// How long a test waits for what should take a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_new_a_changed_and_a_removed_file_are_seen() {
    let mut watched = Watched::new().await;
    assert!(watched.now().services.is_empty());
    watched.write("a.yaml", &service("a"));
    watched.until("a new file", services(&["a"])).await;
    watched.write("a.yaml", &service("b"));
    watched.until("a changed file", services(&["b"])).await;
    watched.write("a.yaml", &service("c"));
    watched.until("a change of the same length", services(&["c"])).await;
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until("a removed file", services(&[])).await;
}

#[tokio::test]
async fn a_file_renamed_into_place_is_seen() {
    let mut watched = Watched::with(&[("a.yaml", &service("a"))]).await;
    let first = watched.now().revision;
    watched.write(".a.yaml.tmp", &service("b"));
    fs::rename(watched.path(".a.yaml.tmp"), watched.path("a.yaml")).unwrap();
    let renamed = watched.until("a file renamed over another", services(&["b"])).await;
    assert_eq!(renamed.revision, first + 1, "a draft is not read, so it changes nothing");
    fs::rename(watched.path("a.yaml"), watched.path("a.yaml.off")).unwrap();
    watched.until("a file renamed away", services(&[])).await;
}

#[tokio::test]
async fn new_directories_are_watched_too() {
    let mut watched = Watched::new().await;
    watched.write("x/y/a.yaml", &service("a"));
    watched.until("a file in a new directory", services(&["a"])).await;
    watched.write("x/y/b.yaml", &service("b"));
    watched.until("another one there", services(&["a", "b"])).await;
    fs::remove_dir_all(watched.path("x")).unwrap();
    watched.until("the directory's removal", services(&[])).await;
}

#[tokio::test]
async fn a_broken_change_leaves_the_last_good_version_in_force() {
    let files = [("a.yaml", &*service("a")), ("b.yaml", &*service("b"))];
    let mut watched = Watched::with(&files).await;
    watched.write("a.yaml", "kind: [");
    let inventory = watched.until("a broken file", |all| !all.problems.is_empty()).await;
    assert!(services(&["a", "b"])(&inventory));
    let file = watched.path("a.yaml");
    assert!(matches!(inventory.files[&*file], FileState::Stale { .. }));
    assert_eq!((&*inventory.problems[0].file, inventory.problems[0].line), (&*file, 1));
    watched.write("a.yaml", &service("c"));
    let inventory = watched.until("its repair", services(&["b", "c"])).await;
    assert!(inventory.problems.is_empty());
}

#[tokio::test]
async fn a_file_that_is_written_slowly_is_read_once_it_is_closed() {
    let mut watched = Watched::with(&[("a.yaml", &*service("a"))]).await;
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    file.write_all(service("b").as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(services(&["a"])(&watched.now()), "half a file was read");
    file.write_all(service("c").as_bytes()).unwrap();
    drop(file);
    watched.until("the closed file", services(&["b", "c"])).await;
}

#[tokio::test]
async fn a_mounted_configmap_is_followed_when_it_is_swapped() {
    let directory = directory();
    let root = directory.path().to_owned();
    let version = |name: &str, text: &str| {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("a.yaml"), text).unwrap();
    };
    version("..1", &service("a"));
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut watched = Watched::at(directory, ".").await;
    assert!(services(&["a"])(&watched.now()));
    version("..2", &service("b"));
    symlink("..2", watched.path("..data_tmp")).unwrap();
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
    fs::remove_dir_all(watched.path("..1")).unwrap();
    watched.until("a swapped ConfigMap", services(&["b"])).await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_its_objects_and_may_come_back() {
    let directory = directory();
    let mut watched = Watched::at(directory, "x/m").await;
    assert_eq!(watched.now().problems.len(), 1);
    watched.write("x/m/a.yaml", &service("a"));
    let inventory = watched.until("a root that appears", services(&["a"])).await;
    assert!(inventory.problems.is_empty());
    fs::rename(watched.path("x"), watched.path("y")).unwrap();
    let inventory = watched.until("it moved away", |all| !all.problems.is_empty()).await;
    assert!(services(&["a"])(&inventory));
    watched.write("x/m/b.yaml", &service("b"));
    let inventory = watched.until("its return", services(&["b"])).await;
    assert!(inventory.problems.is_empty());
    watched.write("x/m/c.yaml", &service("c"));
    watched.until("a file in it", services(&["b", "c"])).await;
}

#[tokio::test]
async fn a_burst_larger_than_the_event_queue_is_read_to_the_end() {
    let mut watched = Watched::new().await;
    let path = watched.path("a.yaml");
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    fs::write(&path, "").unwrap();
    // The test's only thread is busy here, so nobody takes events out of the queue; a renaming
    // puts two into it.
    for _ in 0..=limit.min(100_000) / 4 {
        fs::rename(&path, watched.path("b.yaml")).unwrap();
        fs::rename(watched.path("b.yaml"), &path).unwrap();
    }
    watched.write("b.yaml", &service("b"));
    watched.until("the last of a flood", services(&["b"])).await;
    watched.write("b.yaml", &service("c"));
    watched.until("a change after it", services(&["c"])).await;
}

#[tokio::test]
async fn one_change_among_ten_thousand_files_is_seen_in_time() {
    let directory = directory();
    for number in 0..9_999 {
        let name = format!("{number}.yaml");
        fs::write(directory.path().join(name), service(&format!("s{number}"))).unwrap();
    }
    let start = Instant::now();
    let mut watched = Watched::at(directory, ".").await;
    println!("first reading of 9999 files: {} ms", start.elapsed().as_millis());
    assert_eq!(watched.now().services.len(), 9_999);
    watched.write("new.yaml", &service("new"));
    watched.until("one change among 10000 files", |all| all.services.len() == 10_000).await;
    watched.write("beyond.yaml", &service("beyond"));
    let inventory = watched.until("one file too many", |all| !all.problems.is_empty()).await;
    assert!(inventory.problems[0].message.contains("over 10000 files"));
    assert_eq!(inventory.services.len(), 10_000);
}

/// A watched directory.
struct Watched {
    directory: TempDir,
    inventory: Receiver<Arc<Inventory>>,
    _manifests: Manifests,
}

impl Watched {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(files: &[(&str, &str)]) -> Self {
        let directory = directory();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self::at(directory, ".").await
    }

    async fn at(directory: TempDir, root: &str) -> Self {
        let root = directory.path().join(root);
        let manifests = Manifests::watch(&[root], kubernetes::Options::default()).await.unwrap();
        Self { directory, inventory: manifests.subscribe(), _manifests: manifests }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn now(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventory.borrow())
    }

    /// Waits for an inventory that `holds`, and tells how long it took to come.
    async fn until(&mut self, what: &str, holds: impl Fn(&Inventory) -> bool) -> Arc<Inventory> {
        let start = Instant::now();
        let wait = self.inventory.wait_for(|inventory| holds(inventory));
        let found = tokio::time::timeout(PATIENCE, wait).await;
        let found = found.unwrap_or_else(|_| panic!("{what} was not seen in {PATIENCE:?}"));
        println!("{what}: seen after {} ms", start.elapsed().as_millis());
        Arc::clone(&found.unwrap())
    }
}

/// A directory in memory where there is one: some of these tests make many files.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn service(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

fn services(names: &[&str]) -> impl Fn(&Inventory) -> bool {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    move |inventory| inventory.services.keys().map(|key| &key.name).eq(&names)
}
