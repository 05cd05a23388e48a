//! The tenants of one moment, and what the configuration says of names.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use restante_deferral::participating_function::{Limits as DeferralLimits, ReportKey};
use restante_sip::authentication::{QualityOfProtection, Variant};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;
use restante_transport::PeerNames;

use super::super::limits::deferral_limits;
use super::super::usage::Usage;
use crate::configuration::{AuthenticationMethod, Limits, RegistrationEvents, Tenant, TenantBounds, TrustedPeer};

/// A tenant as requests see it.
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
    /// Whom to ask about registrations.
    pub registration_events: Option<RegistrationEvents>,
    /// Hand-over targets.
    pub hand_over: HashMap<String, String>,
    /// What holds for it.
    pub bounds: TenantBounds,
    /// What it uses at this moment.
    pub usage: Arc<Usage>,
    /// Bounds of its users' machines.
    pub deferral: Arc<DeferralLimits>,
    /// What users authenticate with.
    pub digest: DigestRealm,
    trust: Box<[TrustedPeer]>,
}

/// By what a peer may be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address that it sends from; none where that says nothing of who sends.
    pub address: Option<IpAddr>,
    /// The domains that TLS has shown it to be.
    pub names: PeerNames,
}

/// How a tenant's users authenticate by Digest.
pub struct DigestRealm {
    /// Those who do not come from a trusted address must; else they are refused.
    pub is_demanded: bool,
    /// Whose passwords are asked for.
    pub realm: Arc<str>,
    /// Preferred first.
    pub algorithms: Box<[Variant]>,
    /// What the hash may be over.
    pub qualities: Box<[QualityOfProtection]>,
    /// A username may come as its hash.
    pub takes_user_hash: bool,
    /// Answers have Authentication-Info.
    pub gives_info: bool,
}

impl TenantEntry {
    /// Whether a peer may send for any user.
    #[must_use]
    pub fn trusts(&self, peer: &Peer) -> bool {
        let is_it = |trusted: &TrustedPeer| {
            peer.address.is_some_and(|address| trusted.is_at(address)) || trusted.is_one_of(&peer.names)
        };
        self.trust.iter().any(is_it)
    }
}

/// What all tenants have of their server.
#[derive(Clone, Copy)]
pub(super) struct OfServer<'a> {
    pub(super) limits: &'a Limits,
    pub(super) report_key: &'a ReportKey,
}

/// The tenants of one moment. Never changed.
#[derive(Default)]
pub struct Tenants {
    by_name: BTreeMap<TenantName, Arc<TenantEntry>>,
    domains: HashMap<String, Arc<TenantEntry>>,
    numbers: HashMap<String, Arc<TenantEntry>>,
    /// Lengths that their prefixes have, longest first.
    number_lengths: Vec<usize>,
    configured: HashMap<String, RecipientKey>,
    /// The same the other way about.
    configured_names: HashMap<RecipientKey, Vec<String>>,
}

impl Tenants {
    /// From the configuration of each; `usage_of` gives what counts its use.
    pub(super) fn new<T: Borrow<Tenant>>(
        configured: &BTreeMap<String, T>,
        server: OfServer<'_>,
        usage_of: impl Fn(&TenantName, &TenantBounds) -> Arc<Usage>,
    ) -> Result<Tenants, String> {
        let mut tenants = Tenants::default();
        for (name, tenant) in configured {
            tenants.add(name, tenant.borrow(), server, &usage_of);
        }
        tenants.number_lengths = tenants.numbers.keys().map(String::len).collect();
        tenants.number_lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        tenants.number_lengths.dedup();
        for (name, tenant) in configured {
            let tenant: &Tenant = tenant.borrow();
            for (alias, address) in &tenant.aliases {
                let added = tenants.add_alias(name, alias, address);
                added.map_err(|problem| format!("tenants.{name}.aliases: {problem}"))?;
            }
        }
        // Whose a name is, is found in one step.
        match tenants.configured.iter().find(|(_, user)| tenants.configured.contains_key(&*user.address.0)) {
            Some((alias, user)) => Err(format!(
                "aliases: {:?} is an alias itself: give {alias:?} the address that it stands for",
                user.address.0
            )),
            None => Ok(tenants),
        }
    }

