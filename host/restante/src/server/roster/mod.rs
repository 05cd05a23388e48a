//! Which tenants there are, and how they come, change and go while the server runs.
//!
//! Tenants are those of the configuration file, read again when the operator says so, and those that were added at run
//! time, which are kept in the data directory ([`kept`]). A change is made in this order, and what fails before the
//! last step changes nothing:
//!
//! 1. the values are checked, and that no other tenant has the same domain, number or alias;
//! 2. the policies are loaded and check their settings;
//! 3. generations of policies, and what was added at run time, are made durable;
//! 4. the policies decide, the directory knows the tenants, and the shards are told.
//!
//! Changes take turns. Nobody who serves waits for one: the directory's tenants are replaced as one value.

mod kept;
mod start;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use restante_deferral::model::{RecipientKey, TenantName};
use restante_store::StoreError;
use restante_transport::queue::Lane;
use thiserror::Error;

use self::kept::Kept;
use super::Shared;
use super::directory::Tenants;
use super::policies::{ConfiguredPolicies, Prepared, UnusablePolicy};
use super::receiver::shard_of;
use super::shard::ToShard;
use crate::configuration::{Configuration, ConfigurationError, Source, Tenant, check_claims};
use crate::policies::Occasion;

/// Recipients read at once.
const RECIPIENT_PAGE: usize = 10_000;

/// Where a tenant is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file, or in the configuration of a server without one.
    File,
    /// In the data directory: it was added at run time.
    Kept,
}

/// A tenant as it was said.
#[derive(Clone)]
pub struct Known {
    /// It.
    pub tenant: Arc<Tenant>,
    /// Where.
    pub origin: Origin,
    source: Source,
}

type Everybody = BTreeMap<String, Known>;

/// What a reading of the configuration file led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Tenants that are new.
    pub added: Vec<String>,
    /// Tenants that are otherwise than before.
    pub changed: Vec<String>,
    /// Tenants that are gone.
    pub removed: Vec<String>,
    /// Tenants for which another generation decides than before, with its number.
    pub policies: Vec<(String, u64)>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Why a tenant was not added, changed or removed. Nothing changed.
