//! What is kept of tenants' policies, so that a restart finds what was active.
//!
//! ```text
//! policies/components/SHA-256.wasm     every component that some tenant's state names
//! policies/tenants/NAME.json           which generations a tenant has: the one place that says what is active
//! policies/tenants/NAME.json-unreadable  a state that a start could not read and set aside
//! policies/tenants/NAME.cases.jsonl    cases that a policy has to pass before it is activated
//! policies/records/NAME/               recorded decisions
//! ```
//!
//! A file is written beside its place, synced, renamed, and its directory synced. A component is there before a state
//! names it, and is removed after the last state that named it: so whatever is cut off leaves a state whose components
//! are all there.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Generations before the active one that are kept.
pub const MAX_PREVIOUS: usize = 5;
/// Components that nobody uses and that are kept all the same: uploaded, and perhaps about to be activated.
const MAX_UNUSED_COMPONENTS: usize = 32;
/// No state is longer.
const MAX_STATE_BYTES: u64 = 4 << 20;
/// What the name of a state ends in that was set aside.
const UNREADABLE: &str = "json-unreadable";
/// The layout of a state.
const FORMAT: u32 = 1;

/// A generation as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// Counts the tenant's generations, from 1.
    pub number: u64,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The settings.
    pub settings: serde_json::Value,
    /// The name and version that the policy gives itself.
    pub name: String,
    /// See `name`.
    pub version: String,
    /// The version of the contract that it speaks.
    pub contract: String,
    /// Where it came from.
    pub origin: Origin,
    /// A detached ed25519 signature of the component, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// When it became active, or the candidate, in milliseconds since 1970.
    pub since: u64,
}

/// Where a generation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The configuration names it.
    Configuration,
    /// It was uploaded.
    Upload,
}

/// A candidate as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeptCandidate {
    /// It.
    pub generation: Kept,
    /// How many of a thousand decisions it sees.
    pub sample_permille: u32,
}

/// How a tenant's decisions are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recording {
    /// How many of a thousand decisions are recorded.
    pub sample_permille: u32,
    /// What the records may take on disk; the oldest go.
    pub max_bytes: u64,
    /// Addresses are written as they are, and not as pseudonyms.
    pub plain_addresses: bool,
}

/// What is kept of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TenantState {
    /// The layout.
    format: u32,
    /// What the configuration named when it was last activated: the digest of the component, after `standard:` where it
    /// is the policy in the program; and the settings.
    pub configured: Option<(String, serde_json::Value)>,
    /// What decides.
    pub active: Kept,
    /// What decided before, the last one first.
    pub previous: Vec<Kept>,
    /// What looks on.
    pub candidate: Option<KeptCandidate>,
    /// How decisions are recorded.
    pub recording: Option<Recording>,
}

impl TenantState {
    /// That of a tenant whose first generation this is.
    #[must_use]
    pub fn new(active: Kept) -> TenantState {
        TenantState { format: FORMAT, configured: None, active, previous: Vec::new(), candidate: None, recording: None }
    }

    /// The number of the next generation.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.generations().map(|kept| kept.number).max().unwrap_or(0).saturating_add(1)
    }

    /// Makes this one active; what was goes to the front of the previous ones.
    pub fn activate(&mut self, kept: Kept) {
        let before = std::mem::replace(&mut self.active, kept);
        self.previous.retain(|it| it.number != self.active.number);
        self.previous.insert(0, before);
        self.previous.truncate(MAX_PREVIOUS);
    }

    /// There is no candidate any more, and nothing is recorded. Whether that is a change.
    pub fn dismiss_observers(&mut self) -> bool {
        let candidate = self.candidate.take();
        self.recording.take().is_some() || candidate.is_some()
    }

    /// The active one, those before it, and the candidate.
    pub fn generations(&self) -> impl Iterator<Item = &Kept> {
        let candidate = self.candidate.iter().map(|candidate| &candidate.generation);
        std::iter::once(&self.active).chain(&self.previous).chain(candidate)
    }
}

/// The directory.
#[derive(Debug)]
pub struct Library {
    root: PathBuf,
}

