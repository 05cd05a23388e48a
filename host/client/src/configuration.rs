//! Who a client is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use restante_transport::{Protocol, TlsFiles};

use crate::observer::Observer;

/// Everything about one client.
#[derive(Clone)]
pub struct ClientConfiguration {
    /// Its address-of-record: a `sip:` or `tel:` URI.
    pub identity: String,
    /// Where it sends every request outside of a dialog.
    pub server: SocketAddr,
    /// What it answers challenges with.
    pub credentials: Option<ClientCredentials>,
    /// Over what; what is too large for UDP goes over TCP to the same place.
    pub transport: Protocol,
    /// What it shows and believes where that is encrypted.
    pub tls: ClientTls,
    /// Address of its sockets; the ports are the system's choice, the same for UDP and TCP.
    pub bind: IpAddr,
    /// `+sip.instance`, a URN.
    pub instance: String,
    /// What its registration says that it can do.
    pub features: Features,
    /// Where received content goes.
    pub storage: Storage,
    /// Which side of a connection it likes to be, where it has the choice.
    pub setup: SetupChoice,
    /// Sends `delivered` for what asked for it.
    pub automatic_delivery_notification: bool,
    /// URI that deferred messages are fetched from; default: `sip:deferred@` and the domain of the identity.
    pub deferred_uri: Option<String>,
    /// Sees the wire.
    pub observer: Option<Arc<dyn Observer>>,
    /// Bounds.
    pub limits: ClientLimits,
}

/// What a client shows and believes on encrypted connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// How the server was called before it was looked up: its certificate must say so. None: it must name the address.
    pub server_name: Option<String>,
    /// Certificate, key and authorities; without authorities the system's.
    pub files: TlsFiles,
    /// Whether it offers MSRP over TLS; it answers either.
    pub media: bool,
}

/// A username and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// Username.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a registration says that the client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Takes MESSAGE.
    pub page: bool,
    /// Takes large messages by INVITE and MSRP.
    pub large: bool,
    /// Takes sessions of deferred messages of several senders.
    pub cpm_deferred: bool,
    /// Takes a message summary in a MESSAGE.
    pub accepts_summary: bool,
}

/// Where received content goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Memory, up to [`ClientLimits::max_memory_bytes`] a message.
    Memory,
    /// Files in this directory, their names made up here.
    Directory(PathBuf),
}

/// Who connects (RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupChoice {
    /// Offers `actpass`, answers `active` where it may: works behind an address translation.
    Active,
    /// Offers and answers `passive`.
    Passive,
}

/// Bounds of a client.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// Content of one received message in memory; a larger one is answered 413.
    pub max_memory_bytes: u64,
    /// Content of one received message in a file; a larger one is answered 413.
    pub max_file_bytes: u64,
    /// Sessions at a time; further INVITEs get 486.
    pub max_sessions: usize,
    /// Events that wait to be taken; further ones are dropped and counted as an objection.
    pub max_waiting_events: usize,
    /// Message-IDs that repetitions are recognised by.
    pub max_remembered_messages: usize,
    /// Objections kept.
    pub max_violations: usize,
    /// Time for a whole session, from INVITE to the end of its connection.
    pub session_timeout: Duration,
    /// Time after a BYE in which bytes that it overtook may come.
    pub drain_timeout: Duration,
}

impl Default for Features {
    fn default() -> Self {
        Features { page: true, large: true, cpm_deferred: false, accepts_summary: true }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            max_memory_bytes: 64 * 1024 * 1024,
            max_file_bytes: 4 * 1024 * 1024 * 1024,
            max_sessions: 64,
            max_waiting_events: 16_384,
            max_remembered_messages: 1_000_000,
            max_violations: 1_000,
            session_timeout: Duration::from_secs(3_600),
            drain_timeout: Duration::from_secs(2),
        }
    }
}

impl ClientConfiguration {
    /// A client on loopback with everything else as usual.
    #[must_use]
    pub fn new(identity: &str, server: SocketAddr) -> ClientConfiguration {
        ClientConfiguration {
            identity: identity.to_owned(),
            server,
            credentials: None,
            transport: Protocol::Udp,
            tls: ClientTls::default(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            instance: format!("urn:uuid:{}", crate::random::uuid()),
            features: Features::default(),
            storage: Storage::Memory,
            setup: SetupChoice::Active,
            automatic_delivery_notification: true,
            deferred_uri: None,
            observer: None,
            limits: ClientLimits::default(),
        }
    }

    /// The URI that deferred messages are fetched from.
    #[must_use]
    pub fn deferred_uri(&self) -> String {
        let domain = || match restante_sip::uri::Uri::parse(&self.identity) {
            Ok(restante_sip::uri::Uri::Sip(uri)) => uri.host,
            _ => restante_transport::HostPort::from(self.server).host,
        };
        self.deferred_uri.clone().unwrap_or_else(|| format!("sip:deferred@{}", domain()))
    }
}
