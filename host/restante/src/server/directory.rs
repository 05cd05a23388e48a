//! Who is whose: domains and numbers to tenants, names to users, peers to trust.

mod names;
mod tenants;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use restante_deferral::model::{CanonicalAddress, Profile, RecipientKey, TenantName};
use restante_deferral::participating_function::ReportKey;
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use thiserror::Error;

use self::names::{Names, Reserved};
use self::tenants::OfServer;
use super::usage::{Inboxes, Usage};
use crate::configuration::{Configuration, Limits, Tenant};

pub use self::names::{Authority, Reservation};
pub use self::tenants::{DigestRealm, Peer, TenantEntry, Tenants};
pub use crate::configuration::RegistrationEvents;

/// All tenants and names. The tenants are one value that never changes and is replaced as a whole: whoever looks at it
/// waits for nobody. A look for a learnt name holds one of many locks for that look.
pub struct Directory {
    tenants: ArcSwap<Tenants>,
    /// Of every tenant that was ever there and of which something is in use.
    usages: Mutex<HashMap<TenantName, Arc<Usage>>>,
    limits: Limits,
    report_key: ReportKey,
    shards: Weak<Inboxes>,
    learnt: Names,
}

/// Why a user cannot have a name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Taken {
    /// The configuration gives it to another user.
    #[error("{0} is an alias of {1} in the configuration")]
    Configured(String, CanonicalAddress),
    /// It is a name of another user.
    #[error("{0} is an alias of {1}: take it from there first")]
    Alias(String, CanonicalAddress),
    /// It is a user that has names of its own.
    #[error("{0} is a user with aliases of its own: take those away first")]
    User(String),
    /// Its domain or number belongs to another tenant.
    #[error("{0} belongs to tenant {1}")]
    OtherTenant(String, TenantName),
    /// Its domain or number belongs to no tenant, and only an operator may say whose it is.
    #[error("{0} belongs to no tenant")]
    Unserved(String),
    /// It is being given to somebody, or the user to another one, at this moment.
    #[error("{0} is being changed by somebody else: try again")]
    Changing(String),
}

impl Directory {
    /// From the configuration, and what Message-IDs of reports are made with. Of `shards` those are told for whom
    /// something of a tenant's share becomes free.
    ///
    /// # Errors
    /// An alias that is no address, or that cannot be whose it is said to be, with its place.
    pub fn new(
        configuration: &Configuration,
        report_key: ReportKey,
        shards: Weak<Inboxes>,
    ) -> Result<Directory, String> {
        let directory = Directory {
            tenants: ArcSwap::from_pointee(Tenants::default()),
            usages: Mutex::default(),
            limits: configuration.limits.clone(),
            report_key,
            shards,
            learnt: Names::default(),
        };
        directory.replace(directory.prepare(&configuration.tenants)?);
        Ok(directory)
    }

    /// What the tenants would be. Nothing is changed.
    ///
    /// # Errors
    /// As [`Directory::new`].
    pub fn prepare<T: Borrow<Tenant>>(&self, tenants: &BTreeMap<String, T>) -> Result<Tenants, String> {
        let usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        let server = OfServer { limits: &self.limits, report_key: &self.report_key };
        Tenants::new(tenants, server, |name, bounds| match usages.get(name) {
            Some(usage) => usage.clone(),
            None => Arc::new(Usage::new(name, bounds, &self.shards)),
        })
    }

    /// From now on these are the tenants.
    pub fn replace(&self, tenants: Tenants) {
        {
            let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
            for tenant in tenants.all() {
                tenant.usage.set_bounds(&tenant.bounds);
                usages.insert(tenant.name.clone(), tenant.usage.clone());
            }
            self.tenants.store(Arc::new(tenants));
            // What is in flight for a tenant that is gone is counted for it when it comes back.
            usages.retain(|name, usage| {
                self.tenants.load().by_name(name).is_some() || usage.sessions.in_use() + usage.deliveries.in_use() > 0
            });
        }
        self.learnt.rise();
    }

    /// All tenants, in order of their names.
    #[must_use]
    pub fn tenants(&self) -> Vec<Arc<TenantEntry>> {
        self.tenants.load().all().cloned().collect()
    }

    /// By name.
    #[must_use]
    pub fn tenant(&self, name: &TenantName) -> Option<Arc<TenantEntry>> {
        self.tenants.load().by_name(name).cloned()
    }

    /// Whether a tenant is served.
    #[must_use]
    pub fn serves(&self, name: &TenantName) -> bool {
        self.tenants.load().by_name(name).is_some()
    }

