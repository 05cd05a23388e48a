//! Who is whose: domains and numbers to tenants, names to users, peers to trust.

mod names;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use restante_deferral::model::{CanonicalAddress, Profile, RecipientKey, TenantName};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use thiserror::Error;

use self::names::{Names, Reserved};
use crate::configuration::{AddressRange, Configuration, Tenant};

pub use self::names::{Authority, Reservation};

/// A tenant as requests see it.
#[derive(Clone, Debug)]
pub struct TenantEntry {
    /// Its name.
    pub name: TenantName,
    /// Its first domain, in which it speaks itself.
    pub domain: Arc<str>,
    /// Takes REGISTER of its users.
    pub registrar: bool,
    /// User part of the URI to fetch from.
    pub deferred_user: Arc<str>,
    /// NOTIFY without a subscription.
    pub unsolicited_notify: bool,
    /// Hand-over targets.
    pub hand_over: Arc<HashMap<String, String>>,
    trust: Arc<[AddressRange]>,
}

impl TenantEntry {
    /// Whether a peer may send for any user.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trust.iter().any(|range| range.contains(peer))
    }

    /// `sip:DOMAIN`: how the server names itself to this tenant's users.
    #[must_use]
    pub fn reporter(&self) -> String {
        format!("sip:{}", self.domain)
    }
}

/// All tenants and names. A look for a name holds one of many locks for that look; everything else never changes.
pub struct Directory {
    tenants: Vec<Arc<TenantEntry>>,
    domains: HashMap<String, Arc<TenantEntry>>,
    /// Longest first.
    numbers: Vec<(String, Arc<TenantEntry>)>,
    configured: HashMap<String, RecipientKey>,
    /// The same the other way about.
    configured_names: HashMap<RecipientKey, Vec<String>>,
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
    /// From the configuration.
    ///
    /// # Errors
    /// An alias that is no address, or that cannot be whose it is said to be, with its place.
    pub fn new(configuration: &Configuration) -> Result<Directory, String> {
        let mut directory = Directory {
            tenants: Vec::new(),
            domains: HashMap::new(),
            numbers: Vec::new(),
            configured: HashMap::new(),
            configured_names: HashMap::new(),
            learnt: Names::default(),
        };
        for (name, tenant) in &configuration.tenants {
            directory.add(name, tenant);
        }
        directory.numbers.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        for (name, tenant) in &configuration.tenants {
            for (alias, address) in &tenant.aliases {
                directory
                    .add_alias(name, alias, address)
                    .map_err(|problem| format!("tenants.{name}.aliases: {problem}"))?;
            }
        }
        // Whose a name is, is found in one step.
        match directory.configured.iter().find(|(_, user)| directory.configured.contains_key(&*user.address.0)) {
            Some((alias, user)) => Err(format!(
                "aliases: {:?} is an alias itself: give {alias:?} the address that it stands for",
                user.address.0
            )),
            None => Ok(directory),
        }
    }

    fn add(&mut self, name: &str, tenant: &Tenant) {
        let entry = Arc::new(TenantEntry {
            name: TenantName(name.into()),
            domain: tenant.domains.first().map(|domain| domain.to_ascii_lowercase()).unwrap_or_default().into(),
            registrar: tenant.registrar,
            deferred_user: tenant.deferred_user.as_str().into(),
            unsolicited_notify: tenant.unsolicited_notify,
            hand_over: Arc::new(tenant.hand_over.clone().into_iter().collect()),
            trust: tenant.trust.clone().into(),
        });
        for domain in &tenant.domains {
            self.domains.insert(domain.to_ascii_lowercase(), entry.clone());
        }
        for prefix in &tenant.numbers {
            self.numbers.push((format!("tel:{prefix}"), entry.clone()));
        }
        self.tenants.push(entry);
    }

    fn add_alias(&mut self, tenant: &str, alias: &str, address: &str) -> Result<(), String> {
        let parse = |text: &str| {
            let uri = Uri::parse(text).ok();
            let name = uri.as_ref().and_then(canonical);
            uri.zip(name).ok_or_else(|| format!("{text:?} is no address: expected sip:USER@DOMAIN or tel:+NUMBER"))
        };
        let ((_, name), (uri, address)) = (parse(alias)?, parse(address)?);
        let tenant = self.tenant_of(&uri).map_or_else(|| TenantName(tenant.into()), |tenant| tenant.name.clone());
        let user = RecipientKey { tenant, address: CanonicalAddress(address.into()) };
        if *name == *user.address.0 {
            return Ok(());
        }
        if let Some(other) = self.configured.insert(name.clone(), user.clone())
            && other != user
        {
            return Err(format!("{alias:?} belongs to {:?} already", other.address.0));
        }
        let names = self.configured_names.entry(user).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
        Ok(())
    }

