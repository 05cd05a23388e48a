//! A disk that is full, and one that loses what it was given: played by `data/faults.c`, which the C compiler that the
//! build needs anyway turns into a library that is loaded before the C library.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use common::*;
use restante_deferral::commit::{Applied, Change, CommitError};
use restante_deferral::model::*;
use restante_store::sqlite::SqliteStore;
use restante_store::{Record, SavedRegistration};

/// Where the child works; the parent has none.
const DIRECTORY: &str = "RESTANTE_STORE_FAULTS_DIRECTORY";

struct Faults {
    directory: tempfile::TempDir,
}

impl Faults {
    /// In the parent: runs the test of this name in a child, with the library.
    fn run(name: &str) -> Output {
        let faults = Faults { directory: tempfile::tempdir().unwrap() };
        let library = faults.path("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faults.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output();
        let compiled = compiled.expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(DIRECTORY, faults.directory.path())
            .env("FAULTS", faults.directory.path())
            .env("LD_PRELOAD", library)
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// In the child: where it works.
fn child() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

fn insert(number: u64) -> Vec<Change> {
    let body = Body::Inline(Bytes::from(vec![b'x'; 30_000]));
    vec![Change::Insert(Box::new(NewMessage { body, ..message(number, "bob") }))]
}

#[test]
fn a_full_disk_refuses_and_recovers_in_place() {
    let Some(directory) = child() else {
        let output = Faults::run("a_full_disk_refuses_and_recovers_in_place");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("recovered"));
        return;
    };
    let mut it = sqlite(&directory.join("store"));
    let first = it.write(insert(1)).unwrap();
    std::fs::write(directory.join("full"), "").unwrap();
    // What fits into the files as they are may still succeed.
    let refused = (2..200).find_map(|number| Some((number, it.write(insert(number)).err()?)));
    let Some((number, CommitError::Full)) = refused else { panic!("{refused:?}") };
    assert_eq!(it.write(insert(number)), Err(CommitError::Full), "again");
    let stored = it.store.totals(&user("bob")).0.messages;
    assert_eq!(u64::from(stored), number - 1, "nothing of it was stored");
    std::fs::remove_file(directory.join("full")).unwrap();
    assert!(matches!(it.write(insert(number)).unwrap()[..], [Applied::Inserted(_)]));
    drop(it);
    let mut it = sqlite(&directory.join("store"));
    assert_eq!(it.store.totals(&user("bob")).0.messages, stored + 1);
    let [Applied::Inserted(first)] = first[..] else { panic!("{first:?}") };
    assert_eq!(it.write(insert(1)), Ok(vec![Applied::Duplicate(Some(first))]));
    println!("recovered");
}

#[test]
fn what_empties_a_full_disk_and_keeps_users_reachable_has_the_last_room() {
    let Some(directory) = child() else {
        let output = Faults::run("what_empties_a_full_disk_and_keeps_users_reachable_has_the_last_room");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("emptied"));
        return;
    };
    let mut it = sqlite(&directory.join("store"));
    let stored: Vec<MessageId> = (1..20)
        .map(|number| match it.write(insert(number)).unwrap()[..] {
            [Applied::Inserted(id)] => id,
            ref other => panic!("{other:?}"),
        })
        .collect();
    // There is no room as long as the reserve takes it.
    std::os::unix::fs::symlink(directory.join("store/reserve"), directory.join("full")).unwrap();
    let refused = (20..400).find_map(|number| it.write(insert(number)).err());
    assert_eq!(refused, Some(CommitError::Full));
    assert!(it.store.is_full() && !directory.join("store/reserve").exists());
    assert_eq!(it.write(insert(500)), Err(CommitError::Full), "what is lent is not for messages");
    let registration = SavedRegistration { bytes: vec![b'x'; 10_000], expires_at: Timestamp(u64::MAX / 2) };
    it.save("bob", Record::Registration(Some(registration)));
    for id in stored {
        it.settle(vec![Change::Remove { recipient: user("bob"), id }]).unwrap();
    }
    println!("emptied");
}

/// The child says this when something was acknowledged that must not be.
const ACKNOWLEDGED: &str = "acknowledged although it is not durable";

fn ends_with_an_error(name: &str) {
    let output = Faults::run(name);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(74), "{out}{err}");
    assert!(out.contains("before") && !out.contains(ACKNOWLEDGED), "{out}");
    assert!(err.contains("could not be made durable"), "{err}");
}

#[test]
fn a_failed_fsync_of_the_database_ends_the_process() {
    let Some(directory) = child() else {
        return ends_with_an_error("a_failed_fsync_of_the_database_ends_the_process");
    };
    let mut it = sqlite(&directory.join("store"));
    it.write(insert(1)).unwrap();
    println!("before");
    std::fs::write(directory.join("fsync"), "").unwrap();
    let result = it.write(insert(2));
    println!("{ACKNOWLEDGED} {result:?}");
}

#[test]
fn a_failed_fsync_of_a_body_ends_the_process() {
    let Some(directory) = child() else {
        return ends_with_an_error("a_failed_fsync_of_a_body_ends_the_process");
    };
    let store = SqliteStore::open(options(&directory.join("store")), sink().0).unwrap();
    let mut writer = store.spool().create().unwrap();
    writer.append(b"text").unwrap();
    println!("before");
    std::fs::write(directory.join("fsync"), "").unwrap();
    let result = writer.finish();
    println!("{ACKNOWLEDGED} {result:?}");
}