    /// Whether some tenant trusts a peer.
    #[must_use]
    pub fn is_trusted(&self, peer: &Peer) -> bool {
        self.tenants.load().all().any(|tenant| tenant.trusts(peer))
    }

    /// The tenant that a URI's domain or number belongs to.
    #[must_use]
    pub fn tenant_of(&self, uri: &Uri) -> Option<Arc<TenantEntry>> {
        self.tenants.load().of(uri).cloned()
    }

    /// The served user that a name belongs to, and whose it is.
    #[must_use]
    pub fn served(&self, uri: &Uri) -> Option<(Arc<TenantEntry>, RecipientKey)> {
        let name = canonical(uri)?;
        let tenants = self.tenants.load();
        match self.resolve(&tenants, &name) {
            Some(user) => Some((tenants.by_name(&user.tenant)?.clone(), user)),
            None => {
                let tenant = tenants.of(uri)?.clone();
                let tenant_name = tenant.name.clone();
                Some((tenant, RecipientKey { tenant: tenant_name, address: CanonicalAddress(name.into()) }))
            }
        }
    }

    /// The canonical address of a user, served here or not.
    #[must_use]
    pub fn address(&self, uri: &Uri) -> Option<CanonicalAddress> {
        let name = canonical(uri)?;
        let user = self.resolve(&self.tenants.load(), &name);
        Some(user.map_or_else(|| CanonicalAddress(name.into()), |user| user.address))
    }

    /// The user of the same tenant that this one is only another name of.
    #[must_use]
    pub fn owner_of(&self, name: &RecipientKey) -> Option<RecipientKey> {
        let owner = self.resolve(&self.tenants.load(), &name.address.0);
        owner.filter(|owner| owner.tenant == name.tenant && owner != name)
    }

    /// A user's further names, those of the configuration first.
    #[must_use]
    pub fn names(&self, user: &RecipientKey) -> Vec<String> {
        let mut names = self.tenants.load().configured_names(user).to_vec();
        for name in self.learnt.of(user) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Names that the configuration gives to users: whatever waits under them is those users'.
    #[must_use]
    pub fn configured_aliases(&self) -> Vec<RecipientKey> {
        self.tenants.load().configured_aliases().collect()
    }

    /// Whether the configuration says whose a name is.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.tenants.load().configured(name).is_some()
    }

