//! Compiled policies of the first story of this process, so that not each story compiles them anew.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files by their path in a data directory.
static COMPILED: Mutex<Vec<(PathBuf, Vec<u8>)>> = Mutex::new(Vec::new());
const CACHE: &str = "policy-cache";
const CACHE_KEY: &str = "policy-cache.key";

/// Puts them into a new data directory.
pub(crate) fn lend(data: &Path) {
    let compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.is_empty() {
        return;
    }
    for directory in [data.to_owned(), data.join(CACHE)] {
        DirBuilder::new().mode(0o700).create(directory).expect("a directory");
    }
    for (path, bytes) in compiled.iter() {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(path)).expect("a new file");
        file.write_all(bytes).expect("a file");
    }
}

/// Takes them out of the data directory of a server that runs, unless there are some already.
pub(crate) fn borrow(data: &Path) {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.is_empty() {
        return;
    }
    let entries = std::fs::read_dir(data.join(CACHE)).expect("compiled policies");
    let names = entries.map(|entry| Path::new(CACHE).join(entry.expect("a compiled policy").file_name()));
    let read = |path: PathBuf| (path.clone(), std::fs::read(data.join(&path)).expect("a compiled policy"));
    compiled.extend(names.chain([PathBuf::from(CACHE_KEY)]).map(read));
}
