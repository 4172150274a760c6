//! Entries that come back as they were kept, and everything else that does not.

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use proptest::prelude::*;

use super::entry::EntryError;
use super::*;

/// More than any test keeps.
const LIMIT: u64 = 1 << 20;

#[test]
fn what_is_kept_is_there_after_a_restart_and_what_is_forgotten_is_not() {
    let state = tempfile::tempdir().unwrap();
    let (mut kept, entries) = open(state.path());
    assert_eq!((entries, kept.problems().count()), (vec![], 0));
    assert_eq!(kept.due(Instant::now()), None);
    kept.keep(entry("/m/a.yaml", "a: 1\n"));
    kept.keep(entry("/m/b.yaml", "b"));
    kept.keep(entry("/m/a.yaml", "a: 2\n"));
    assert!(!write(&mut kept));
    assert_eq!(kept.due(Instant::now()), None);

    let (mut kept, mut entries) = open(state.path());
    entries.sort_by(|one, other| one.file.cmp(&other.file));
    assert_eq!(entries, [entry("/m/a.yaml", "a: 2\n"), entry("/m/b.yaml", "b")]);
    kept.forget(Path::new("/m/b.yaml"));
    kept.forget(Path::new("/m/never.yaml"));
    assert!(!write(&mut kept));
    assert_eq!(open(state.path()).1, [entry("/m/a.yaml", "a: 2\n")]);
}

#[test]
fn nobody_else_may_read_what_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(state.path());
    kept.keep(entry("/m/a.yaml", "a"));
    write(&mut kept);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.directory), 0o700);
    assert_eq!(mode(&kept.directory.join(name_of(Path::new("/m/a.yaml")))), 0o600);
}

#[test]
fn a_damaged_entry_is_told_of_and_removed_when_its_file_is_gone() {
    let state = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(state.path());
    let files = ["/m/a.yaml", "/m/b.yaml", "/m/c.yaml", "/m/d.yaml"].map(PathBuf::from);
    for file in &files {
        kept.keep(entry(file.to_str().unwrap(), "text"));
    }
    write(&mut kept);
    let place = |file: &Path| kept.directory.join(name_of(file));
    let mut bytes = fs::read(place(&files[0])).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place(&files[0]), bytes).unwrap();
    fs::rename(place(&files[1]), place(Path::new("/m/other.yaml"))).unwrap();
    fs::remove_file(place(&files[2])).unwrap();
    fs::create_dir(place(&files[2])).unwrap();
    fs::write(kept.directory.join(".new-x.last-good"), "half").unwrap();
    fs::write(kept.directory.join("README"), "not ours").unwrap();

    let (mut kept, entries) = open(state.path());
    assert_eq!(entries, [entry("/m/d.yaml", "text")]);
    assert!(kept.is_damaged());
    let mut messages: Vec<_> = kept.problems().map(|problem| problem.message.clone()).collect();
    messages.sort();
    assert_eq!(
        messages,
        [
            "what it kept of a file is lost: is no regular file",
            "what it kept of a file is lost: is not what was written: its digest is another",
            "what it kept of a file is lost: stands under another file's name",
        ]
    );
    fs::remove_dir(kept.directory.join(name_of(&files[2]))).unwrap();
    kept.prune(files.iter());
    assert!(kept.directory.join(name_of(&files[0])).exists());
    assert!(!kept.directory.join(name_of(Path::new("/m/other.yaml"))).exists());
    assert!(!kept.directory.join(".new-x.last-good").exists());
    assert!(kept.directory.join("README").exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_a_problem_until_it_can() {
    let state = tempfile::tempdir().unwrap();
    let place = state.path().join("state");
    fs::write(&place, "a file in the way").unwrap();
    let (mut kept, entries) = open(&place);
    assert!(entries.is_empty() && kept.is_damaged());
    kept.keep(entry("/m/a.yaml", "a"));
    assert!(write(&mut kept));
    assert_eq!(kept.problems().count(), 2);
    let problem = kept.problems().last().unwrap();
    assert_eq!(&*problem.file, place.join("last-good"));
    assert!(problem.message.starts_with("cannot be written: "), "{problem}");
    let retry = kept.due(Instant::now()).unwrap();
    assert!(retry > Instant::now() + RETRY / 2);
    assert!(!write(&mut kept));

    fs::remove_file(&place).unwrap();
    assert!(write(&mut kept));
    assert_eq!(open(&place).1, [entry("/m/a.yaml", "a")]);
}

#[test]
fn no_more_is_read_than_files_may_have() {
    let state = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(state.path());
    kept.keep(entry("/m/a.yaml", "a"));
    kept.keep(entry("/m/b.yaml", &"b".repeat(2000)));
    write(&mut kept);
    let mut entries = Vec::new();
    let kept = LastGood::open(state.path(), 1000, |entry| entries.push(entry));
    assert!(entries.len() < 2 && kept.is_damaged());
}

#[test]
fn an_entry_reads_like_this() {
    // printf '1000 3 9\n/m/a.yaml\nkind: Pod\n' | sha256sum
    let bytes = entry("/m/a.yaml", "kind: Pod\n").encode();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "fqdnd-last-good 1\n8ae30770785406d1b6e9cda4472bcd4c\n1000 3 9\n/m/a.yaml\nkind: Pod\n"
    );
}

