//! Compiled policies on disk are used when this host wrote them, and never otherwise.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use restante_policy::{CacheCounts, CacheError, CompiledCache, Loader, decide};

use crate::support::{ENGINE, HOSTILE, abilities, arrival_for};

struct Places {
    root: tempfile::TempDir,
}

impl Places {
    fn new() -> Places {
        Places { root: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("compiled")
    }

    fn key(&self) -> PathBuf {
        self.root.path().join("compiled.key")
    }

    fn open(&self) -> Result<CompiledCache, CacheError> {
        CompiledCache::open(&self.directory(), &self.key())
    }

    /// Starts afresh and loads a policy; says what the cache did.
    fn load(&self) -> CacheCounts {
        let loader = Loader::new(ENGINE.clone(), Some(self.open().unwrap())).unwrap();
        loader.load(HOSTILE, "{}", &abilities()).unwrap();
        loader.cache().unwrap().counts()
    }

    fn entry(&self) -> PathBuf {
        let mut entries: Vec<_> = fs::read_dir(self.directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }
}

const HIT: CacheCounts = CacheCounts { hits: 1, misses: 0, rejected: 0, unwritten: 0 };
const MISS: CacheCounts = CacheCounts { hits: 0, misses: 1, rejected: 0, unwritten: 0 };
const REJECTED: CacheCounts = CacheCounts { hits: 0, misses: 0, rejected: 1, unwritten: 0 };

#[test]
fn a_second_start_finds_what_the_first_compiled() {
    let places = Places::new();
    assert_eq!(places.load(), MISS);
    assert_eq!(places.load(), HIT);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&places.directory()), mode(&places.key()), mode(&places.entry())], [0o700, 0o600, 0o600]);
}

#[test]
fn a_forged_entry_is_ignored_and_replaced() {
    type Forgery = fn(&Path);
    let forgeries: [(&str, Forgery); 9] = [
        ("made by hand", |entry| fs::write(entry, b"\x7fELF made by hand, long enough for a MAC").unwrap()),
        ("empty", |entry| fs::write(entry, b"").unwrap()),
        ("a bit of the code flipped", |entry| flip(entry, 1_000)),
        ("a bit of the header flipped", |entry| flip(entry, 3)),
        ("a bit of the MAC flipped", |entry| {
            flip(entry, usize::try_from(fs::metadata(entry).unwrap().len()).unwrap() - 3)
        }),
        ("something behind it", |entry| {
            let bytes = fs::read(entry).unwrap();
            fs::write(entry, [bytes.as_slice(), b"more"].concat()).unwrap();
        }),
        ("cut", |entry| {
            let bytes = fs::read(entry).unwrap();
            fs::write(entry, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("a link to the real entry", |entry| {
            let elsewhere = entry.parent().unwrap().parent().unwrap().join("moved");
            fs::rename(entry, &elsewhere).unwrap();
            symlink(&elsewhere, entry).unwrap();
        }),
        ("open to others", |entry| fs::set_permissions(entry, Permissions::from_mode(0o644)).unwrap()),
    ];
    for (name, forge) in forgeries {
        let places = Places::new();
        assert_eq!(places.load(), MISS);
        forge(&places.entry());
        assert_eq!(places.load(), REJECTED, "{name}");
        assert_eq!(places.load(), HIT, "{name}: the next start finds a good one");
        assert!(!places.entry().is_symlink());
    }
}

fn flip(entry: &Path, position: usize) {
    let mut bytes = fs::read(entry).unwrap();
    bytes[position] ^= 1;
    fs::write(entry, bytes).unwrap();
}

#[test]
fn an_entry_of_another_key_or_under_another_name_is_ignored() {
    let places = Places::new();
    places.load();
    fs::remove_file(places.key()).unwrap();
    assert_eq!(places.load(), REJECTED, "another key");

    let other = Places::new();
    let loader = Loader::new(ENGINE.clone(), Some(other.open().unwrap())).unwrap();
    loader.load(restante_policy::standard::COMPONENT, "{}", &abilities()).unwrap();
    let standard = other.entry();
    let hostile_name = places.entry().file_name().unwrap().to_owned();
    fs::rename(&standard, standard.with_file_name(hostile_name)).unwrap();
    assert_eq!(other.load(), REJECTED, "a real entry that says it is another policy");
}

#[test]
fn places_that_others_can_reach_are_refused() {
    let refused = |prepare: &dyn Fn(&Places)| {
        let places = Places::new();
        prepare(&places);
        match places.open() {
            Ok(_) => panic!("it was taken"),
            Err(CacheError::Unsafe { path, problem }) => format!("{}: {problem}", path.file_name().unwrap().display()),
            Err(error) => panic!("{error}"),
        }
    };
    let open_directory = refused(&|places| {
        fs::create_dir(places.directory()).unwrap();
        fs::set_permissions(places.directory(), Permissions::from_mode(0o755)).unwrap();
    });
    assert!(open_directory.starts_with("compiled: is open to others"), "{open_directory}");
    let linked_directory = refused(&|places| {
        let elsewhere = places.root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(elsewhere, places.directory()).unwrap();
    });
    assert!(linked_directory.starts_with("compiled: is a link"), "{linked_directory}");
    let open_key = refused(&|places| {
        fs::write(places.key(), [0; 64]).unwrap();
        fs::set_permissions(places.key(), Permissions::from_mode(0o640)).unwrap();
    });
    assert!(open_key.starts_with("compiled.key: can be read by others"), "{open_key}");
    let linked_key = refused(&|places| {
        let elsewhere = places.root.path().join("elsewhere");
        fs::write(&elsewhere, [0; 64]).unwrap();
        symlink(elsewhere, places.key()).unwrap();
    });
    assert!(linked_key.starts_with("compiled.key: is a link"), "{linked_key}");
    let short_key = refused(&|places| {
        fs::write(places.key(), [0; 63]).unwrap();
        fs::set_permissions(places.key(), Permissions::from_mode(0o600)).unwrap();
    });
    assert!(short_key.starts_with("compiled.key: is not a key"), "{short_key}");
}

#[test]
fn the_key_may_not_lie_in_the_cache() {
    let places = Places::new();
    let inside = CompiledCache::open(&places.directory(), &places.directory().join("key"));
    assert!(matches!(inside, Err(CacheError::Unsafe { .. })));
}

#[test]
fn the_oldest_entries_make_room() {
    let places = Places::new();
    places.open().unwrap();
    for number in 0..4_100 {
        fs::write(places.directory().join(format!("old-{number}")), b"x").unwrap();
    }
    assert_eq!(places.load(), MISS);
    assert_eq!(fs::read_dir(places.directory()).unwrap().count(), 4_096);
    assert_eq!(places.load(), HIT, "the newest stayed");
}

#[test]
fn a_policy_that_was_mapped_goes_on_when_its_entry_is_replaced_or_removed() {
    let places = Places::new();
    places.load();
    let loader = Loader::new(ENGINE.clone(), Some(places.open().unwrap())).unwrap();
    let mapped = loader.load(HOSTILE, r#"{"behaviour": "good"}"#, &abilities()).unwrap().generation;
    assert_eq!(loader.cache().unwrap().counts(), HIT);
    let entry = places.entry();
    let replaced = entry.with_extension("new");
    fs::write(&replaced, b"something else").unwrap();
    fs::rename(&replaced, &entry).unwrap();
    assert!(decide(&mapped, arrival_for("example")).is_ok(), "replaced");
    fs::remove_file(&entry).unwrap();
    assert!(decide(&mapped, arrival_for("example")).is_ok(), "removed");
}
