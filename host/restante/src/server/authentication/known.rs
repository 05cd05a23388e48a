//! What users authenticate with: all of it is in memory, so that no request waits for the disk.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use restante_sip::authentication::{Algorithm, HashOfA1, user_hash};
use restante_store::UserCredentials;
use thiserror::Error;

const SLICES: usize = 16;

type Username = (TenantName, String);
type Slice<T> = RwLock<HashMap<Username, T>>;

/// One user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCredentials {
    /// Whose.
    pub user: RecipientKey,
    /// What they were made with.
    pub username: String,
    /// The same.
    pub realm: String,
    /// One for each algorithm.
    pub hashes: Vec<HashOfA1>,
}

/// A username belongs to one user of a tenant.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the username {0:?} belongs to {1}")]
pub struct UsernameTaken(pub String, pub CanonicalAddress);

/// All users' credentials, by tenant and username. As durable as the store says: a change is made here when it is there.
pub struct KnownUsers {
    hasher: RandomState,
    slices: Vec<Slice<Arc<KnownCredentials>>>,
    /// The same by what [`user_hash`] makes of the username, for each algorithm.
    hashed: Vec<Slice<Arc<KnownCredentials>>>,
    /// The other way about; held by whoever changes something.
    usernames: Mutex<HashMap<RecipientKey, String>>,
    /// Held from the look whether a username is free to the change.
    pub changing: tokio::sync::Mutex<()>,
}

impl Default for KnownUsers {
    fn default() -> KnownUsers {
        KnownUsers {
            hasher: RandomState::new(),
            slices: (0..SLICES).map(|_| RwLock::default()).collect(),
            hashed: (0..SLICES).map(|_| RwLock::default()).collect(),
            usernames: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }
}

impl KnownUsers {
    /// Who has a username.
    #[must_use]
    pub fn find(&self, tenant: &TenantName, username: &str) -> Option<Arc<KnownCredentials>> {
        self.found(&self.slices, (tenant.clone(), username.to_owned()))
    }

    /// Who has a username of which this is the hash, by whatever algorithm.
    #[must_use]
    pub fn find_hashed(&self, tenant: &TenantName, hash: &str) -> Option<Arc<KnownCredentials>> {
        self.found(&self.hashed, (tenant.clone(), hash.to_ascii_lowercase()))
    }

    /// What a user has.
    #[must_use]
    pub fn of(&self, user: &RecipientKey) -> Option<Arc<KnownCredentials>> {
        let username = self.usernames.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned()?;
        self.find(&user.tenant, &username)
    }

    /// Whether a user may have a username.
    ///
    /// # Errors
    /// [`UsernameTaken`]
    pub fn check(&self, user: &RecipientKey, username: &str) -> Result<(), UsernameTaken> {
        match self.find(&user.tenant, username) {
            Some(other) if other.user != *user => Err(UsernameTaken(username.to_owned(), other.user.address.clone())),
            _ => Ok(()),
        }
    }

    /// Takes over what the store says of a user; none: nothing.
    ///
    /// # Errors
    /// [`UsernameTaken`]: nothing is changed.
    pub fn set(&self, user: &RecipientKey, credentials: Option<&UserCredentials>) -> Result<(), UsernameTaken> {
        let mut usernames = self.usernames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credentials) = credentials {
            self.check(user, &credentials.username)?;
        }
        if let Some(before) = usernames.remove(user) {
            self.change(&user.tenant, &before, None);
        }
        if let Some(credentials) = credentials {
            usernames.insert(user.clone(), credentials.username.clone());
            let known = KnownCredentials {
                user: user.clone(),
                username: credentials.username.clone(),
                realm: credentials.realm.clone(),
                hashes: credentials.hashes.iter().filter_map(hash).collect(),
            };
            self.change(&user.tenant, &credentials.username, Some(Arc::new(known)));
        }
        Ok(())
    }

    fn change(&self, tenant: &TenantName, username: &str, known: Option<Arc<KnownCredentials>>) {
        let before = self.find(tenant, username);
        let hashes = |known: &KnownCredentials| -> Vec<String> {
            let algorithms = known.hashes.iter().map(HashOfA1::algorithm);
            algorithms.map(|algorithm| user_hash(algorithm, &known.username, &known.realm)).collect()
        };
        for hash in before.as_deref().map(hashes).unwrap_or_default() {
            self.put(&self.hashed, (tenant.clone(), hash), None);
        }
        for (hash, known) in known.iter().flat_map(|known| hashes(known).into_iter().map(move |hash| (hash, known))) {
            self.put(&self.hashed, (tenant.clone(), hash), Some(known.clone()));
        }
        self.put(&self.slices, (tenant.clone(), username.to_owned()), known);
    }

    fn put(&self, slices: &[Slice<Arc<KnownCredentials>>], name: Username, known: Option<Arc<KnownCredentials>>) {
        let Some(slice) = self.slice(slices, &name) else { return };
        let mut slice = slice.write().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => slice.insert(name, known),
            None => slice.remove(&name),
        };
    }

    fn found(&self, slices: &[Slice<Arc<KnownCredentials>>], name: Username) -> Option<Arc<KnownCredentials>> {
        self.slice(slices, &name)?.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }

    fn slice<'a, T>(&self, slices: &'a [Slice<T>], name: &Username) -> Option<&'a Slice<T>> {
        slices.get(usize::try_from(self.hasher.hash_one(name) % SLICES as u64).unwrap_or(0))
    }
}

/// One by an algorithm that this program knows.
fn hash((algorithm, bytes): &(String, Vec<u8>)) -> Option<HashOfA1> {
    HashOfA1::from_bytes(Algorithm::named(Some(algorithm))?, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_one_users_of_a_tenant() {
        let user = |tenant: &str, address: &str| RecipientKey {
            tenant: TenantName(tenant.into()),
            address: CanonicalAddress(address.into()),
        };
        let named = |username: &str| UserCredentials {
            username: username.to_owned(),
            realm: "r".to_owned(),
            hashes: vec![("MD5".to_owned(), vec![1; 16]), ("MD5".to_owned(), vec![1]), ("MD6".to_owned(), vec![1; 16])],
        };
        let (bob, carol) = (user("t", "sip:bob@a"), user("t", "sip:carol@a"));
        let known = KnownUsers::default();
        known.set(&bob, Some(&named("bob"))).unwrap();
        assert_eq!(known.of(&bob).unwrap().hashes.len(), 1, "what cannot be a hash is none");
        assert_eq!(known.set(&carol, Some(&named("bob"))), Err(UsernameTaken("bob".to_owned(), bob.address.clone())));
        known.set(&user("other", "sip:bob@b"), Some(&named("bob"))).unwrap();
        known.set(&bob, Some(&named("robert"))).unwrap();
        assert_eq!(known.find(&bob.tenant, "bob"), None);
        known.set(&carol, Some(&named("bob"))).unwrap();
        let hash = user_hash(Algorithm::Md5, "bob", "r");
        assert_eq!(known.find_hashed(&carol.tenant, &hash.to_uppercase()), known.of(&carol));
        assert_eq!(known.find_hashed(&carol.tenant, &user_hash(Algorithm::Md5, "robert", "r")), known.of(&bob));
        assert_eq!(known.find_hashed(&carol.tenant, "bob"), None, "a name is no hash");
        known.set(&carol, None).unwrap();
        assert_eq!((known.of(&carol), known.find(&carol.tenant, "bob")), (None, None));
        assert_eq!(known.find_hashed(&carol.tenant, &hash), None);
    }
}
