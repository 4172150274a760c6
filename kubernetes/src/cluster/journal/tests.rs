//! What is written is what the next start reads, whatever came in between.

use super::*;

fn name(name: &str) -> Name {
    Name { namespace: Some("n".into()), name: name.into() }
}

fn put(own: &str, text: &str) -> Changes {
    [((Kind::LocalPods, name(own)), Some(text.into()))].into()
}

fn names(all: &[&str]) -> Names {
    [(Kind::LocalPods, all.iter().map(|own| name(own)).collect())].into()
}

/// What stands in the file; none if it counts for nothing.
fn standing(place: &Place) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let whole = place.read(|_, kept| match kept {
        Kept::Put(text) => drop(all.insert(text[..1].to_owned(), text.to_owned())),
        Kept::Gone(name) => drop(all.remove(&name.name)),
    });
    whole.ok()?.then_some(all)
}

fn texts(place: &Place) -> Vec<String> {
    standing(place).expect("it counts").into_values().collect()
}

fn place() -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path(), "here");
    (directory, place)
}

#[test]
fn what_stands_is_read_back_once_every_list_was_in_it() {
    let (_directory, place) = place();
    assert_eq!(standing(&place), None);
    let mut journal = Journal::claim(&place, &names(&[])).unwrap();
    journal.append(&put("a", "a1"), false).unwrap();
    assert_eq!(standing(&place), None, "lists are missing");
    journal.append(&put("b", "b1"), true).unwrap();
    journal.append(&put("a", "a2"), true).unwrap();
    assert_eq!(texts(&place), ["a2", "b1"]);
    journal.append(&[((Kind::LocalPods, name("b")), None)].into(), true).unwrap();
    assert_eq!(texts(&place), ["a2"]);
}

#[test]
fn what_is_written_already_is_not_written_again_and_what_was_overtaken_goes() {
    let (_directory, place) = place();
    let mut journal = Journal::claim(&place, &names(&[])).unwrap();
    journal.append(&put("a", "a"), true).unwrap();
    let len = journal.len;
    journal.append(&put("a", "a"), true).unwrap();
    journal.append(&[((Kind::LocalPods, name("x")), None)].into(), true).unwrap();
    assert_eq!(journal.len, len);
    let long = "x".repeat(1 << 20);
    for round in 0..40 {
        journal.append(&put("b", &format!("b{round}{long}")), true).unwrap();
    }
    assert!(journal.len < 2 * journal.standing_len + SLACK + (2 << 20), "{}", journal.len);
    journal.append(&put("c", "c"), true).unwrap();
    let now = texts(&place);
    assert_eq!((now.len(), &now[0][..], &now[1][..3], &now[2][..]), (3, "a", "b39", "c"));
}

#[test]
fn a_line_that_was_cut_off_was_never_written_and_any_other_damage_costs_all() {
    let (_directory, place) = place();
    let mut journal = Journal::claim(&place, &names(&[])).unwrap();
    journal.append(&put("a", "a1"), true).unwrap();
    journal.append(&put("b", "b1"), true).unwrap();
    drop(journal);
    let bytes = fs::read(place.file()).unwrap();
    let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for len in header..bytes.len() {
        fs::write(place.file(), &bytes[..len]).unwrap();
        // The file before some line, and never anything else.
        let now = standing(&place);
        let before = now.is_none() || now.as_ref().is_some_and(|now| now.contains_key("a"));
        assert!(before, "{len}: {now:?}");
        // Another daemon goes on from there.
        let mut journal = Journal::claim(&place, &names(&["a", "b"])).unwrap();
        journal.append(&put("c", "c1"), true).unwrap();
        assert!(texts(&place).contains(&"c1".to_owned()), "{len}");
    }
    for at in header..bytes.len() - 1 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(place.file(), &damaged).unwrap();
        assert_eq!(standing(&place), None, "byte {at}");
    }
    // It is begun anew, with nothing of what there was.
    let mut journal = Journal::claim(&place, &names(&["a"])).unwrap();
    journal.append(&put("c", "c1"), true).unwrap();
    assert_eq!(texts(&place), ["c1"]);
}

#[test]
fn one_writes_at_a_time_and_the_next_finds_what_has_gone_meanwhile() {
    let (directory, place) = place();
    let mut first = Journal::claim(&place, &names(&[])).unwrap();
    assert!(matches!(Journal::claim(&place, &names(&[])), Err(JournalError::Taken)));
    first.append(&put("a", "a1"), true).unwrap();
    first.append(&put("b", "b1"), true).unwrap();
    drop(first);
    Journal::claim(&place, &names(&["a"])).unwrap();
    assert_eq!(texts(&place), ["a1"]);
    let other = Place::new(directory.path(), "there");
    assert_eq!(standing(&other), None, "it is another node's");
    Journal::claim(&other, &names(&[])).unwrap();
    assert_eq!(standing(&place), None);
}

#[test]
fn what_cannot_be_written_is_as_if_it_had_not_been_begun() {
    let (_directory, place) = place();
    let mut journal = Journal::claim(&place, &names(&[])).unwrap();
    journal.append(&put("a", "a1"), true).unwrap();
    // A part of a line, as a full disk leaves it.
    OpenOptions::new().append(true).open(place.file()).unwrap().write_all(b"0123 +").unwrap();
    journal.append(&put("b", "b1"), true).unwrap();
    assert_eq!(texts(&place), ["a1", "b1"]);
}