impl Library {
    /// Opens it, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(root: &Path) -> io::Result<Library> {
        for directory in [root.to_owned(), root.join("components"), root.join("tenants"), root.join("records")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        }
        Ok(Library { root: root.to_owned() })
    }

    /// A tenant's state; none when it never had a policy.
    ///
    /// # Errors
    /// It cannot be read, or is not what this program writes: [`io::ErrorKind::InvalidData`], and
    /// [`io::ErrorKind::Unsupported`] where another program did.
    pub fn state(&self, tenant: &str) -> io::Result<Option<TenantState>> {
        let path = self.tenant_file(tenant, "json");
        let Some(bytes) = read(&path, MAX_STATE_BYTES)? else { return Ok(None) };
        state_in(&path, &bytes).map(Some)
    }

    /// Puts a state that cannot be read where no start looks for it, in place of what was put there before; where that
    /// is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_aside(&self, tenant: &str) -> io::Result<PathBuf> {
        let path = self.tenant_file(tenant, "json");
        let aside = path.with_extension(UNREADABLE);
        fs::rename(&path, &aside)?;
        sync_directory_of(&aside)?;
        Ok(aside)
    }

    /// Replaces a tenant's state. Durable when it returns.
    ///
    /// # Errors
    /// The operating system's: the old state is there still.
    pub fn keep_state(&self, tenant: &str, state: &TenantState) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(state).map_err(io::Error::other)?;
        write(&self.tenant_file(tenant, "json"), &bytes)
    }

    /// Removes everything that is kept of a tenant but for components.
    ///
    /// # Errors
    /// The operating system's.
    pub fn forget(&self, tenant: &str) -> io::Result<()> {
        for kind in ["json", "cases.jsonl", UNREADABLE] {
            remove(&self.tenant_file(tenant, kind))?;
        }
        let records = self.records(tenant);
        match fs::remove_dir_all(&records) {
            Ok(()) => sync_directory_of(&records),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A component that was kept.
    ///
    /// # Errors
    /// It is not there, or not what it was.
    pub fn component(&self, digest: &str) -> io::Result<Vec<u8>> {
        let path = self.component_file(digest)?;
        let bytes = read(&path, u64::MAX)?.ok_or_else(|| invalid(&path, "is missing"))?;
        if digest_of(&bytes) != digest {
            return Err(invalid(&path, "is not what was kept: its digest is another"));
        }
        Ok(bytes)
    }

    /// Keeps a component; returns its digest. Durable when it returns.
    ///
    /// # Errors
    /// The operating system's.
    pub fn keep_component(&self, bytes: &[u8]) -> io::Result<String> {
        let digest = digest_of(bytes);
        let path = self.component_file(&digest)?;
        let is_there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
        if !is_there || self.component(&digest).is_err() {
            write(&path, bytes)?;
        }
        Ok(digest)
    }

    /// The text of a tenant's cases.
    ///
    /// # Errors
    /// The operating system's.
    pub fn cases(&self, tenant: &str) -> io::Result<Option<Vec<u8>>> {
        read(&self.tenant_file(tenant, "cases.jsonl"), u64::MAX)
    }

    /// Replaces them; none removes them.
    ///
    /// # Errors
    /// The operating system's.
    pub fn keep_cases(&self, tenant: &str, cases: Option<&[u8]>) -> io::Result<()> {
        let path = self.tenant_file(tenant, "cases.jsonl");
        match cases {
            Some(bytes) => write(&path, bytes),
            None => remove(&path),
        }
    }

    /// Where a tenant's decisions are recorded.
    #[must_use]
    pub fn records(&self, tenant: &str) -> PathBuf {
        self.root.join("records").join(file_name(tenant))
    }

    /// Removes components that no state names, but for the newest few.
    ///
    /// # Errors
    /// The operating system's. A state that cannot be read keeps everything.
    pub fn sweep(&self) -> io::Result<usize> {
        let used = self.used_components()?;
        let mut unused = Vec::new();
        for entry in fs::read_dir(self.root.join("components"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains(name.strip_suffix(".wasm").unwrap_or(&name)) {
                unused.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        unused.sort();
        let surplus = unused.len().saturating_sub(MAX_UNUSED_COMPONENTS);
        unused.iter().take(surplus).try_for_each(|(_, path)| remove(path))?;
        Ok(surplus)
    }

    fn used_components(&self) -> io::Result<HashSet<String>> {
        let mut used = HashSet::new();
        for entry in fs::read_dir(self.root.join("tenants"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let state = state_in(&path, &read(&path, MAX_STATE_BYTES)?.unwrap_or_default())?;
                used.extend(state.generations().map(|kept| kept.digest.clone()));
            }
        }
        Ok(used)
    }

    fn component_file(&self, digest: &str) -> io::Result<PathBuf> {
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a digest: expected 64 hexadecimal digits"));
        }
        Ok(self.root.join("components").join(format!("{digest}.wasm")))
    }

    fn tenant_file(&self, tenant: &str, kind: &str) -> PathBuf {
        self.root.join("tenants").join(format!("{}.{kind}", file_name(tenant)))
    }
}

/// The SHA-256 of these bytes, in hexadecimal.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// A tenant's name as a file's: whatever is not plain is written in hexadecimal.
fn file_name(tenant: &str) -> String {
    let mut name = String::with_capacity(tenant.len());
    for byte in tenant.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name
}

fn state_in(path: &Path, bytes: &[u8]) -> io::Result<TenantState> {
    #[derive(Deserialize)]
    struct Layout {
        format: u32,
    }
    let invalid = |error: serde_json::Error| invalid(path, &error.to_string());
    let Layout { format } = serde_json::from_slice(bytes).map_err(invalid)?;
    if format != FORMAT {
        let text = format!("{}: format {format}; this program knows {FORMAT}", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    serde_json::from_slice(bytes).map_err(invalid)
}

fn read(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whole or not at all, and durable.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_directory_of(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn invalid(path: &Path, problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u64, digest: &str) -> Kept {
        Kept {
            number,
            digest: digest.to_owned(),
            settings: serde_json::json!({ "few": number }),
            name: "standard".to_owned(),
            version: "0.1.0".to_owned(),
            contract: "0.1.0".to_owned(),
            origin: Origin::Upload,
            signature: None,
            since: 1,
        }
    }

    #[test]
    fn a_state_is_found_again_and_names_cannot_leave_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::open(directory.path()).unwrap();
        for tenant in ["example", "../../etc/passwd", "Ä b", "a_2e"] {
            assert_eq!(library.state(tenant).unwrap(), None);
            let mut state = TenantState::new(kept(1, "x"));
            state.activate(kept(2, "y"));
            state.recording = Some(Recording { sample_permille: 10, max_bytes: 1000, plain_addresses: false });
            library.keep_state(tenant, &state).unwrap();
            assert_eq!(library.state(tenant).unwrap(), Some(state));
        }
        assert_eq!(fs::read_dir(directory.path().join("tenants")).unwrap().count(), 4);
        assert_eq!(library.state("other").unwrap(), None);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_an_error_and_not_a_new_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::open(directory.path()).unwrap();
        library.keep_state("example", &TenantState::new(kept(1, "x"))).unwrap();
        let path = directory.path().join("tenants/example.json");
        let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
        for text in ["", "{", "{}", &newer] {
            fs::write(&path, text).unwrap();
            assert!(library.state("example").unwrap_err().to_string().contains("example.json"), "{text}");
        }
    }

    #[test]
    fn activating_keeps_what_was_and_going_back_does_not_keep_it_twice() {
        let mut state = TenantState::new(kept(1, "a"));
        for number in 2..=9 {
            assert_eq!(state.next_number(), number);
            state.activate(kept(number, "b"));
        }
        let numbers = |state: &TenantState| state.previous.iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!((state.active.number, numbers(&state)), (9, vec![8, 7, 6, 5, 4]));
        let back = state.previous[0].clone();
        state.activate(back);
        assert_eq!((state.active.number, numbers(&state)), (8, vec![9, 7, 6, 5, 4]));
        assert_eq!(state.next_number(), 10);
    }

    #[test]
    fn components_are_checked_when_they_are_read_and_swept_when_nobody_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::open(directory.path()).unwrap();
        let digest = library.keep_component(b"component").unwrap();
        assert_eq!(library.component(&digest).unwrap(), b"component");
        library.keep_state("example", &TenantState::new(kept(1, &digest))).unwrap();
        for number in 0..MAX_UNUSED_COMPONENTS + 3 {
            library.keep_component(format!("unused {number}").as_bytes()).unwrap();
        }
        assert_eq!(library.sweep().unwrap(), 3);
        assert_eq!(library.component(&digest).unwrap(), b"component");
        fs::write(directory.path().join(format!("components/{digest}.wasm")), b"tampered!").unwrap();
        assert!(library.component(&digest).is_err());
        library.keep_component(b"component").unwrap();
        assert!(library.component(&digest).is_ok(), "uploaded again it is whole again");
        for odd in ["", "../../x", "ABC", &"A".repeat(64)] {
            assert!(library.component(odd).is_err(), "{odd}");
        }
    }
}
