//! `[sip]`, `[msrp]`, `[admin]`, `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{HostPort, ListenAddress, MsrpRelay, NextHop, Protocol, Target};

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
    /// listeners only with its port, loopback and link-local addresses only by what names nothing else.
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
    /// The relay that all sessions go through, or several: the first that takes us.
    #[serde(deserialize_with = "super::msrp_relay::one_or_several")]
    pub relay: Vec<MsrpRelay>,
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
            relay: Vec::new(),
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
