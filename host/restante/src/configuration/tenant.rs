//! `[tenants.NAME]`: whose users are served, and how.

use std::collections::BTreeMap;
use std::path::Path;

use restante_policy::{FailurePolicy, Hook};
use restante_sip::uri::Uri;
use restante_transport::resolution::Wanted;
use serde::{Deserialize, Serialize};

use crate::signatures::Signers;

use super::{AddressRange, AuthenticationMethod, Digest, Limits, Protocol, TenantLimits, TrustedPeer, Wrong, wrong};

/// `[tenants.NAME]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Domains whose users are served.
    pub domains: Vec<String>,
    /// Global number prefixes whose `tel:` addresses are this tenant's, for example `+1555`.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Who tells of registrations of users that register elsewhere (RFC 3680).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_events: Option<RegistrationEvents>,
    /// Accept REGISTER of the users themselves.
    #[serde(default = "yes")]
    pub registrar: bool,
    /// Peers that may send for any user, and whose third-party REGISTER and asserted identities count.
    #[serde(default)]
    pub trust: Vec<TrustedPeer>,
    /// What is asked of those who are not in `trust`.
    #[serde(default)]
    pub authentication: AuthenticationMethod,
    /// `standard`, or a path to a component.
    #[serde(default = "standard")]
    pub policy: String,
    /// User part of the URI that clients fetch from: `sip:deferred@DOMAIN`.
    #[serde(default = "deferred")]
    pub deferred_user: String,
    /// Send NOTIFY without a subscription where nothing else can announce (outside RFC 6665).
    #[serde(default)]
    pub unsolicited_notify: bool,
    /// Who has to sign the policy: ed25519 public keys in base64. None: nobody.
    #[serde(default)]
    pub signers: Vec<String>,
    /// Settings of the policy.
    #[serde(default)]
    pub settings: toml::Table,
    /// What happens when the policy does not decide, by hook: `default`, `previous` or `refuse`.
    #[serde(default)]
    pub failure: BTreeMap<Hook, FailurePolicy>,
    /// Further names of users: alias to address.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Named targets that a policy may hand messages to: name to SIP URI, its host an address or a name (RFC 3263).
    #[serde(default)]
    pub hand_over: BTreeMap<String, String>,
    /// How Digest is asked for.
    #[serde(default)]
    pub digest: Digest,
    /// Its share of the server.
    #[serde(default)]
    pub limits: TenantLimits,
}

/// `[tenants.NAME.registration_events]`: whom to ask about registrations.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationEvents {
    /// SIP URI that subscriptions go through, and deliveries to whom they tell of, where no third-party REGISTER named
    /// a core.
    pub via: String,
    /// SIP URI as whom to subscribe; none: `sip:` and the tenant's first domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How long a subscription is asked for, in seconds, 60 to 604800.
    #[serde(default = "two_hours", deserialize_with = "super::number::small")]
    pub expires_seconds: u32,
}

impl RegistrationEvents {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let is_sip = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.as_sip().is_some_and(|uri| uri.headers.is_none()));
        if !is_sip(&self.via) {
            return Err((
                "via",
                format!("{:?}: expected a SIP URI, such as \"sip:192.0.2.9:5060;transport=tcp\"", self.via),
            ));
        }
        if let Some(identity) = self.identity.as_deref().filter(|identity| !is_sip(identity)) {
            return Err((
                "identity",
                format!("{identity:?}: expected a SIP URI, such as \"sip:restante.example.org\""),
            ));
        }
        match self.expires_seconds {
            60..=604_800 => Ok(()),
            other => Err(("expires_seconds", format!("{other}: expected 60 to 604800"))),
        }
    }
}

fn two_hours() -> u32 {
    7_200
}

fn yes() -> bool {
    true
}

fn standard() -> String {
    restante_policy::standard::NAME.to_owned()
}

fn deferred() -> String {
    "deferred".to_owned()
}

impl Tenant {
    /// Whether its policy is the one that is built in.
    #[must_use]
    pub fn has_standard_policy(&self) -> bool {
        self.policy == restante_policy::standard::NAME
    }