    fn add(
        &mut self,
        name: &str,
        tenant: &Tenant,
        server: OfServer<'_>,
        usage_of: impl Fn(&TenantName, &TenantBounds) -> Arc<Usage>,
    ) {
        let name = TenantName(name.into());
        let bounds = tenant.limits.bounds(server.limits);
        let domain = tenant.domains.first().map(|domain| domain.to_ascii_lowercase()).unwrap_or_default();
        let realm = tenant.digest.realm.as_deref().unwrap_or(&domain).into();
        let entry = Arc::new(TenantEntry {
            usage: usage_of(&name, &bounds),
            deferral: Arc::new(deferral_limits(server.limits, tenant, &domain, server.report_key)),
            name,
            domain: domain.into(),
            registrar: tenant.registrar,
            deferred_user: tenant.deferred_user.as_str().into(),
            unsolicited_notify: tenant.unsolicited_notify,
            registration_events: tenant.registration_events.clone(),
            hand_over: tenant.hand_over.clone().into_iter().collect(),
            bounds,
            digest: DigestRealm {
                is_demanded: tenant.authentication == AuthenticationMethod::Digest,
                realm,
                algorithms: tenant.digest.algorithms.iter().map(|algorithm| algorithm.0).collect(),
                qualities: tenant.digest.qop.iter().map(|quality| quality.0).collect(),
                takes_user_hash: tenant.digest.userhash,
                gives_info: tenant.digest.authentication_info,
            },
            trust: tenant.trust.as_slice().into(),
        });
        for domain in &tenant.domains {
            self.domains.insert(domain.to_ascii_lowercase(), entry.clone());
        }
        for prefix in &tenant.numbers {
            self.numbers.insert(format!("tel:{prefix}"), entry.clone());
        }
        self.by_name.insert(entry.name.clone(), entry);
    }

    fn add_alias(&mut self, tenant: &str, alias: &str, address: &str) -> Result<(), String> {
        let parse = |text: &str| {
            let uri = Uri::parse(text).ok();
            let name = uri.as_ref().and_then(canonical);
            uri.zip(name).ok_or_else(|| format!("{text:?} is not an address: expected sip:USER@DOMAIN or tel:+NUMBER"))
        };
        let ((alias_uri, name), (uri, address)) = (parse(alias)?, parse(address)?);
        let tenant = TenantName(tenant.into());
        // A tenant says nothing of another's users.
        for (text, uri) in [(alias, &alias_uri), (&*address, &uri)] {
            if let Some(other) = self.of(uri).filter(|other| other.name != tenant) {
                return Err(format!(
                    "{text:?} belongs to tenant {}: expected a name that no other tenant has",
                    other.name
                ));
            }
        }
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

    /// All, in order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<TenantEntry>> {
        self.by_name.values()
    }

    pub(super) fn by_name(&self, name: &TenantName) -> Option<&Arc<TenantEntry>> {
        self.by_name.get(name)
    }

    /// Whose a URI's domain or number is.
    pub(super) fn of(&self, uri: &Uri) -> Option<&Arc<TenantEntry>> {
        match uri {
            Uri::Sip(sip) => self.domains.get(&sip.host.to_ascii_lowercase()).or_else(|| self.of_number(uri)),
            Uri::Tel(_) => self.of_number(uri),
            Uri::Other(..) => None,
        }
    }

    fn of_number(&self, uri: &Uri) -> Option<&Arc<TenantEntry>> {
        let number = canonical(uri)?;
        let of_length = |length: &usize| self.numbers.get(number.get(..*length)?);
        self.number_lengths.iter().find_map(of_length)
    }

    /// Whose a name is by the configuration.
    pub(super) fn configured(&self, name: &str) -> Option<&RecipientKey> {
        self.configured.get(name)
    }

    /// Further names that the configuration gives to a user.
    pub(super) fn configured_names(&self, user: &RecipientKey) -> &[String] {
        self.configured_names.get(user).map(Vec::as_slice).unwrap_or_default()
    }

    /// All names that the configuration gives to users.
    pub(super) fn configured_aliases(&self) -> impl Iterator<Item = RecipientKey> {
        let name = |(alias, user): (&String, &RecipientKey)| RecipientKey {
            tenant: user.tenant.clone(),
            address: CanonicalAddress(alias.as_str().into()),
        };
        self.configured.iter().map(name)
    }
}
