//! What users authenticate with: all of it is in memory, so that no request waits for the disk.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use restante_sip::authentication::{Algorithm, HashOfA1};
use restante_store::UserCredentials;
use thiserror::Error;

const SLICES: usize = 16;

type Username = (TenantName, String);

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
    slices: Vec<RwLock<HashMap<Username, Arc<KnownCredentials>>>>,
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
            usernames: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }
}

impl KnownUsers {
    /// Who has a username.
    #[must_use]
    pub fn find(&self, tenant: &TenantName, username: &str) -> Option<Arc<KnownCredentials>> {
        let username = (tenant.clone(), username.to_owned());
        self.slice(&username)?.read().unwrap_or_else(PoisonError::into_inner).get(&username).cloned()
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
            self.change((user.tenant.clone(), before), None);
        }
        if let Some(credentials) = credentials {
            usernames.insert(user.clone(), credentials.username.clone());
            let known = KnownCredentials {
                user: user.clone(),
                username: credentials.username.clone(),
                realm: credentials.realm.clone(),
                hashes: credentials.hashes.iter().filter_map(hash).collect(),
            };
            self.change((user.tenant.clone(), credentials.username.clone()), Some(Arc::new(known)));
        }
        Ok(())
    }

    fn change(&self, username: Username, known: Option<Arc<KnownCredentials>>) {
        let Some(slice) = self.slice(&username) else { return };
        let mut slice = slice.write().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => slice.insert(username, known),
            None => slice.remove(&username),
        };
    }

    fn slice(&self, username: &Username) -> Option<&RwLock<HashMap<Username, Arc<KnownCredentials>>>> {
        self.slices.get(usize::try_from(self.hasher.hash_one(username) % SLICES as u64).unwrap_or(0))
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
        known.set(&carol, None).unwrap();
        assert_eq!((known.of(&carol), known.find(&carol.tenant, "bob")), (None, None));
    }
}