    /// The tenant of a server without a configuration: `example.org` on loopback.
    #[must_use]
    pub fn example() -> Tenant {
        Tenant {
            domains: vec!["example.org".to_owned()],
            numbers: Vec::new(),
            registration_events: None,
            registrar: true,
            trust: vec![AddressRange::loopback_v4().into(), AddressRange::loopback_v6().into()],
            authentication: AuthenticationMethod::Trust,
            policy: standard(),
            deferred_user: deferred(),
            unsolicited_notify: false,
            signers: Vec::new(),
            settings: toml::Table::new(),
            failure: BTreeMap::new(),
            aliases: BTreeMap::new(),
            hand_over: BTreeMap::new(),
            digest: Digest::default(),
            limits: TenantLimits::default(),
        }
    }

    /// Whether the values can be, on a server with these limits.
    pub(crate) fn check(&self, name: &str, server: &Limits) -> Result<(), Wrong> {
        if self.domains.is_empty() {
            let text = format!("tenants.{name}.domains is empty: expected at least one domain");
            return Err(wrong(&["tenants", name, "domains"], text));
        }
        let is_of_host = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_' | ':' | '[' | ']');
        let is_domain = |domain: &str| !domain.is_empty() && domain.chars().all(is_of_host);
        let is_prefix = |number: &str| {
            number.strip_prefix('+').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|it| it.is_ascii_digit()))
        };
        if let Some((index, domain)) = self.domains.iter().enumerate().find(|(_, domain)| !is_domain(domain)) {
            let text = format!("tenants.{name}.domains: {domain:?}: expected a host name, such as \"example.org\"");
            return Err(wrong(&["tenants", name, "domains", &index.to_string()], text));
        }
        if let Some((index, number)) = self.numbers.iter().enumerate().find(|(_, number)| !is_prefix(number)) {
            let text = format!("tenants.{name}.numbers: {number:?}: expected + and digits, such as \"+1555\"");
            return Err(wrong(&["tenants", name, "numbers", &index.to_string()], text));
        }
        if !self.has_standard_policy() && !Path::new(&self.policy).is_file() {
            let text = format!(
                "tenants.{name}.policy: there is no file {:?}: expected \"standard\" or the path of a component",
                self.policy
            );
            return Err(wrong(&["tenants", name, "policy"], text));
        }
        if let Some((target, uri)) = self.hand_over.iter().find(|(_, uri)| !is_target(uri)) {
            let text = format!(
                "tenants.{name}.hand_over.{target}: {uri:?}: expected a SIP URI whose host is an address or a name, \
                 such as \"sip:192.0.2.9:5060;transport=tcp\""
            );
            return Err(wrong(&["tenants", name, "hand_over", target], text));
        }
        if let Some(Err((key, text))) = self.registration_events.as_ref().map(RegistrationEvents::check) {
            let text = format!("tenants.{name}.registration_events.{key}: {text}");
            return Err(wrong(&["tenants", name, "registration_events", key], text));
        }
        Signers::parse(&self.signers)
            .map_err(|text| wrong(&["tenants", name, "signers"], format!("tenants.{name}.signers: {text}")))?;
        self.digest.check().map_err(|(key, text)| {
            wrong(&["tenants", name, "digest", key], format!("tenants.{name}.digest.{key}: {text}"))
        })?;
        self.limits.check(server).map_err(|(key, text)| {
            wrong(&["tenants", name, "limits", key], format!("tenants.{name}.limits.{key}{text}"))
        })
    }
}

/// Whether requests can be sent there: over a transport that we connect with, to an address or a name that the DNS
/// could know.
fn is_target(text: &str) -> bool {
    let Ok(uri) = Uri::parse(text) else { return false };
    let transport = uri.parameter("transport").map(|name| name.to_ascii_lowercase().parse::<Protocol>());
    let is_spoken = transport.is_none_or(|protocol| protocol.is_ok_and(|protocol| !protocol.is_web_socket()));
    // A name does not end in a number (RFC 3261 §25.1, `toplabel`): that is an address with a mistake in it.
    let ends_in_letters =
        |host: &str| host.rsplit('.').next().is_some_and(|label| !label.bytes().all(|it| it.is_ascii_digit()));
    let is_host = |host: &str| {
        Wanted::new(host, None, None).is_some_and(|wanted| wanted.place().is_some() || ends_in_letters(wanted.host()))
    };
    is_spoken && uri.as_sip().is_some_and(|sip| sip.headers.is_none() && is_host(&sip.host))
}