    /// Rises when a name comes to belong to somebody, or to nobody, and when tenants change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.learnt.version()
    }

    /// Takes over what profiles say when the server starts.
    pub fn load(&self, profiles: Vec<(RecipientKey, Profile)>) {
        for (user, profile) in profiles {
            // It may have become another name of somebody by the configuration.
            let user = self.owner_of(&user).unwrap_or(user);
            let mut names = self.learnt_names(&user);
            names.extend(self.names_in(&user, &profile));
            self.learnt.settle(&user, &names, None);
        }
    }

    /// Reserves names for a user by an operator's word: all of them, or none. Those that the user has need no
    /// reservation.
    ///
    /// # Errors
    /// [`Taken`]: the first that the user cannot have.
    pub fn reserve(&self, user: &RecipientKey, names: &[String]) -> Result<Reservation, Taken> {
        let mut reserved = self.learnt.lock();
        let mut free = Vec::new();
        for name in names {
            if self.claim(&reserved, user, name, Authority::Operator, names)?.is_some() {
                free.push(name.clone());
            }
        }
        Ok(self.learnt.reserve(&mut reserved, user, free, Vec::new()))
    }

    /// Reserves names that a core told in a registration, as far as the user can have them. A name that was learnt for
    /// another user in the same way is this one's from now on: the core knows best. One that the configuration or an
    /// operator gave away is not.
    #[must_use]
    pub fn reserve_registered(&self, user: &RecipientKey, names: &[String]) -> Reservation {
        let mut reserved = self.learnt.lock();
        let (mut free, mut displaced) = (Vec::new(), Vec::new());
        for name in names {
            match self.claim(&reserved, user, name, Authority::Core, names) {
                Ok(Some(Claim::Free)) => free.push(name.clone()),
                Ok(Some(Claim::Of(other))) => {
                    displaced.push((other, name.clone()));
                    free.push(name.clone());
                }
                Ok(None) => {}
                // A core tells of it with every refresh.
                Err(taken) => tracing::debug!(tenant = %user.tenant, %taken, "a registration names somebody else"),
            }
        }
        self.learnt.reserve(&mut reserved, user, free, displaced)
    }

    /// Does what a user's durable profile says; returns the names that are new.
    pub fn settle(
        &self,
        user: &RecipientKey,
        profile: &Profile,
        reservation: Option<Reservation>,
    ) -> Vec<RecipientKey> {
        let names = self.names_in(user, profile);
        let gained = self.learnt.settle(user, &names, reservation.as_ref());
        let key = |name: String| RecipientKey { tenant: user.tenant.clone(), address: CanonicalAddress(name.into()) };
        gained.into_iter().map(key).collect()
    }

    /// What a profile says, as far as the configuration does not say otherwise: a name that it gives away, or a user
    /// that it gives names to, is nobody else's.
    fn names_in(&self, user: &RecipientKey, profile: &Profile) -> Vec<(String, Authority)> {
        let tenants = self.tenants.load();
        let is_free = |name: &&String| {
            let as_user = RecipientKey { tenant: user.tenant.clone(), address: CanonicalAddress(name.as_str().into()) };
            tenants.configured(name).is_none() && tenants.configured_names(&as_user).is_empty() && as_user != *user
        };
        let by_whom = |name: &String| {
            let by = if profile.registered.contains(name) { Authority::Core } else { Authority::Operator };
            (name.clone(), by)
        };
        profile.aliases.iter().filter(is_free).map(by_whom).collect()
    }

    fn learnt_names(&self, user: &RecipientKey) -> Vec<(String, Authority)> {
        let by = |name: String| self.learnt.owner(&name).map(|owner| (name, owner.by));
        self.learnt.of(user).into_iter().filter_map(by).collect()
    }

    /// Whether a user may have a name; none: it has it.
    fn claim(
        &self,
        reserved: &Reserved,
        user: &RecipientKey,
        name: &str,
        by: Authority,
        claimed: &[String],
    ) -> Result<Option<Claim>, Taken> {
        let changing = || Taken::Changing(name.to_owned());
        let tenants = self.tenants.load();
        if *name == *user.address.0 {
            return Ok(None);
        }
        if self.resolve(&tenants, &user.address.0).is_some() || reserved.user_of(&user.address.0).is_some() {
            return Err(changing());
        }
        match tenants.configured(name) {
            Some(owner) if owner == user => return Ok(None),
            Some(owner) => return Err(Taken::Configured(name.to_owned(), owner.address.clone())),
            None => {}
        }
        if reserved.user_of(name).is_some_and(|other| other != user) {
            return Err(changing());
        }
        match self.learnt.owner(name) {
            Some(owner) if owner.user == *user => return Ok(None),
            Some(owner) if owner.by == Authority::Core && by == Authority::Core => {
                return Ok(Some(Claim::Of(owner.user)));
            }
            Some(owner) => return Err(Taken::Alias(name.to_owned(), owner.user.address)),
            None => {}
        }
        match Uri::parse(name).ok().and_then(|uri| tenants.of(&uri)) {
            Some(tenant) if tenant.name != user.tenant => {
                return Err(Taken::OtherTenant(name.to_owned(), tenant.name.clone()));
            }
            None if by == Authority::Core => return Err(Taken::Unserved(name.to_owned())),
            _ => {}
        }
        let as_user = RecipientKey { tenant: user.tenant.clone(), address: CanonicalAddress(name.into()) };
        if reserved.has_names(&as_user) {
            return Err(changing());
        }
        // What the core gives away in the same breath is not the other's any more.
        let goes = |name: &String| {
            let is_cores = || self.learnt.owner(name).is_some_and(|owner| owner.by == Authority::Core);
            by == Authority::Core && claimed.contains(name) && is_cores()
        };
        if self.names(&as_user).iter().all(goes) { Ok(Some(Claim::Free)) } else { Err(Taken::User(name.to_owned())) }
    }

    /// A name of a user whose tenant is not served is nobody's until the tenant comes back.
    fn resolve(&self, tenants: &Tenants, name: &str) -> Option<RecipientKey> {
        match tenants.configured(name) {
            Some(user) => Some(user.clone()),
            None => {
                let owner = self.learnt.owner(name).map(|owner| owner.user);
                owner.filter(|user| tenants.by_name(&user.tenant).is_some())
            }
        }
    }
}

/// A name that a user may have.
enum Claim {
    /// Nobody has it.
    Free,
    /// This one has it until now.
    Of(RecipientKey),
}

#[cfg(test)]
mod tests;