#[derive(Debug, Error)]
pub enum RosterError {
    /// What was given cannot be; what was expected.
    #[error("{0}")]
    Invalid(String),
    /// It does not fit beside another tenant.
    #[error("{0}")]
    Conflict(String),
    /// There is no such tenant.
    #[error("there is no tenant {0:?}")]
    Unknown(String),
    /// The server runs without a configuration file.
    #[error("the server was started without a configuration file: expected `restante serve --config FILE`")]
    NoFile,
    /// The file says what cannot be.
    #[error(transparent)]
    File(#[from] ConfigurationError),
    /// A policy cannot be used.
    #[error(transparent)]
    Policy(#[from] UnusablePolicy),
    /// The data directory does not take it.
    #[error("{0} could not be saved: {1}")]
    Disk(String, io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All tenants, and who changes them.
pub struct Roster {
    shared: Arc<Shared>,
    running: Configuration,
    kept: Kept,
    known: ArcSwap<Everybody>,
    /// Held by whoever changes something.
    turn: Mutex<()>,
}

impl Roster {
    /// All tenants, by name.
    #[must_use]
    pub fn tenants(&self) -> Arc<BTreeMap<String, Known>> {
        self.known.load_full()
    }

    /// Adds a tenant or changes one that was added in this way. Blocks. True: it is new. `text` is what is kept;
    /// `source` is where what is wrong is looked for.
    ///
    /// # Errors
    /// [`RosterError`]
    pub fn put(&self, name: &str, tenant: Tenant, text: &str, source: Source) -> Result<bool, RosterError> {
        let _turn = self.turn();
        let everybody = self.known.load_full();
        if !Kept::is_name(name) {
            let text = format!("tenant {name:?}: expected a name of 1 to 64 letters, digits, - and _");
            return Err(RosterError::Invalid(text));
        }
        if everybody.get(name).is_some_and(|known| known.origin == Origin::File) {
            return Err(RosterError::Conflict(format!(
                "tenants.{name} is in {}: expected another name, or change it there and reload",
                self.file()
            )));
        }
        if !tenant.has_standard_policy() {
            return Err(RosterError::Invalid(format!(
                "tenants.{name}.policy: {:?}: expected \"standard\"; paths of the server's files are taken from its \
                 configuration file alone",
                tenant.policy
            )));
        }
        tenant.check(name, &self.running.limits).map_err(|wrong| RosterError::Invalid(wrong.placed(&source)))?;
        check_claim(&everybody, name, &tenant)?;
        let known = Known { tenant: Arc::new(tenant), origin: Origin::Kept, source };
        if everybody.get(name).is_some_and(|before| before.tenant == known.tenant) {
            return Ok(false);
        }
        let mut next = Everybody::clone(&everybody);
        next.insert(name.to_owned(), known.clone());
        let directory = self.directory_of(&next).map_err(RosterError::Conflict)?;
        let policies = self.policies()?;
        let prepared = policies.prepare(name, &known.tenant, &known.source, Occasion::Change)?;
        keep(policies, &prepared)?;
        self.kept.write(name, text).map_err(|error| RosterError::Disk(name.to_owned(), error))?;
        self.take_effect(next, directory, vec![prepared], &[name]);
        Ok(!everybody.contains_key(name))
    }

    /// Removes a tenant that was added at run time. What is stored for its users stays, and so does what is kept of its
    /// policy, unless that is to go: then the tenant may be gone already. Blocks.
    ///
    /// # Errors
    /// [`RosterError`]
    pub fn remove(&self, name: &str, policy_too: bool) -> Result<(), RosterError> {
        let _turn = self.turn();
        let everybody = self.known.load_full();
        match everybody.get(name) {
            None if policy_too => return self.forget_policy(name),
            None => return Err(RosterError::Unknown(name.to_owned())),
            Some(known) if known.origin == Origin::File => {
                let file = self.file();
                let text = format!("tenants.{name} is in {file}: expected that it is removed there, and a reload");
                return Err(RosterError::Conflict(text));
            }
            Some(_) => {}
        }
        let mut next = Everybody::clone(&everybody);
        next.remove(name);
        let directory = self.directory_of(&next).map_err(RosterError::Conflict)?;
        self.kept.remove(name).map_err(|error| RosterError::Disk(name.to_owned(), error))?;
        self.take_effect(next, directory, Vec::new(), &[name]);
        if policy_too { self.forget_policy(name) } else { Ok(()) }
    }

    fn forget_policy(&self, name: &str) -> Result<(), RosterError> {
        let forgotten = self.policies()?.platform().forget(&TenantName(name.into()));
        forgotten.map_err(|error| RosterError::Disk(name.to_owned(), error))
    }

    /// Reads the configuration file again. Blocks.
    ///
    /// # Errors
    /// [`RosterError`]
    pub fn reload(&self) -> Result<Reloaded, RosterError> {
        let reloaded = self.read_again();
        self.shared.metrics.count_reload(reloaded.is_ok());
        reloaded
    }

    fn read_again(&self) -> Result<Reloaded, RosterError> {
        let _turn = self.turn();
        let path = self.running.source.path().ok_or(RosterError::NoFile)?;
        let configuration = Configuration::read(path)?;
        let everybody = self.known.load_full();
        let mut next: Everybody = of_file(&configuration);
        for (name, known) in everybody.iter().filter(|(_, known)| known.origin == Origin::Kept) {
            if next.contains_key(name) {
                return Err(RosterError::Conflict(format!(
                    "{}: tenants.{name} was added at run time: expected another name, or remove it first",
                    configuration.source.place(&["tenants", name])
                )));
            }
            next.insert(name.clone(), known.clone());
        }
        check_claims(&by_name(&next)).map_err(|wrong| RosterError::Conflict(wrong.placed(&configuration.source)))?;
        let directory = self.directory_of(&next).map_err(RosterError::Conflict)?;
        let mut reloaded = Reloaded { warnings: configuration.warnings(), ..Reloaded::default() };
        for table in self.running.fixed_tables_changed(&configuration) {
            let text = format!("{table} is not what the server runs with: it takes effect at the next start");
            reloaded.warnings.push(text);
        }
        let mut to_load = Vec::new();
        for (name, known) in next.iter().filter(|(_, known)| known.origin == Origin::File) {
            match everybody.get(name) {
                None => reloaded.added.push(name.clone()),
                Some(before) if before.tenant != known.tenant => reloaded.changed.push(name.clone()),
                // The file of its component may be another one.
                Some(_) if !known.tenant.has_standard_policy() => {}
                Some(_) => continue,
            }
            to_load.push((name.as_str(), &*known.tenant, &known.source));
        }
        reloaded.removed = everybody.keys().filter(|name| !next.contains_key(*name)).cloned().collect();
        let policies = self.policies()?;
        let generations = || -> BTreeMap<String, u64> {
            policies.platform().activations().into_iter().map(|it| (it.tenant.to_string(), it.generation)).collect()
        };
        let before = generations();
        let prepared = policies.prepare_all(&to_load, Occasion::Change)?;
        prepared.iter().try_for_each(|prepared| keep(policies, prepared))?;
        let changed = [&reloaded.added, &reloaded.changed, &reloaded.removed].into_iter().flatten();
        let changed: Vec<&str> = changed.map(String::as_str).collect();
        self.take_effect(next.clone(), directory, prepared, &changed);
        let is_another = |(name, number): &(String, u64)| before.get(name).is_some_and(|before| before != number);
        reloaded.policies = generations().into_iter().filter(is_another).collect();
        Ok(reloaded)
    }

    /// What is checked and loaded holds from now on.
    fn take_effect(&self, next: Everybody, directory: Tenants, prepared: Vec<Prepared>, changed: &[&str]) {
        let shared = &self.shared;
        let everybody = self.known.load_full();
        let Some(policies) = shared.policies.get() else { return };
        prepared.into_iter().for_each(|prepared| policies.activate(prepared));
        let aliases_before: HashSet<RecipientKey> = shared.directory.configured_aliases().into_iter().collect();
        shared.directory.replace(directory);
        shared.directory.tenants().iter().for_each(|it| shared.metrics.begin_tenant(&it.name, it.digest.is_demanded));
        let names: HashSet<TenantName> = changed.iter().map(|name| TenantName((*name).into())).collect();
        names.iter().filter(|name| !next.contains_key(&*name.0)).for_each(|name| policies.remove(name));
        let added: HashSet<TenantName> =
            names.iter().filter(|name| !everybody.contains_key(&*name.0)).cloned().collect();
        self.known.store(Arc::new(next));
        for name in changed {
            tracing::info!(
                tenant = name,
                served = shared.directory.serves(&TenantName((*name).into())),
                "tenant changed"
            );
        }
        self.names_changed(&aliases_before, &names);
        let names = Arc::new(names);
        shared.to_all_shards(|| ToShard::TenantsChanged(names.clone()));
        let with_something = |name: &TenantName| {
            let store = &shared.store;
            store.tenant_totals(name).messages > 0 || store.tenant_dispositions(name).messages > 0
        };
        let returned: HashSet<TenantName> = added.into_iter().filter(with_something).collect();
        self.look_at_waiting(&returned, ToShard::ServedAgain);
        // It may be said only now whom to ask about those for whom something waits.
        let asks = |name: &&TenantName| {
            shared.directory.tenant(name).is_some_and(|tenant| tenant.registration_events.is_some())
        };
        let watching = names.iter().filter(asks).cloned().collect();
        self.look_at_waiting(&watching, ToShard::Watch);
    }

    /// Names that the configuration gives to somebody now are released; those that it gives to nobody any more are
    /// whose the profiles say.
    fn names_changed(&self, before: &HashSet<RecipientKey>, tenants: &HashSet<TenantName>) {
        let shared = &self.shared;
        let now: HashSet<RecipientKey> = shared.directory.configured_aliases().into_iter().collect();
        if now == *before {
            return;
        }
        match shared.store.profiles() {
            Ok(profiles) => {
                shared
                    .directory
                    .load(profiles.into_iter().filter(|(user, _)| tenants.contains(&user.tenant)).collect());
            }
            Err(error) => tracing::error!(%error, "cannot read the users' names"),
        }
        for name in now.difference(before) {
            shared.to_recipient(name, ToShard::Release(name.clone()));
        }
    }

    /// Tells shards of their users of these tenants for whom something is stored.
    fn look_at_waiting(&self, tenants: &HashSet<TenantName>, order: impl Fn(Vec<RecipientKey>) -> ToShard) {
        if tenants.is_empty() {
            return;
        }
        let shared = &self.shared;
        let mut after = None;
        loop {
            let page = match shared.store.recipients(after, RECIPIENT_PAGE) {
                Ok(page) => page,
                Err(error) => return tracing::error!(%error, "cannot list the recipients with waiting messages"),
            };
            let Some((last, _)) = page.last() else { return };
            after = Some(*last);
            let mut shards: Vec<Vec<RecipientKey>> = (0..shared.shards()).map(|_| Vec::new()).collect();
            for (_, key) in page.into_iter().filter(|(_, key)| tenants.contains(&key.tenant)) {
                if let Some(keys) = shards.get_mut(shard_of(&key, shared.shards())) {
                    keys.push(key);
                }
            }
            for (shard, keys) in shards.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                let bytes = keys.len().saturating_mul(64);
                let _ = shared.push(shard, Lane::Ordered, order(keys), bytes);
            }
        }
    }

    fn directory_of(&self, everybody: &Everybody) -> Result<Tenants, String> {
        self.shared.directory.prepare(&by_name(everybody))
    }

    fn policies(&self) -> Result<&ConfiguredPolicies, RosterError> {
        let missing = || RosterError::Invalid("the server is starting: expected that it serves".to_owned());
        self.shared.policies.get().ok_or_else(missing)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> String {
        let path = self.running.source.path().map(Path::display);
        path.map_or_else(|| "the configuration".to_owned(), |path| path.to_string())
    }
}

fn keep(policies: &ConfiguredPolicies, prepared: &Prepared) -> Result<(), RosterError> {
    policies
        .keep(prepared)
        .map_err(|(tenant, error)| RosterError::Disk(format!("the policy of tenants.{tenant}"), error))
}

/// A domain or number that another tenant has already.
fn check_claim(everybody: &Everybody, name: &str, tenant: &Tenant) -> Result<(), RosterError> {
    for (other, known) in everybody.iter().filter(|(other, _)| *other != name) {
        let pairs = [(&tenant.domains, &known.tenant.domains), (&tenant.numbers, &known.tenant.numbers)];
        for (claims, theirs) in pairs {
            if let Some(claim) = claims.iter().find(|claim| theirs.iter().any(|it| it.eq_ignore_ascii_case(claim))) {
                let text =
                    format!("tenants.{name}: {claim:?} already belongs to tenants.{other}: expected another one");
                return Err(RosterError::Conflict(text));
            }
        }
    }
    Ok(())
}

fn of_file(configuration: &Configuration) -> Everybody {
    let known = |tenant: &Tenant| Known {
        tenant: Arc::new(tenant.clone()),
        origin: Origin::File,
        source: configuration.source.clone(),
    };
    configuration.tenants.iter().map(|(name, tenant)| (name.clone(), known(tenant))).collect()
}

fn by_name(everybody: &Everybody) -> BTreeMap<String, &Tenant> {
    everybody.iter().map(|(name, known)| (name.clone(), &*known.tenant)).collect()
}
