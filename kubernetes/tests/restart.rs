//! What files had in force is in force again after a restart, and what cannot be is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubernetes::{FileState, Inventory, Manifests, Options};
use tempfile::TempDir;

/// How long a test waits for what should take a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_file_that_broke_while_nobody_looked_has_its_last_good_version_in_force() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.write("b.yaml", &service("b"));
    let before = place.run(2).await;
    place.write("a.yaml", "kind: [");

    for _ in 0..2 {
        let inventory = place.run(2).await;
        assert_eq!(inventory.services, before.services);
        let FileState::Stale { last_good } = inventory.files[&*place.path("a.yaml")] else {
            panic!("{:?}", inventory.files);
        };
        assert!(last_good.elapsed().unwrap() < PATIENCE);
        assert_eq!(inventory.files[&*place.path("b.yaml")], FileState::Good);
        assert_eq!(inventory.problems.len(), 1);
        assert_eq!(&*inventory.problems[0].file, place.path("a.yaml"));
        assert!(inventory.lost.is_empty());
    }
    place.write("a.yaml", &service("c"));
    assert_eq!(names(&*place.run(2).await), ["b", "c"]);
    place.write("a.yaml", "kind: [");
    assert_eq!(names(&*place.run(2).await), ["b", "c"]);
}

#[tokio::test]
async fn what_a_broken_version_gave_beside_the_last_good_one_is_kept_too() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    place.write("a.yaml", &[&service("a"), "---\n", &service("b"), "---\nkind: ["].concat());
    assert_eq!(names(&*place.run(1).await), ["a", "b"]);
    place.write("a.yaml", "]");
    let inventory = place.run(1).await;
    assert_eq!(names(&inventory), ["a", "b"]);
    assert!(matches!(inventory.files[&*place.path("a.yaml")], FileState::Stale { .. }));
}

#[tokio::test]
async fn a_file_that_went_while_nobody_looked_is_gone() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.write("b.yaml", &service("b"));
    place.run(2).await;
    fs::remove_file(place.path("a.yaml")).unwrap();
    let inventory = place.run(1).await;
    assert_eq!((names(&inventory), inventory.problems.len()), (vec!["b"], 0));
}

#[tokio::test]
async fn a_directory_that_is_missing_at_the_start_leaves_its_files_in_force() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    let aside = place.directory.path().join("aside");
    fs::rename(place.manifests(), &aside).unwrap();
    let inventory = place.run(1).await;
    assert_eq!(names(&inventory), ["a"]);
    assert!(inventory.problems[0].message.contains("cannot be read"), "{:?}", inventory.problems);
    assert!(inventory.lost.is_empty());
    fs::rename(&aside, place.manifests()).unwrap();
    let inventory = place.run(1).await;
    assert_eq!((names(&inventory), inventory.problems.len()), (vec!["a"], 0));
}

#[tokio::test]
async fn a_broken_file_of_which_nothing_is_kept_may_have_lost_something_until_it_is_whole() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    fs::remove_dir_all(place.state()).unwrap();
    place.write("a.yaml", "kind: [");
    // Being there for a while is no proof that it never gave anything.
    for _ in 0..2 {
        let inventory = place.run(0).await;
        assert_eq!(inventory.files[&*place.path("a.yaml")], FileState::Broken);
        assert_eq!(lost(&inventory), [place.path("a.yaml")]);
    }
    place.write("a.yaml", &service("a"));
    let inventory = place.run(1).await;
    assert!(inventory.lost.is_empty() && names(&inventory) == ["a"]);
}

#[tokio::test]
async fn a_damaged_entry_is_as_none_and_told_of() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    let entry = place.entries().pop().unwrap();
    fs::write(&entry, fs::read_to_string(&entry).unwrap().replace("name: a", "name: x")).unwrap();
    place.write("a.yaml", "kind: [");
    let inventory = place.run(1).await;
    assert!(inventory.services.is_empty());
    assert_eq!(lost(&inventory), [place.path("a.yaml")]);
    let told = inventory.problems.iter().find(|problem| *problem.file == entry).unwrap();
    assert!(told.message.contains("its digest is another"), "{told}");
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    assert_eq!(place.run(1).await.problems, []);
}

