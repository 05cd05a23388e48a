//! Whether the parts of a configuration fit together.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use restante_sip::message::Name;

use super::{Configuration, HostPort, MsrpOffer, Protocol, Source, Tenant};

impl Configuration {
    /// # Errors
    /// [`Wrong`]
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.sip.listen.is_empty() {
            let text = "sip.listen is empty: expected at least one address such as \"udp:127.0.0.1:5060\"";
            return Err(wrong(&["sip", "listen"], text));
        }
        if self.msrp.listen.iter().any(|listen| !matches!(listen.protocol, Protocol::Tcp | Protocol::Tls)) {
            let text = "msrp.listen: MSRP runs over TCP, expected \"tcp:HOST:PORT\" or \"tls:HOST:PORT\"";
            return Err(wrong(&["msrp", "listen"], text));
        }
        if self.msrp.web_socket_listen.iter().any(|listen| !listen.protocol.is_web_socket()) {
            let text = "msrp.web_socket_listen: expected \"ws:HOST:PORT\" or \"wss:HOST:PORT\"";
            return Err(wrong(&["msrp", "web_socket_listen"], text));
        }
        if let Some(offer) = self.msrp.offer
            && !self.msrp.listen.iter().any(|listen| listen.protocol.is_encrypted() == (offer == MsrpOffer::Tls))
        {
            let text = "msrp.offer: msrp.listen has no listener of that kind";
            return Err(wrong(&["msrp", "offer"], text));
        }
        for (key, listen, advertise) in [
            ("sip", &self.sip.listen, self.sip.advertise.is_some()),
            ("msrp", &self.msrp.listen, self.msrp.advertise.is_some()),
        ] {
            if let Some(open) = listen.iter().find(|listen| listen.socket.ip().is_unspecified() && !advertise) {
                let text = format!(
                    "{key}.listen: {open} listens on every address of this machine, and peers must be told one: \
                     expected {key}.advertise with a name or address"
                );
                return Err(wrong(&[key, "listen"], text));
            }
        }
        for name in &self.sip.keep_headers {
            if !may_be_kept(name) {
                let text = format!(
                    "sip.keep_headers: {name:?}: expected the name of a header field that this server does not write itself"
                );
                return Err(wrong(&["sip", "keep_headers"], text));
            }
        }
        if let Some((index, origin)) = self.sip.web_origins.iter().flatten().enumerate().find(|(_, it)| !is_origin(it))
        {
            let text = format!(
                "sip.web_origins: {origin:?}: expected what browsers name in Origin, such as \"https://phone.example.org\""
            );
            return Err(wrong(&["sip", "web_origins", &index.to_string()], text));
        }
        self.tls.check("sip", &self.sip.listen)?;
        self.tls.check("msrp", &self.msrp.listen)?;
        self.tls.check("msrp", &self.msrp.web_socket_listen)?;
        self.limits.check().map_err(|(key, text)| wrong(&["limits", key], text))?;
        for (name, tenant) in &self.tenants {
            tenant.check(name, &self.limits)?;
        }
        check_claims(&self.tenants)
    }
}

/// What a message says of itself, and not of the way it took or of who sent it.
fn may_be_kept(name: &str) -> bool {
    let is_token =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte));
    // Those that have a meaning here are kept, or made anew, or were meant for us.
    is_token && Name::from_bytes(name.as_bytes()) == Name::Other && !name.to_ascii_lowercase().starts_with("p-")
}

/// A scheme, a host and perhaps a port (RFC 6454 §6.1), and nothing behind them.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| rest.parse::<HostPort>().is_ok())
}

/// No two tenants have a domain or a number prefix in common.
pub(crate) fn check_claims<T: Borrow<Tenant>>(tenants: &BTreeMap<String, T>) -> Result<(), Wrong> {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, tenant) in tenants {
        let tenant: &Tenant = tenant.borrow();
        for (key, claims) in [("domains", &tenant.domains), ("numbers", &tenant.numbers)] {
            for (index, claim) in claims.iter().enumerate() {
                if let Some(other) = owners.insert(claim.to_ascii_lowercase(), name) {
                    let text = format!("tenants.{name}: {claim:?} already belongs to tenants.{other}");
                    return Err(wrong(&["tenants", name, key, &index.to_string()], text));
                }
            }
        }
    }
    Ok(())
}

/// A value that cannot be, and the keys that lead to it.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) keys: Vec<String>,
    pub(crate) text: String,
}

impl Wrong {
    /// With its place in the text that it came from.
    pub(crate) fn placed(&self, source: &Source) -> String {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        format!("{}: {}", source.place(&keys), self.text)
    }
}

pub(crate) fn wrong(keys: &[&str], text: impl Into<String>) -> Wrong {
    Wrong { keys: keys.iter().map(|key| (*key).to_owned()).collect(), text: text.into() }
}
