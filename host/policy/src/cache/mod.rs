//! Compiled policies on disk, so that a start does not compile them again.
//!
//! Compiled code is machine code: whoever can place a file that is taken for it runs what it likes in this process. So
//! the cache is a directory of the host's own (mode 0700), an entry ends with an HMAC-SHA-256 over its name and
//! content, and the key is in a file elsewhere (mode 0600). Both are opened without following links and must belong to
//! the user that the host runs as. An entry that does not verify is ignored, counted and replaced. There is no way to
//! bring compiled code in from outside.
//!
//! An entry is mapped and not copied: a thousand policies that seldom decide cost a thousand mappings, and the kernel
//! reads the pages that are executed. What is mapped is what was verified, because both are done with one open file that
//! nobody writes to: this host makes a new file for every entry and renames it into its place, and others cannot open
//! it. Whoever runs as this user could write to it, and could as well read the key, or the memory of this process.

mod directory;
mod key;

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::generation::Digest;
use directory::Directory;
use key::Key;

/// Length of the HMAC that an entry ends with.
const MAC_BYTES: usize = 32;
/// Read at once while an entry is verified.
const BLOCK_BYTES: usize = 128 << 10;

/// The cache cannot be used safely.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The operating system refused something.
    #[error("{path}: {error}")]
    Io {
        /// On what.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// Somebody else could write there, or it is not what it should be.
    #[error("{path}: {problem}")]
    Unsafe {
        /// What.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: &'static str,
    },
}

/// What a cache did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Entries that were used.
    pub hits: u64,
    /// Policies that had none.
    pub misses: u64,
    /// Entries that were not what this host wrote, or not readable.
    pub rejected: u64,
    /// Entries that could not be written. The policy is used all the same.
    pub unwritten: u64,
}

/// Compiled policies on disk.
pub struct CompiledCache {
    directory: Directory,
    key: Key,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    unwritten: AtomicU64,
}

impl CompiledCache {
    /// Opens a cache; makes directory and key where they are missing.
    ///
    /// # Errors
    /// When either is a link, belongs to somebody else or can be read or written by others, or when the key lies in the
    /// directory.
    pub fn open(directory: &Path, key_file: &Path) -> Result<CompiledCache, CacheError> {
        let directory = Directory::open(directory)?;
        directory.must_not_contain(key_file)?;
        Ok(CompiledCache::with(directory, Key::open(key_file)?))
    }

    /// Opens a cache that is another process's: what it has is used, and nothing is changed in it.
    ///
    /// # Errors
    /// As [`Self::open`], and when either is missing.
    pub fn reading(directory: &Path, key_file: &Path) -> Result<CompiledCache, CacheError> {
        let directory = Directory::reading(directory)?;
        directory.must_not_contain(key_file)?;
        Ok(CompiledCache::with(directory, Key::known(key_file)?))
    }

    fn with(directory: Directory, key: Key) -> CompiledCache {
        let (hits, misses, rejected, unwritten) = Default::default();
        CompiledCache { directory, key, hits, misses, rejected, unwritten }
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            unwritten: self.unwritten.load(Ordering::Relaxed),
        }
    }

    /// The compiled form of the component with this digest, if this host left it here for this very engine.
    pub(crate) fn component(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let name = entry_name(engine, digest);
        match self.directory.open_file(&name) {
            Ok(Some((file, length))) => {
                let component = match self.is_verified(&name, &file, length) {
                    Ok(true) => deserialize(engine, &file),
                    Ok(false) => None,
                    Err(error) => {
                        tracing::warn!(entry = name, %error, "an entry of the cache of compiled policies cannot be read");
                        None
                    }
                };
                let counter = if component.is_some() { &self.hits } else { &self.rejected };
                counter.fetch_add(1, Ordering::Relaxed);
                component
            }
            Ok(None) => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => {
                tracing::warn!(entry = name, %error, "an entry of the cache of compiled policies is ignored");
                self.rejected.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Leaves a component's compiled form for the next start.
    pub(crate) fn keep(&self, engine: &Engine, digest: &Digest, component: &Component) {
        match component.serialize() {
            Ok(code) => self.keep_code(engine, digest, &code),
            Err(error) => self.could_not_keep(digest, &format!("{error:#}")),
        }
    }

    /// The same of what another process of this program compiled.
    pub(crate) fn keep_code(&self, engine: &Engine, digest: &Digest, code: &[u8]) {
        let name = entry_name(engine, digest);
        if let Err(error) = self.directory.write(&name, &[code, &self.mac(&name, code)]) {
            self.could_not_keep(digest, &error.to_string());
        }
    }

    fn could_not_keep(&self, digest: &Digest, error: &str) {
        tracing::warn!(%digest, error, "a compiled policy could not be kept");
        self.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this host wrote this file under this name.
    fn is_verified(&self, name: &str, file: &File, length: u64) -> std::io::Result<bool> {
        let Some(code_bytes) = length.checked_sub(MAC_BYTES as u64) else { return Ok(false) };
        let mut hasher = self.hasher(name);
        let mut block = vec![0; BLOCK_BYTES];
        let mut position = 0;
        while position < code_bytes {
            let left = usize::try_from(code_bytes - position).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let Some(part) = block.get_mut(..left) else { return Ok(false) };
            file.read_exact_at(part, position)?;
            hasher.update(part);
            position = position.saturating_add(left as u64);
        }
        let mut mac = [0; MAC_BYTES];
        file.read_exact_at(&mut mac, code_bytes)?;
        Ok(hasher.verify_slice(&mac).is_ok())
    }

    fn mac(&self, name: &str, code: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = self.hasher(name);
        hasher.update(code);
        hasher.finalize().into_bytes().into()
    }

    /// Over the name too: an entry is not to be taken for another one. Names have one length.
    fn hasher(&self, name: &str) -> Hmac<Sha256> {
        let mut hasher = <Hmac<Sha256> as KeyInit>::new(self.key.bytes().into());
        hasher.update(name.as_bytes());
        hasher
    }
}

/// By what was compiled and for which engine: its version, its settings and the processor.
fn entry_name(engine: &Engine, digest: &Digest) -> String {
    let mut engine_hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut engine_hasher);
    let engine_digest = Digest(engine_hasher.0.finalize().into());
    format!("{digest}-{engine_digest}")
}

/// A [`Hasher`] that says the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// Code that verified, mapped and ready to run. The MAC behind it is part of no section of the code.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, file: &File) -> Option<Component> {
    // The file that was verified, and not whatever has its name by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: these bytes must be what `Component::serialize` gave, and stay so. Their MAC was verified, through this very
    // file, with a key that only this user can read, so this host wrote them, and `keep` writes nothing else. The file is
    // never written to again: entries are made anew and renamed, and only this user could open it for writing.
    match unsafe { Component::deserialize_file(engine, &path) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "a compiled policy cannot be mapped");
            None
        }
    }
}
