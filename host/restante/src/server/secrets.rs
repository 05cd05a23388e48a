//! Key files.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Random keys that outlive the process, in the data directory and readable by its owner only.
pub(super) struct Secrets {
    pub(super) own_mark: [u8; 32],
}

impl Secrets {
    pub(super) fn open(directory: &Path) -> Result<Secrets> {
        Ok(Secrets { own_mark: secret(&directory.join("own-mark.key"))? })
    }
}

/// What pseudonyms in records are made with.
pub(super) fn pseudonym_secret(directory: &Path) -> Result<[u8; 64]> {
    secret(&directory.join("pseudonyms.key"))
}

/// A key file, made when it is missing.
fn secret<const BYTES: usize>(path: &Path) -> Result<[u8; BYTES]> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut key = [0; BYTES];
    match std::fs::read(path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => bail!("{}: expected {BYTES} bytes", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, &key)?;
    file.sync_all()?;
    Ok(key)
}
