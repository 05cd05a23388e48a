//! Names that users have besides their addresses: learnt from registrations, or set by an operator at run time.
//!
//! Every request asks whose a name is, and in a storm of registrations thousands of names are learnt a second. So they lie
//! in slices, each behind a lock that is held for one look or one change, with an index the other way about. Those who
//! change take turns; those who look do not wait for them.
//!
//! A name is known here only while the profile of its user says so durably. Whoever wants to give a name to a user first
//! *reserves* it, so that two cannot have it, then has the profile changed, then *settles* what the profile says.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use restante_deferral::model::RecipientKey;

use crate::logging::Shortened;

const SLICES: usize = 64;

/// Who says that a name is a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// A core, in a registration. It may give the name to somebody else.
    Core,
    /// An operator.
    Operator,
}

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: RecipientKey,
    pub(super) by: Authority,
}

/// All names that were learnt.
pub(super) struct Names {
    hasher: RandomState,
    slices: Vec<RwLock<Slice>>,
    /// Held by whoever changes something.
    reserved: Arc<Mutex<Reserved>>,
    version: AtomicU64,
}

#[derive(Default)]
struct Slice {
    owners: HashMap<Arc<str>, Owner>,
    names: HashMap<RecipientKey, Vec<Arc<str>>>,
}

/// Names that are about to be somebody's: whose, and in how many reservations.
#[derive(Default)]
pub(super) struct Reserved {
    names: HashMap<String, (RecipientKey, usize)>,
    /// Reservations of each user.
    users: HashMap<RecipientKey, usize>,
}

/// Names that nobody else can get while this lives.
pub struct Reservation {
    reserved: Arc<Mutex<Reserved>>,
    user: RecipientKey,
    names: Vec<String>,
    /// Users whose names these are until now.
    displaced: Vec<(RecipientKey, String)>,
}

impl Reserved {
    /// For whom a name is reserved.
    pub(super) fn user_of(&self, name: &str) -> Option<&RecipientKey> {
        self.names.get(name).map(|(user, _)| user)
    }

    /// Whether names are reserved for a user.
    pub(super) fn has_names(&self, user: &RecipientKey) -> bool {
        self.users.contains_key(user)
    }
}

impl Reservation {
    /// What is reserved.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Users whose profiles must lose these names.
    #[must_use]
    pub fn displaced(&self) -> &[(RecipientKey, String)] {
        &self.displaced
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some((_, count)) = reserved.names.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    reserved.names.remove(name);
                }
            }
        }
        if let Some(count) = reserved.users.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                reserved.users.remove(&self.user);
            }
        }
    }
}

impl Default for Names {
    fn default() -> Names {
        Names {
            hasher: RandomState::new(),
            slices: (0..SLICES).map(|_| RwLock::default()).collect(),
            reserved: Arc::default(),
            version: AtomicU64::new(0),
        }
    }
}

impl Names {
    /// Rises with every change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Something else changed by which names are found.
    pub(super) fn rise(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn owner(&self, name: &str) -> Option<Owner> {
        self.read(name)?.owners.get(name).cloned()
    }

    /// In the order in which they were learnt.
    pub(super) fn of(&self, user: &RecipientKey) -> Vec<String> {
        let slice = self.read(user);
        let names = slice.as_ref().and_then(|slice| slice.names.get(user));
        names.map(|names| names.iter().map(|name| name.to_string()).collect()).unwrap_or_default()
    }

    /// Nothing is changed or reserved by anybody else while this is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves names that the caller found to be free, or allowed to be taken from those that have them.
    pub(super) fn reserve(
        &self,
        reserved: &mut Reserved,
        user: &RecipientKey,
        names: Vec<String>,
        displaced: Vec<(RecipientKey, String)>,
    ) -> Reservation {
        for name in &names {
            let (_, count) = reserved.names.entry(name.clone()).or_insert_with(|| (user.clone(), 0));
            *count = count.saturating_add(1);
        }
        if !names.is_empty() {
            let count = reserved.users.entry(user.clone()).or_default();
            *count = count.saturating_add(1);
        }
        Reservation { reserved: self.reserved.clone(), user: user.clone(), names, displaced }
    }

    /// The user has these names now and no others: its profile says so. A name that is somebody else's is taken from there
    /// only if it was reserved, or if an operator's word stands against a core's. Returns those that are new.
    pub(super) fn settle(
        &self,
        user: &RecipientKey,
        names: &[(String, Authority)],
        reservation: Option<&Reservation>,
    ) -> Vec<String> {
        let _turn = self.lock();
        let is_reserved = |name: &String| reservation.is_some_and(|it| it.user == *user && it.names.contains(name));
        let mut gained = Vec::new();
        let mut is_changed = false;
        for (name, by) in names {
            match self.owner(name) {
                Some(owner) if owner.user == *user => {
                    if owner.by != *by {
                        self.insert(user, name, *by);
                    }
                    continue;
                }
                Some(owner) if is_reserved(name) || owner.by < *by => self.remove(&owner.user, name),
                Some(owner) => {
                    tracing::warn!(
                        tenant = %user.tenant,
                        name = %Shortened(name),
                        owner = %Shortened(&owner.user.address.0),
                        "a profile claims a name that belongs to another user; the claim is ignored"
                    );
                    continue;
                }
                None => {}
            }
            self.insert(user, name, *by);
            gained.push(name.clone());
            is_changed = true;
        }
        for name in self.of(user) {
            if !names.iter().any(|(known, _)| *known == name) {
                self.remove(user, &name);
                is_changed = true;
            }
        }
        if is_changed {
            self.version.fetch_add(1, Ordering::Release);
        }
        gained
    }

    fn insert(&self, user: &RecipientKey, name: &str, by: Authority) {
        let name: Arc<str> = name.into();
        let owner = Owner { user: user.clone(), by };
        if let Some(mut slice) = self.write(&*name) {
            slice.owners.insert(name.clone(), owner);
        }
        if let Some(mut slice) = self.write(user) {
            let names = slice.names.entry(user.clone()).or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }

    fn remove(&self, user: &RecipientKey, name: &str) {
        if let Some(mut slice) = self.write(name) {
            slice.owners.remove(name);
        }
        if let Some(mut slice) = self.write(user)
            && let Some(names) = slice.names.get_mut(user)
        {
            names.retain(|known| **known != *name);
            if names.is_empty() {
                slice.names.remove(user);
            }
        }
    }

    fn read(&self, key: impl Hash) -> Option<RwLockReadGuard<'_, Slice>> {
        self.slices.get(self.index(key)).map(|slice| slice.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, key: impl Hash) -> Option<RwLockWriteGuard<'_, Slice>> {
        self.slices.get(self.index(key)).map(|slice| slice.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self, key: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SLICES as u64).unwrap_or(0)
    }
}
