//! A disk that is full, and one that loses what it was given: played by `data/faults.c`, which the C compiler that the
//! build needs anyway turns into a library that is loaded before the C library.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

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

const MEBIBYTE: u64 = 1 << 20;

/// In the child: a store on a disk of this size, see `data/faults.c`.
struct Disk {
    directory: PathBuf,
}

impl Disk {
    fn of(directory: PathBuf, bytes: u64) -> Disk {
        let disk = Disk { directory };
        disk.resize(bytes);
        disk
    }

    fn resize(&self, bytes: u64) {
        std::fs::write(self.directory.join("room"), bytes.to_string()).unwrap();
    }

    fn store(&self) -> Fixture {
        let mut options = options(&self.path(""));
        let room = self.directory.join("room");
        options.free_bytes = Arc::new(move |store: &Path| {
            let bytes: u64 = std::fs::read_to_string(&room).unwrap().parse().unwrap();
            Some(bytes.saturating_sub(taken(store)))
        });
        sqlite_with(options)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join("store").join(name)
    }

    fn taken(&self) -> u64 {
        taken(&self.path(""))
    }
}

/// As `data/faults.c` counts.
fn taken(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().filter_map(|entry| entry.unwrap().metadata().ok());
    files.filter(|file| file.is_file()).map(|file| file.len()).sum()
}

/// So many messages, each of so many bytes, from this number on.
fn insert_several(from: u64, count: u64, bytes: usize) -> Vec<Change> {
    let large = |number| NewMessage { body: Body::Inline(Bytes::from(vec![b'x'; bytes])), ..message(number, "bob") };
    (from..from + count).map(|number| Change::Insert(Box::new(large(number)))).collect()
}

fn insert(number: u64) -> Vec<Change> {
    insert_several(number, 1, 30_000)
}

/// Stores messages until there is no room; those that were stored.
fn fill(it: &mut Fixture, first: u64, at_once: u64, bytes: usize) -> Vec<MessageId> {
    let mut stored = Vec::new();
    for number in (first..first + 100_000).step_by(usize::try_from(at_once).unwrap()) {
        match it.write(insert_several(number, at_once, bytes)) {
            Ok(applied) => stored.extend(applied.iter().map(|applied| match applied {
                Applied::Inserted(id) => *id,
                other => panic!("{other:?}"),
            })),
            Err(error) => {
                assert_eq!(error, CommitError::Full);
                return stored;
            }
        }
    }
    panic!("it is never full");
}

fn remove(ids: &[MessageId]) -> Vec<Change> {
    ids.iter().map(|id| Change::Remove { recipient: user("bob"), id: *id }).collect()
}

/// In the parent: the child with this test's name comes to its end.
fn comes_to_its_end(name: &str) {
    let output = Faults::run(name);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("came to its end"), "{out}{err}");
}

#[test]
fn a_full_disk_refuses_and_recovers_in_place() {
    let Some(directory) = child() else { return comes_to_its_end("a_full_disk_refuses_and_recovers_in_place") };
    let disk = Disk::of(directory, 64 * MEBIBYTE);
    let mut it = disk.store();
    let first = it.write(insert(1)).unwrap();
    // Somebody else fills it.
    disk.resize(disk.taken());
    // What fits into the files as they are may still succeed.
    let refused = (2..200).find_map(|number| Some((number, it.write(insert(number)).err()?)));
    let Some((number, CommitError::Full)) = refused else { panic!("{refused:?}") };
    assert_eq!(it.write(insert(number)), Err(CommitError::Full), "again");
    let stored = it.store.totals(&user("bob")).0.messages;
    assert_eq!(u64::from(stored), number - 1, "nothing of it was stored");
    disk.resize(64 * MEBIBYTE);
    assert!(matches!(it.write(insert(number)).unwrap()[..], [Applied::Inserted(_)]));
    assert!(!it.store.is_full());
    drop(it);
    let mut it = disk.store();
    assert_eq!(it.store.totals(&user("bob")).0.messages, stored + 1);
    let [Applied::Inserted(first)] = first[..] else { panic!("{first:?}") };
    assert_eq!(it.write(insert(1)), Ok(vec![Applied::Duplicate(Some(first))]));
    println!("came to its end");
}