#[test]
fn an_entry_of_another_layout_is_refused() {
    assert_eq!(Entry::decode(b""), Err(EntryError::Magic));
    assert_eq!(Entry::decode(b"fqdnd-last-good 2\n"), Err(EntryError::Magic));
    assert_eq!(Entry::decode(b"fqdnd-last-good 1\n"), Err(EntryError::Header));
    let with =
        |rest: &str| format!("fqdnd-last-good 1\n{}\n{rest}", entry::digest(rest.as_bytes()));
    let decode = |rest: &str| Entry::decode(with(rest).as_bytes());
    assert_eq!(decode("1 2 1\n/\n").unwrap().objects, 2);
    for rest in ["1 2 1 4\n/\n", "1 2 9\n/\n", "1 2\n/\n", "x 2 1\n/\n", "1 2 1\n/", "1 2 1\n/x\n"]
    {
        assert_eq!(decode(rest), Err(EntryError::Header), "{rest:?}");
    }
    let far = format!("{} 2 1\n/\n", u64::MAX);
    assert_eq!(decode(&far), Err(EntryError::Header));
}

#[test]
fn a_disk_that_hangs_is_told_of_and_what_changes_meanwhile_is_written_when_it_is_back() {
    let state = tempfile::tempdir().unwrap();
    let (mut kept, _) = open(state.path());
    let start = Instant::now();
    kept.keep(entry("/m/a.yaml", "a: 1"));
    kept.keep(entry("/m/b.yaml", "b: 1"));
    let batch = kept.begin(start).unwrap();
    kept.keep(entry("/m/a.yaml", "a: 2"));
    assert_eq!(kept.due(start), Some(start + LATE));
    assert!(kept.begin(start + LATE).is_none() && !kept.look(start + LATE / 2));
    assert!(kept.look(start + LATE) && !kept.look(start + 2 * LATE));
    assert_eq!(kept.due(start), None);
    assert!(kept.problems().next().unwrap().message.starts_with("does not take what is written"));

    let failed = Some(io::Error::other("the disk is gone"));
    assert!(kept.end(Batch { failed, ..batch }, start));
    assert!(write(&mut kept));
    let (_, mut entries) = open(state.path());
    entries.sort_by(|one, other| one.file.cmp(&other.file));
    assert_eq!(entries, [entry("/m/a.yaml", "a: 2"), entry("/m/b.yaml", "b: 1")]);
}

proptest! {
    #[test]
    fn every_entry_comes_back_whole(
        path in "(?s)/.{0,40}", text in "(?s).{0,200}", objects: usize, seconds in 0..=u64::MAX / 4
    ) {
        let entry = Entry {
            file: Path::new(&path).into(),
            last_good: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
            objects,
            text,
        };
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn an_entry_with_any_byte_changed_is_refused(at: prop::sample::Index, by in 1..=255u8) {
        let mut bytes = entry("/m/a.yaml", "kind: Pod\n").encode();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(Entry::decode(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
        let _ = Entry::decode(&bytes);
        let _ = Entry::decode(&[b"fqdnd-last-good 1\n".to_vec(), bytes].concat());
    }
}

fn open(state: &Path) -> (LastGood, Vec<Entry>) {
    let mut entries = Vec::new();
    let kept = LastGood::open(state, LIMIT, |entry| entries.push(entry));
    (kept, entries)
}

/// Writes all that waits, whenever that is; whether the problems are others than before.
fn write(kept: &mut LastGood) -> bool {
    let now = kept.due(Instant::now()).unwrap();
    let batch = kept.begin(now).unwrap().write();
    kept.end(batch, now)
}

fn entry(file: &str, text: &str) -> Entry {
    let last_good = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    Entry {
        file: Path::new(file).into(),
        last_good: Some(last_good),
        objects: 3,
        text: text.into(),
    }
}
