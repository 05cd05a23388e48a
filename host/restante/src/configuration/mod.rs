//! What the operator configures: one TOML file, every key with a default.
//!
//! Unknown keys and values that cannot be are errors with line and column: each value is parsed into the type that the
//! server uses while the file is read, so that the place is known.

mod address;
mod authentication;
mod limits;
mod msrp_relay;
mod source;
mod tenant;
mod tenant_limits;
mod tls;
mod trust;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use restante_sip::message::Name;
use restante_sip::uri::Uri;
use serde::Deserialize;
use thiserror::Error;

pub use address::{AddressRange, HostPort, ListenAddress, NextHop, Protocol, Target};
pub use authentication::{AuthenticationMethod, Digest, DigestAlgorithm, DigestQuality};
pub use limits::Limits;
pub use msrp_relay::{MsrpRelay, RelayUri};
pub use source::Source;
pub use tenant::{RegistrationEvents, Tenant};
pub use tenant_limits::{TenantBounds, TenantLimits};
pub use tls::{AskedCertificates, Tls};
pub use trust::TrustedPeer;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file does not say what it should; line and column are in the message.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        reason: Box<toml::de::Error>,
    },
    /// The parts do not fit together.
    #[error("{place}: {text}")]
    Inconsistent {
        /// File, line and column.
        place: String,
        /// What is wrong and what was expected.
        text: String,
    },
}

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Directory of everything that survives.
    pub data: PathBuf,
    /// SIP.
    pub sip: Sip,
    /// MSRP.
    pub msrp: Msrp,
    /// Encryption.
    pub tls: Tls,
    /// Administration.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// Bounds of the whole server.
    pub limits: Limits,
    /// Tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// Where this was read from.
    #[serde(skip)]
    pub source: Source,
}

/// `[sip]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// Where to listen.
    pub listen: Vec<ListenAddress>,
    /// Host, or host and port, that Via, Contact and From of our own requests name; default: the listener's address.
    pub advertise: Option<HostPort>,
    /// Next hop of every request of ours; default: the registered contact.
    pub outbound: Option<NextHop>,
    /// Name servers that are asked for the hosts of next hops, `ADDRESS:PORT`; default: the system's.
    pub name_servers: Vec<SocketAddr>,
    /// Every hop is congestion-safe (RFC 3428 §8): MESSAGE requests over 1300 bytes may go by reliable transports.
    pub congestion_safe: bool,
    /// Further places that we may connect to, whoever names them: by default only where the signalling came from, and
    /// loopback where nothing but loopback is listened on. `ADDRESS`, `ADDRESS/BITS` or `ADDRESS:PORT`; one of our own
    /// listeners only with its port.
    pub allow_targets: Option<Vec<Target>>,
    /// Pages that may connect over WebSocket, as browsers name them in Origin, such as `https://phone.example.org`; default:
    /// all, and whoever names none.
    pub web_origins: Option<Vec<String>>,
    /// Header field whose value is taken as the status that an upstream proxy met before it handed the request here.
    pub upstream_failure_header: String,
    /// Further header fields that are stored with a message and delivered with it.
    pub keep_headers: Vec<String>,
}

/// `[msrp]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Msrp {
    /// Where to listen.
    pub listen: Vec<ListenAddress>,
    /// Host, or host and port, that our paths name; default: the listener's address.
    pub advertise: Option<HostPort>,
    /// What our offers are: default `tls` where nothing else is listened for, else `tcp`. Answers follow the offer.
    pub offer: Option<MsrpOffer>,
    /// Behind relays, count as delivered what the first relay took: for receivers that send no success reports.
    pub count_unreported_as_delivered: bool,
    /// Where clients that cannot be connected to open a WebSocket for MSRP (RFC 7977): `ws:HOST:PORT` or `wss:HOST:PORT`.
    pub web_socket_listen: Vec<ListenAddress>,
    /// A relay that all sessions go through.
    pub relay: Option<MsrpRelay>,
}

/// What we offer MSRP over.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum MsrpOffer {
    /// `TCP/MSRP`.
    Tcp,
    /// `TCP/TLS/MSRP`.
    Tls,
}

