//! Key files.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hmac::{Hmac, KeyInit, Mac};
use restante_deferral::participating_function::ReportKey;
use sha2::Sha256;

/// Random keys that outlive the process, in the data directory and readable by its owner only.
pub(super) struct Secrets {
    pub(super) own_mark: [u8; 32],
}

impl Secrets {
    pub(super) fn open(directory: &Path) -> Result<Secrets> {
        Ok(Secrets { own_mark: secret(&directory.join("own-mark.key"))? })
    }

    /// What Message-IDs of reports are made with: another key than that of our marks, though it follows from it.
    pub(super) fn report_key(&self) -> ReportKey {
        let mut key = [0; 32];
        if let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.own_mark) {
            key = mac.chain_update(b"Message-IDs of reports").finalize().into_bytes().into();
        }
        ReportKey::new(key)
    }
}

/// What pseudonyms in records are made with.
pub(super) fn pseudonym_secret(directory: &Path) -> Result<[u8; 64]> {
    secret(&directory.join("pseudonyms.key"))
}

/// A key file, made when it is missing.
fn secret<const BYTES: usize>(path: &Path) -> Result<[u8; BYTES]> {
    match std::fs::read(path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => bail!("{}: expected {BYTES} bytes", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut key = [0; BYTES];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    write(path, &key).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

/// Writes a file that is there whole or not at all, also after a crash: without it no key could be told from a lost one.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    io::Write::write_all(&mut file, key)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_whatever_an_earlier_start_left_half_done() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own-mark.key");
        // A start that ended before it had written all of it.
        std::fs::write(directory.path().join("own-mark.new"), b"half").unwrap();
        let made = Secrets::open(directory.path()).unwrap().own_mark;
        assert_eq!(std::fs::read(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["own-mark.key"], "nothing is left beside it");
        assert_eq!(Secrets::open(directory.path()).unwrap().own_mark, made);
        std::fs::write(&path, b"").unwrap();
        assert!(Secrets::open(directory.path()).is_err(), "what was cut short elsewhere is said, and not replaced");
    }

    #[test]
    fn a_key_that_cannot_be_written_whole_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own-mark.key");
        std::fs::create_dir(directory.path().join("own-mark.new")).unwrap();
        assert!(Secrets::open(directory.path()).is_err() && !path.exists());
        std::fs::remove_dir(directory.path().join("own-mark.new")).unwrap();
        assert!(Secrets::open(directory.path()).is_ok());
    }
}
