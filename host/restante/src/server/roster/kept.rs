//! Tenants that were added at run time: a file each in the data directory, `tenants/NAME.toml`, written whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest name.
const MAX_NAME_BYTES: usize = 64;
/// Longest text of one tenant.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;
/// Marks a file that is being written.
const UNFINISHED: &str = "unfinished";

/// The directory.
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// Opens it; makes it where it is missing. What an earlier run did not finish is removed.
    pub(super) fn open(data: &Path) -> io::Result<Kept> {
        let directory = data.join("tenants");
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => File::open(data)?.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Kept { directory })
    }

    /// Whether a tenant can be kept under this name.
    pub(super) fn is_name(name: &str) -> bool {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits)
    }

    /// Where a tenant's text is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.toml"))
    }

    /// The names of all, in order.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let file = entry?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
            if let Some(name) = name.filter(|name| Kept::is_name(name)) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// One tenant's text.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        File::open(self.path(name))?.take(MAX_TEXT_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Keeps a tenant's text, in place of what was there. It is durable when this returns.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let unfinished = self.directory.join(format!("{name}.{UNFINISHED}"));
        let written =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).and_then(
                |mut file| {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()
                },
            );
        let renamed = written.and_then(|()| std::fs::rename(&unfinished, self.path(name)));
        if renamed.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        renamed?;
        File::open(&self.directory)?.sync_all()
    }

    /// Keeps a tenant no more.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_files_and_nothing_else() {
        for name in ["a", "school-7", "A_b", &"x".repeat(64)] {
            assert!(Kept::is_name(name), "{name}");
        }
        for name in ["", "..", ".x", "a/b", "a b", "ä", "a.toml", "a\0", &"x".repeat(65)] {
            assert!(!Kept::is_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_what_was_not_finished_is_not() {
        let data = tempfile::tempdir().unwrap();
        let kept = Kept::open(data.path()).unwrap();
        kept.write("b", "one").unwrap();
        kept.write("a", "two").unwrap();
        kept.write("b", "three").unwrap();
        std::fs::write(data.path().join("tenants/c.unfinished"), "half").unwrap();
        std::fs::write(data.path().join("tenants/not a name.toml"), "x").unwrap();
        let kept = Kept::open(data.path()).unwrap();
        assert_eq!(kept.names().unwrap(), ["a", "b"]);
        assert_eq!((kept.read("a").unwrap().as_str(), kept.read("b").unwrap().as_str()), ("two", "three"));
        assert!(!data.path().join("tenants/c.unfinished").exists());
        kept.remove("a").unwrap();
        kept.remove("a").unwrap();
        assert_eq!(Kept::open(data.path()).unwrap().names().unwrap(), ["b"]);
    }
}