/// `[admin]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where to listen besides the Unix socket in the data directory: `HOST:PORT`.
    pub listen: Option<std::net::SocketAddr>,
    /// File with the bearer token that TCP requests need; default: `admin.token` in the data directory, made at start.
    pub token_file: Option<PathBuf>,
    /// Further values of `Host` that TCP requests may have: names under which this interface is asked for, with the port.
    pub hosts: Vec<String>,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// A tracing filter, for example `info` or `info,restante::server=debug`.
    pub filter: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            data: PathBuf::from("restante-data"),
            sip: Sip::default(),
            msrp: Msrp::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            log: Log::default(),
            limits: Limits::default(),
            tenants: BTreeMap::from([("example".to_owned(), Tenant::example())]),
            source: Source::default(),
        }
    }
}

impl Default for Sip {
    fn default() -> Self {
        Sip {
            listen: vec![ListenAddress::loopback(Protocol::Udp, 5060), ListenAddress::loopback(Protocol::Tcp, 5060)],
            advertise: None,
            outbound: None,
            name_servers: Vec::new(),
            congestion_safe: false,
            allow_targets: None,
            web_origins: None,
            upstream_failure_header: "X-Upstream-Status".to_owned(),
            keep_headers: Vec::new(),
        }
    }
}

impl Default for Msrp {
    fn default() -> Self {
        Msrp {
            listen: vec![ListenAddress::loopback(Protocol::Tcp, 2855)],
            advertise: None,
            offer: None,
            count_unreported_as_delivered: false,
            web_socket_listen: Vec::new(),
            relay: None,
        }
    }
}