/// What was stored waits in the WAL for the most part: it has to come to where the database is not yet so long.
#[test]
fn what_empties_a_full_disk_and_keeps_users_reachable_has_the_last_room() {
    let Some(directory) = child() else {
        return comes_to_its_end("what_empties_a_full_disk_and_keeps_users_reachable_has_the_last_room");
    };
    let disk = Disk::of(directory, 64 * MEBIBYTE);
    let mut it = disk.store();
    let stored = fill(&mut it, 1, 1, 30_000);
    assert!(stored.len() > 800, "{} messages in 64 MiB", stored.len());
    assert!(it.store.is_full() && !disk.path("reserve").exists());
    assert_eq!(it.write(insert(200_000)), Err(CommitError::Full), "what is lent is not for messages");
    for (number, id) in stored.iter().enumerate() {
        if number.is_multiple_of(10) {
            let registration = SavedRegistration { bytes: vec![b'x'; 10_000], expires_at: Timestamp(u64::MAX / 2) };
            it.save(&format!("user{number}"), Record::Registration(Some(registration)));
        }
        it.settle(remove(&[*id])).unwrap();
        assert!(disk.taken() <= 64 * MEBIBYTE);
    }
    println!("came to its end");
}

#[test]
fn a_disk_that_the_database_filled_takes_messages_again_when_they_are_gone() {
    let Some(directory) = child() else {
        return comes_to_its_end("a_disk_that_the_database_filled_takes_messages_again_when_they_are_gone");
    };
    let disk = Disk::of(directory, 112 * MEBIBYTE);
    let mut it = disk.store();
    let mut stored = fill(&mut it, 1, 20, 60_000);
    let count = stored.len();
    assert!(count > 1_200, "{count} messages in 112 MiB");
    for round in 1..=2 {
        assert!(it.store.is_full(), "{round}");
        stored.chunks(20).for_each(|ids| _ = it.settle(remove(ids)).unwrap());
        // The disk is as full as it was: nothing gives the database's pages back to it.
        assert!(112 * MEBIBYTE - disk.taken() < 48 * MEBIBYTE);
        it.settle(vec![]).unwrap();
        assert!(!it.store.is_full(), "{round}");
        if round == 2 {
            drop(it);
            it = disk.store();
        }
        stored = fill(&mut it, round * 1_000_000, 20, 60_000);
        assert!(stored.len() > count * 2 / 3, "{} after {count}", stored.len());
    }
    println!("came to its end");
}

#[test]
fn a_store_opens_on_a_full_disk_with_the_room_it_kept() {
    let Some(directory) = child() else {
        return comes_to_its_end("a_store_opens_on_a_full_disk_with_the_room_it_kept");
    };
    let disk = Disk::of(directory, 64 * MEBIBYTE);
    let mut it = disk.store();
    let stored: Vec<MessageId> = (1..20).map(|number| it.insert(message(number, "bob"))).collect();
    drop(it);
    // Somebody else filled it meanwhile, but for what the store keeps.
    assert!(disk.path("reserve").exists());
    disk.resize(disk.taken());
    let mut it = disk.store();
    assert!(it.store.is_full());
    assert_eq!(it.write(insert(100)), Err(CommitError::Full));
    stored.iter().for_each(|id| _ = it.settle(remove(&[*id])).unwrap());
    drop(it);
    // Without even that, it says what to do.
    std::fs::remove_file(disk.path("reserve")).unwrap_or_default();
    disk.resize(disk.taken());
    let error = SqliteStore::open(options(&disk.path("")), sink().0).err().unwrap().to_string();
    assert!(error.contains("messages.sqlite") && error.contains("make some"), "{error}");
    disk.resize(64 * MEBIBYTE);
    disk.store().insert(message(200, "bob"));
    println!("came to its end");
}

/// SQLite calls it an error of the disk.
#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let Some(directory) = child() else { return comes_to_its_end("a_quota_that_is_used_up_is_a_full_disk") };
    std::fs::write(directory.join("quota"), "").unwrap();
    let disk = Disk::of(directory, 64 * MEBIBYTE);
    let mut it = disk.store();
    it.write(insert(1)).unwrap();
    disk.resize(disk.taken());
    let stored = fill(&mut it, 2, 1, 30_000);
    assert!(it.store.is_full());
    stored.iter().for_each(|id| _ = it.settle(remove(&[*id])).unwrap());
    disk.resize(64 * MEBIBYTE);
    it.write(insert(500)).unwrap();
    println!("came to its end");
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

#[test]
fn a_failed_fsync_of_a_bodys_name_ends_the_process() {
    let Some(directory) = child() else {
        return ends_with_an_error("a_failed_fsync_of_a_bodys_name_ends_the_process");
    };
    let store = SqliteStore::open(options(&directory.join("store")), sink().0).unwrap();
    let mut writer = store.spool().create().unwrap();
    writer.append(b"text").unwrap();
    println!("before");
    std::fs::write(directory.join("fsync-directory"), "").unwrap();
    let result = writer.finish();
    println!("{ACKNOWLEDGED} {result:?}");
}