    /// All tenants.
    #[must_use]
    pub fn tenants(&self) -> &[Arc<TenantEntry>] {
        &self.tenants
    }

    /// By name.
    #[must_use]
    pub fn tenant(&self, name: &TenantName) -> Option<&Arc<TenantEntry>> {
        self.tenants.iter().find(|tenant| tenant.name == *name)
    }

    /// The tenant that a URI's domain or number belongs to.
    #[must_use]
    pub fn tenant_of(&self, uri: &Uri) -> Option<&Arc<TenantEntry>> {
        match uri {
            Uri::Sip(sip) => self.domains.get(&sip.host.to_ascii_lowercase()).or_else(|| self.tenant_of_number(uri)),
            Uri::Tel(_) => self.tenant_of_number(uri),
            Uri::Other(..) => None,
        }
    }

    /// The served user that a name belongs to, and whose it is.
    #[must_use]
    pub fn served(&self, uri: &Uri) -> Option<(&Arc<TenantEntry>, RecipientKey)> {
        let name = canonical(uri)?;
        match self.resolve(&name) {
            Some(user) => Some((self.tenant(&user.tenant)?, user)),
            None => {
                let tenant = self.tenant_of(uri)?;
                Some((tenant, RecipientKey { tenant: tenant.name.clone(), address: CanonicalAddress(name.into()) }))
            }
        }
    }

    /// The canonical address of a user, served here or not.
    #[must_use]
    pub fn address(&self, uri: &Uri) -> Option<CanonicalAddress> {
        let name = canonical(uri)?;
        Some(self.resolve(&name).map_or_else(|| CanonicalAddress(name.into()), |user| user.address))
    }

    /// The user of the same tenant that this one is only another name of.
    #[must_use]
    pub fn owner_of(&self, name: &RecipientKey) -> Option<RecipientKey> {
        self.resolve(&name.address.0).filter(|owner| owner.tenant == name.tenant && owner != name)
    }

    /// A user's further names, those of the configuration first.
    #[must_use]
    pub fn names(&self, user: &RecipientKey) -> Vec<String> {
        let mut names = self.configured_names.get(user).cloned().unwrap_or_default();
        names.extend(self.learnt.of(user));
        names
    }

    /// Names that the configuration gives to users: whatever waits under them is those users'.
    pub fn configured_aliases(&self) -> impl Iterator<Item = RecipientKey> {
        let name = |(alias, user): (&String, &RecipientKey)| RecipientKey {
            tenant: user.tenant.clone(),
            address: CanonicalAddress(alias.as_str().into()),
        };
        self.configured.iter().map(name)
    }

    /// Whether the configuration says whose a name is.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.configured.contains_key(name)
    }

    /// Rises when a name comes to belong to somebody, or to nobody.
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

    /// Reserves names for a user by an operator's word: all of them, or none. Those that the user has need no reservation.
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
        let names: Vec<_> = self.names_in(user, profile).collect();
        let gained = self.learnt.settle(user, &names, reservation.as_ref());
        let key = |name: String| RecipientKey { tenant: user.tenant.clone(), address: CanonicalAddress(name.into()) };
        gained.into_iter().map(key).collect()
    }

    /// What a profile says, as far as the configuration does not say otherwise: a name that it gives away, or a user that
    /// it gives names to, is nobody else's.
    fn names_in<'a>(
        &'a self,
        user: &'a RecipientKey,
        profile: &'a Profile,
    ) -> impl Iterator<Item = (String, Authority)> + 'a {
        let is_free = |name: &&String| {
            let as_user = RecipientKey { tenant: user.tenant.clone(), address: CanonicalAddress(name.as_str().into()) };
            !self.configured.contains_key(*name) && !self.configured_names.contains_key(&as_user) && as_user != *user
        };
        profile.aliases.iter().filter(is_free).map(|name| {
            let by = if profile.registered.contains(name) { Authority::Core } else { Authority::Operator };
            (name.clone(), by)
        })
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
        if *name == *user.address.0 {
            return Ok(None);
        }
        if self.resolve(&user.address.0).is_some() || reserved.user_of(&user.address.0).is_some() {
            return Err(changing());
        }
        match self.configured.get(name) {
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
        match Uri::parse(name).ok().and_then(|uri| self.tenant_of(&uri)) {
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

    fn resolve(&self, name: &str) -> Option<RecipientKey> {
        match self.configured.get(name) {
            Some(user) => Some(user.clone()),
            None => self.learnt.owner(name).map(|owner| owner.user),
        }
    }

    fn tenant_of_number(&self, uri: &Uri) -> Option<&Arc<TenantEntry>> {
        let number = canonical(uri)?;
        self.numbers.iter().find(|(prefix, _)| number.starts_with(prefix.as_str())).map(|(_, tenant)| tenant)
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