impl Msrp {
    /// Whether our offers are `TCP/TLS/MSRP`.
    #[must_use]
    pub fn offers_tls(&self) -> bool {
        match self.offer {
            Some(offer) => offer == MsrpOffer::Tls,
            None => self.listen.iter().all(|listen| listen.protocol.is_encrypted()),
        }
    }
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigurationError`]: the message names the place and what was expected.
    pub fn read(path: &Path) -> Result<Configuration, ConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigurationError::Unreadable { path: path.to_owned(), reason })?;
        Configuration::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Configuration, ConfigurationError> {
        let mut configuration: Configuration = toml::from_str(text)
            .map_err(|error| ConfigurationError::Invalid { path: path.to_owned(), reason: Box::new(error) })?;
        configuration.source = Source::new(path, text);
        configuration.check().map_err(|Wrong { keys, text }| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            ConfigurationError::Inconsistent { place: configuration.source.place(&keys), text }
        })?;
        Ok(configuration)
    }

    /// Warnings that an operator should see at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.sip.listen.iter().find(|listen| !listen.socket.ip().is_loopback());
        let mut warnings = Vec::new();
        if self.tenants.is_empty() {
            warnings
                .push("the configuration has no tenant: only those that were added at run time are served".to_owned());
        }
        if let Some(open) = open {
            for (name, tenant) in &self.tenants {
                if tenant.trust.iter().any(|peer| matches!(peer, TrustedPeer::Address(_))) {
                    warnings.push(format!(
                        "{open} can be reached from other machines and tenant {name} trusts peers by address alone: \
                         a forged source address over UDP sends for any user; trust them by their certificates, as \
                         \"tls:NAME\", or keep the network in between closed"
                    ));
                }
            }
        }
        let listeners = self.sip.listen.iter().chain(&self.msrp.web_socket_listen);
        let web = listeners.into_iter().find(|listen| listen.protocol.is_web_socket());
        if let Some(web) = web.filter(|_| self.sip.web_origins.is_none()) {
            warnings.push(format!(
                "{web} takes WebSockets from every page that a browser shows: name those whose scripts may connect in \
                 sip.web_origins"
            ));
        }
        warnings.extend(self.one_way_encryption());
        let asks = self.tls.client_certificates != AskedCertificates::None;
        for (name, tenant) in &self.tenants {
            let named = tenant.trust.iter().find(|peer| matches!(peer, TrustedPeer::Name(_)));
            if let Some(named) = named.filter(|_| !asks) {
                warnings.push(format!(
                    "tenant {name} trusts \"{named}\", and peers that connect are not asked for a certificate: \
                     set tls.client_certificates, or only connections that this server makes count"
                ));
            }
        }
        warnings
    }

    /// Where requests go over TLS and nothing over TLS comes back.
    fn one_way_encryption(&self) -> Vec<String> {
        if self.sip.listen.iter().any(|listen| listen.protocol == Protocol::Tls) {
            return Vec::new();
        }
        let is_encrypted = |uri: &str| {
            let Ok(uri) = Uri::parse(uri) else { return false };
            let says_tls = uri.parameter("transport").is_some_and(|name| name.eq_ignore_ascii_case("tls"));
            says_tls || uri.as_sip().is_some_and(|uri| uri.secure)
        };
        let outbound = self.sip.outbound.as_ref().filter(|hop| hop.protocol.is_encrypted());
        let hand_over = self.tenants.iter().flat_map(|(name, tenant)| {
            let targets = tenant.hand_over.iter().filter(move |(_, uri)| is_encrypted(uri));
            targets.map(move |(target, _)| format!("tenants.{name}.hand_over.{target}"))
        });
        let keys = outbound.map(|_| "sip.outbound".to_owned()).into_iter().chain(hand_over);
        let warning = |key| {
            format!(
                "{key} leads over TLS and sip.listen has no \"tls:\" address: what peers send of their own, such as the end of a \
                 session, comes in the clear or not at all"
            )
        };
        keys.map(warning).collect()
    }

    /// The tables that another configuration has otherwise and that take effect only when the server is started again.
    #[must_use]
    pub fn fixed_tables_changed(&self, other: &Configuration) -> Vec<&'static str> {
        let tables = [
            ("data", self.data != other.data),
            ("[sip]", self.sip != other.sip),
            ("[msrp]", self.msrp != other.msrp),
            ("[tls]", self.tls != other.tls),
            ("[admin]", self.admin != other.admin),
            ("[log]", self.log != other.log),
            ("[limits]", self.limits != other.limits),
        ];
        tables.into_iter().filter_map(|(table, is_changed)| is_changed.then_some(table)).collect()
    }

    fn check(&self) -> Result<(), Wrong> {
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
            let text = "msrp.offer: nothing of that kind is listened for, see msrp.listen";
            return Err(wrong(&["msrp", "offer"], text));
        }
        for (key, listen, advertise) in [
            ("sip", &self.sip.listen, self.sip.advertise.is_some()),
            ("msrp", &self.msrp.listen, self.msrp.advertise.is_some()),
        ] {
            if let Some(open) = listen.iter().find(|listen| listen.socket.ip().is_unspecified() && !advertise) {
                let text = format!(
                    "{key}.listen: {open} is every address of this machine, and peers must be told one: \
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
                    let text = format!("tenants.{name}: {claim:?} belongs to tenants.{other} already");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(Path::new("restante.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_example_is_valid() {
        let configuration = parse(
            r#"
            data = "restante-data"
            [sip]
            listen = ["udp:127.0.0.1:5060", "tcp:[::1]:5060"]
            advertise = "sip.example.org"
            outbound = "udp:192.0.2.1:5060"
            [msrp]
            listen = ["tcp:127.0.0.1:2855"]
            web_socket_listen = ["ws:127.0.0.1:8080"]
            [msrp.relay]
            uri = "msrps://relay.example.org:2855;tcp"
            username = "restante"
            password_file = "/etc/restante/relay.password"
            [admin]
            listen = "127.0.0.1:8085"
            [tenants.example]
            domains = ["example.org"]
            trust = ["127.0.0.0/8", "::1"]
            [tenants.example.settings]
            few = 3
            "#,
        )
        .unwrap();
        assert_eq!(configuration.sip.listen[1].to_string(), "tcp:[::1]:5060");
        assert!(configuration.tenants["example"].trust[0].is_at("127.9.9.9".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("[sip]\nlissten = []\n", vec!["line 2, column 1", "unknown field `lissten`", "`listen`"]),
            ("[sip]\nlisten = [\"udp:127.0.0.1\"]\n", vec!["line 2", "expected \"udp:HOST:PORT\""]),
            ("[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"10.0.0.0/33\"]\n", vec!["line 3", "0 to 32"]),
            ("[tenants.a]\n", vec!["line 1", "missing field `domains`"]),
            ("[msrp]\nlisten = [\"udp:127.0.0.1:1\"]\n", vec!["line 2, column 10", "MSRP runs over TCP"]),
            ("[sip]\nlisten = [\"tls:127.0.0.1:5061\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
            ("[sip]\nlisten = [\"wss:127.0.0.1:443\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
            ("[sip]\noutbound = \"ws:192.0.2.1:80\"\n", vec!["line 2", "expected \"udp:HOST:PORT\""]),
            ("[sip]\nweb_origins = [\"https://a.org/\"]\n", vec!["line 2, column 16", "https://phone.example.org"]),
            ("[tls]\ncertificate = \"a.pem\"\n", vec!["line 2, column 15", "expected tls.key beside it"]),
            (
                "[tls]\nclient_certificates = \"require\"\n",
                vec!["line 2, column 23", "expected tls.client_authorities"],
            ),
            ("[tls]\nclient_authorities = \"a.pem\"\n", vec!["line 2, column 22", "tls.client_certificates"]),
            ("[tls]\nclient_certificates = \"maybe\"\n", vec!["line 2, column 23", "`request`"]),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"tls:*.example.org\"]\n",
                vec!["line 3", "tls:*.example.org", "one host name"],
            ),
            ("[msrp]\nlisten = [\"tls:127.0.0.1:2856\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
            ("[msrp]\nweb_socket_listen = [\"tcp:127.0.0.1:1\"]\n", vec!["line 2, column 21", "\"wss:HOST:PORT\""]),
            (
                "[msrp.relay]\nuri = \"msrp://relay.example.org/session;tcp\"\nusername = \"a\"\npassword_file = \"b\"\n",
                vec!["line 2", "expected the URI of a relay"],
            ),
            ("[msrp.relay]\nuri = \"msrps://relay.example.org;tcp\"\n", vec!["line 1", "missing field `username`"]),
            ("[msrp]\noffer = \"tls\"\n", vec!["line 2, column 9", "listened for"]),
            ("[limits]\nmax_sessions = 0\n", vec!["line 2, column 16", "limits.max_sessions"]),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.limits]\nmax_stored = 1\n",
                vec!["line 4, column 1", "unknown field `max_stored`", "`max_stored_messages`"],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\nlimits = { max_sessions = 0 }\n",
                vec!["line 3, column 27", "tenants.a.limits.max_sessions = 0", "at least 1"],
            ),
            (
                "[limits]\nmax_policy_memory_bytes = 65536\n[tenants.a]\ndomains = [\"a.org\"]\n\
                 [tenants.a.limits]\nmax_policy_memory_bytes = 65537\n",
                vec!["line 6, column 27", "tenants.a.limits.max_policy_memory_bytes", "at most 65536"],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\nnumbers = [\"1555\"]\n",
                vec!["line 3, column 12", "tenants.a.numbers", "\"+1555\""],
            ),
            ("[tenants.a]\ndomains = [\"a org\"]\n", vec!["line 2, column 12", "tenants.a.domains", "host name"]),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\npolicy = \"/no/such.wasm\"\n",
                vec!["line 3, column 10", "/no/such.wasm", "\"standard\" or the path of a component"],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\nauthentication = \"basic\"\n",
                vec!["line 3, column 18", "unknown variant `basic`", "`digest`"],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.digest]\nalgorithms = [\"SHA-1\"]\n",
                vec!["line 4", "\"SHA-1\" is no algorithm", "\"SHA-256\""],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.digest]\nalgorithms = []\n",
                vec!["line 4, column 14", "tenants.a.digest.algorithms", "at least one"],
            ),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\ndigest = { realm = \"\" }\n",
                vec!["line 3, column 20", "tenants.a.digest.realm"],
            ),
            ("[sip]\nlisten = [\"udp:0.0.0.0:5060\"]\n", vec!["sip.listen", "sip.advertise"]),
            ("[sip]\nkeep_headers = [\"X-A\", \"p-b\"]\n", vec!["line 2, column 16", "sip.keep_headers", "\"p-b\""]),
            ("[sip]\nkeep_headers = [\"From\"]\n", vec!["sip.keep_headers", "\"From\""]),
            ("[sip]\nkeep_headers = [\"A B\"]\n", vec!["sip.keep_headers", "\"A B\""]),
            ("[msrp]\nlisten = [\"tcp:[::]:2855\"]\n", vec!["msrp.listen", "msrp.advertise"]),
            (
                "[tenants.a]\ndomains = [\"a.org\"]\nhand_over = { sms = \"sip:gateway.example.org\" }\n",
                vec!["line 3, column 21", "tenants.a.hand_over.sms", "numeric host"],
            ),
            (
                "[tenants.a]\ndomains = [\"x.org\"]\n[tenants.b]\ndomains = [\"X.org\"]\n",
                vec!["line 4, column 12", "tenants.b", "belongs to tenants.a"],
            ),
        ] {
            let error = parse(text).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{text:?}: {part:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn what_a_tenant_does_not_say_it_has_of_the_server() {
        let text = "[limits]\nmax_decision_milliseconds = 7\nmax_sessions = 100\n[tenants.a]\ndomains = [\"a.org\"]\n\
                    [tenants.b]\ndomains = [\"b.org\"]\n[tenants.b.limits]\nmax_decision_milliseconds = 9\n\
                    max_sessions = 3\nmax_stored_messages = 5\n";
        let configuration = parse(text).unwrap();
        let [a, b] = ["a", "b"].map(|name| configuration.tenants[name].limits.bounds(&configuration.limits));
        assert_eq!((a.max_decision_milliseconds, a.max_sessions), (7, 100));
        assert_eq!((b.max_decision_milliseconds, b.max_sessions, b.max_stored_messages), (9, 3, 5));
        assert_eq!((a.max_policy_memory_bytes, a.max_decisions_at_once), (16 << 20, None));
    }

    #[test]
    fn tables_that_need_a_restart_are_named() {
        let one = parse("[sip]\nupstream_failure_header = \"X\"\n").unwrap();
        let other = parse("[limits]\nmax_sessions = 3\n[tenants.a]\ndomains = [\"a.org\"]\n").unwrap();
        assert_eq!(one.fixed_tables_changed(&other), ["[sip]", "[limits]"]);
        assert_eq!(one.fixed_tables_changed(&one.clone()), [""; 0]);
    }

    #[test]
    fn trust_by_address_on_an_open_port_is_warned_of() {
        let open = parse(
            "[sip]\nlisten = [\"udp:192.0.2.1:5060\"]\n[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"10.0.0.0/8\"]\n",
        );
        assert_eq!(open.unwrap().warnings().len(), 1);
        assert!(Configuration::default().warnings().is_empty());
    }

    #[test]
    fn web_sockets_from_every_page_and_tls_one_way_are_warned_of() {
        const TLS: &str = "[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
        let web = "[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"ws:127.0.0.1:80\"]\n";
        let tls = "[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"tls:127.0.0.1:5061\"]\n";
        let outbound = "outbound = \"tls:core.example.net\"\n";
        let tenant =
            "[tenants.a]\ndomains = [\"a.org\"]\nhand_over = { sms = \"sips:192.0.2.1\", fax = \"sip:192.0.2.1\" }\n";
        for (text, expected) in [
            (web.to_owned(), vec!["ws:127.0.0.1:80 takes WebSockets from every page"]),
            (format!("{web}web_origins = [\"https://a.org\"]\n"), vec![]),
            (format!("[sip]\n{outbound}"), vec!["sip.outbound leads over TLS"]),
            (tenant.to_owned(), vec!["tenants.a.hand_over.sms leads over TLS"]),
            (format!("{tls}{outbound}{TLS}{tenant}"), vec![]),
        ] {
            let warnings = parse(&text).unwrap().warnings();
            assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:?}");
            assert!(expected.iter().zip(&warnings).all(|(part, warning)| warning.contains(part)), "{warnings:?}");
        }
    }
}