#[tokio::test]
async fn a_file_that_was_never_good_has_nothing_to_lose() {
    let place = Place::new();
    place.write("good.yaml", &service("a"));
    place.run(1).await;
    let (manifests, mut inventory) = place.start().await;
    place.write("junk.yaml", &[&service("b"), "---\nkind: ["].concat());
    fs::write(place.path("binary.yaml"), [0xff; 8]).unwrap();
    let all_known = |inventory: &Arc<Inventory>| inventory.files.len() == 3;
    let seen = tokio::time::timeout(PATIENCE, inventory.wait_for(all_known)).await;
    assert!(seen.unwrap().unwrap().lost.is_empty());
    place.until_kept(3).await;
    drop(manifests);
    for _ in 0..2 {
        let inventory = place.run(3).await;
        assert_eq!(names(&inventory), ["a", "b"]);
        assert_eq!(inventory.files[&*place.path("junk.yaml")], FileState::Broken);
        assert_eq!(inventory.files[&*place.path("binary.yaml")], FileState::Broken);
        assert!(inventory.lost.is_empty());
    }
}

#[tokio::test]
async fn a_directory_that_nobody_has_seen_may_hold_anything_until_it_is_read() {
    let place = Place::new();
    fs::remove_dir(place.manifests()).unwrap();
    let (_manifests, mut inventory) = place.start().await;
    assert_eq!(lost(&inventory.borrow_and_update()), [place.manifests()]);
    fs::create_dir(place.manifests()).unwrap();
    place.write("a.yaml", "kind: [");
    let broken = |inventory: &Arc<Inventory>| lost(inventory) == [place.path("a.yaml")];
    tokio::time::timeout(PATIENCE, inventory.wait_for(broken)).await.unwrap().unwrap();
    place.write("a.yaml", &service("a"));
    let whole = |inventory: &Arc<Inventory>| lost(inventory).is_empty();
    tokio::time::timeout(PATIENCE, inventory.wait_for(whole)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_is_a_problem_and_nothing_more() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    fs::write(place.state(), "in the way").unwrap();
    let (_manifests, mut inventory) = place.start().await;
    let told = |inventory: &Arc<Inventory>| {
        let of_state = |problem: &&policy::Problem| problem.file.starts_with(place.state());
        inventory.problems.iter().filter(of_state).count() == 2
    };
    let seen = tokio::time::timeout(PATIENCE, inventory.wait_for(told)).await.unwrap();
    assert_eq!(names(&seen.unwrap()), ["a"]);
    place.write("b.yaml", &service("b"));
    let both = |inventory: &Arc<Inventory>| names(inventory) == ["a", "b"];
    tokio::time::timeout(PATIENCE, inventory.wait_for(both)).await.unwrap().unwrap();
}

#[tokio::test]
async fn only_what_changed_is_written() {
    let place = Place::new();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    let modified = || fs::metadata(&place.entries()[0]).unwrap().modified().unwrap();
    let before = modified();
    place.write("a.yaml", &service("a"));
    place.run(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(modified(), before);
}

/// A directory of manifests, and a state directory.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.manifests()).unwrap();
        place
    }

    fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.manifests().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn start(&self) -> (Manifests, tokio::sync::watch::Receiver<Arc<Inventory>>) {
        let options = Options { state: Some(self.state()), ..Options::default() };
        let manifests = Manifests::watch(&[self.manifests()], options).await.unwrap();
        let inventory = manifests.subscribe();
        (manifests, inventory)
    }

    /// The first inventory of a run that lasts until this many files are kept.
    async fn run(&self, kept: usize) -> Arc<Inventory> {
        let (_manifests, inventory) = self.start().await;
        let first = Arc::clone(&inventory.borrow());
        self.until_kept(kept).await;
        first
    }

    async fn until_kept(&self, files: usize) {
        let start = Instant::now();
        while self.entries().len() != files || self.is_writing() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.entries());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether a file's entry is not its text yet, though it could be.
    fn is_writing(&self) -> bool {
        let entries: String =
            self.entries().iter().filter_map(|entry| fs::read_to_string(entry).ok()).collect();
        let files = fs::read_dir(self.manifests()).into_iter().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
        let mut whole = texts.filter(|text| text.contains("kind: Service"));
        whole.any(|text| !entries.contains(&text))
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state().join("last-good")).into_iter().flatten();
        let entries = entries.map(|entry| entry.unwrap().path());
        entries.filter(|path| !is_unfinished(path)).collect()
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with('.')
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.services.keys().map(|key| key.name.as_str()).collect()
}

fn lost(inventory: &Inventory) -> Vec<PathBuf> {
    let lost: BTreeSet<PathBuf> = inventory.lost.iter().map(|path| path.to_path_buf()).collect();
    lost.into_iter().collect()
}

fn service(name: &str) -> String {
    format!("\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}
