//! Who is whose: domains and numbers to tenants, names to users, peers to trust.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use restante_sip::identity::canonical;
use restante_sip::uri::Uri;

use crate::configuration::{AddressRange, Configuration, Tenant};

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

/// All tenants and names. Lookups take no lock.
pub struct Directory {
    tenants: Vec<Arc<TenantEntry>>,
    domains: HashMap<String, Arc<TenantEntry>>,
    /// Longest first.
    numbers: Vec<(String, Arc<TenantEntry>)>,
    configured: HashMap<String, CanonicalAddress>,
    /// Names that users registered or an operator set at run time.
    learnt: ArcSwap<HashMap<String, CanonicalAddress>>,
}

impl Directory {
    /// From the configuration.
    ///
    /// # Errors
    /// An alias that is no address, with its place.
    pub fn new(configuration: &Configuration) -> Result<Directory, String> {
        let mut directory = Directory {
            tenants: Vec::new(),
            domains: HashMap::new(),
            numbers: Vec::new(),
            configured: HashMap::new(),
            learnt: ArcSwap::default(),
        };
        for (name, tenant) in &configuration.tenants {
            directory.add(name, tenant)?;
        }
        directory.numbers.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(directory)
    }

    fn add(&mut self, name: &str, tenant: &Tenant) -> Result<(), String> {
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
        for (alias, address) in &tenant.aliases {
            let parse = |text: &str| {
                Uri::parse(text).ok().and_then(|uri| canonical(&uri)).ok_or_else(|| {
                    format!("tenants.{name}.aliases: {text:?} is no address: expected sip:USER@DOMAIN or tel:+NUMBER")
                })
            };
            self.configured.insert(parse(alias)?, CanonicalAddress(parse(address)?.into()));
        }
        self.tenants.push(entry);
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
        let address = self.resolve(&name);
        let owner = match &address {
            Some(address) => Uri::parse(&address.0).ok().and_then(|uri| self.tenant_of(&uri)),
            None => None,
        };
        let tenant = owner.or_else(|| self.tenant_of(uri))?;
        let address = address.unwrap_or_else(|| CanonicalAddress(name.into()));
        Some((tenant, RecipientKey { tenant: tenant.name.clone(), address }))
    }

    /// The canonical address of a user, served here or not.
    #[must_use]
    pub fn address(&self, uri: &Uri) -> Option<CanonicalAddress> {
        let name = canonical(uri)?;
        Some(self.resolve(&name).unwrap_or_else(|| CanonicalAddress(name.into())))
    }

    /// Learns further names of users.
    pub fn learn(&self, names: &[(String, CanonicalAddress)]) {
        let known = self.learnt.load();
        if names.iter().all(|(alias, address)| known.get(alias) == Some(address)) {
            return;
        }
        self.learnt.rcu(|known| {
            let mut grown = HashMap::clone(known);
            grown.extend(names.iter().cloned());
            grown
        });
    }

    fn resolve(&self, name: &str) -> Option<CanonicalAddress> {
        self.configured.get(name).cloned().or_else(|| self.learnt.load().get(name).cloned())
    }

    fn tenant_of_number(&self, uri: &Uri) -> Option<&Arc<TenantEntry>> {
        let number = canonical(uri)?;
        self.numbers.iter().find(|(prefix, _)| number.starts_with(prefix.as_str())).map(|(_, tenant)| tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let mut configuration = Configuration::default();
        let tenant = configuration.tenants.get_mut("example").unwrap();
        tenant.numbers = vec!["+1555".to_owned()];
        tenant.aliases.insert("tel:+1-555-0001".to_owned(), "sip:bob@example.org".to_owned());
        Directory::new(&configuration).unwrap()
    }

    #[test]
    fn every_name_reaches_one_queue() {
        let directory = directory();
        directory.learn(&[("sip:robert@example.org".to_owned(), CanonicalAddress("sip:bob@example.org".into()))]);
        for name in [
            "sip:bob@EXAMPLE.org;transport=tcp",
            "tel:+15550001",
            "sip:+15550001@elsewhere.net;user=phone",
            "sip:robert@example.org",
        ] {
            let (_, key) = directory.served(&Uri::parse(name).unwrap()).unwrap();
            assert_eq!(&*key.address.0, "sip:bob@example.org", "{name}");
        }
    }

    #[test]
    fn others_are_not_served() {
        let directory = directory();
        for name in ["sip:bob@other.org", "tel:+4412345", "sip:example.org", "urn:x:y"] {
            assert!(directory.served(&Uri::parse(name).unwrap()).is_none(), "{name}");
        }
        let (tenant, key) = directory.served(&Uri::parse("tel:+1555777").unwrap()).unwrap();
        assert_eq!((&*tenant.name.0, &*key.address.0), ("example", "tel:+1555777"));
    }
}
