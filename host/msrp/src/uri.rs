//! MSRP URIs and paths of them (RFC 4975 §6, §9).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The port registered for MSRP (RFC 4975 §15.4); a URI without a port means it.
pub const DEFAULT_PORT: u16 = 2855;

/// A path of more hops than this is refused.
pub const MAX_PATH_URIS: usize = 16;

/// Why something is no MSRP URI. In a request: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// It does not begin with `msrp://` or `msrps://`.
    #[error("an MSRP URI begins with msrp:// or msrps://")]
    Scheme,
    /// The host is missing or malformed.
    #[error("the host of the MSRP URI is missing or malformed")]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("the port of the MSRP URI is malformed")]
    Port,
    /// The session id has bytes that cannot stand there.
    #[error("the session id of the MSRP URI is malformed")]
    SessionId,
    /// `;transport` is missing or malformed.
    #[error("the MSRP URI names no transport")]
    Transport,
    /// A parameter is malformed.
    #[error("a parameter of the MSRP URI is malformed")]
    Parameter,
    /// A path without a URI, or with more than [`MAX_PATH_URIS`].
    #[error("a path has from one to {MAX_PATH_URIS} URIs")]
    PathLength,
}

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address literal. IPv6 is written in brackets.
    Address(IpAddr),
    /// A name, as it was written.
    Name(String),
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|address| Host::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Host::Address(address.into()));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
        (!text.is_empty() && text.bytes().all(is_name)).then(|| Host::Name(text.to_owned()))
    }

    /// The address of a `c=` line: IPv6 without brackets, and perhaps with a time to live behind it (RFC 8866 §5.7).
    #[must_use]
    pub fn of_connection_address(text: &str) -> Option<Host> {
        let text = text.split('/').next().unwrap_or_default();
        match text.parse() {
            Ok(address) => Some(Host::Address(address)),
            Err(_) => Host::parse(text),
        }
    }

    /// Names are the same whatever their case.
    #[must_use]
    pub fn same_as(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Address(one), Host::Address(two)) => one == two,
            (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            _ => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Host::Address(address) => write!(formatter, "{address}"),
            Host::Name(name) => formatter.write_str(name),
        }
    }
}

/// `msrp://host:port/session-id;tcp` (RFC 4975 §6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MsrpUri {
    /// `msrps`: over TLS.
    pub secure: bool,
    /// What stands before `@`; has no part in comparison.
    pub user_info: Option<String>,
    /// Host.
    pub host: Host,
    /// Port, where one was written; see [`DEFAULT_PORT`].
    pub port: Option<u16>,
    /// Session id; its case matters.
    pub session_id: Option<String>,
    /// Transport, `tcp` nearly always.
    pub transport: String,
    /// Further parameters; they have no part in comparison.
    pub parameters: Vec<(String, Option<String>)>,
}

impl MsrpUri {
    /// `msrp://address/session-id;tcp`, or `msrps` when `secure`.
    #[must_use]
    pub fn new(secure: bool, host: Host, port: u16, session_id: String) -> MsrpUri {
        MsrpUri {
            secure,
            user_info: None,
            host,
            port: Some(port),
            session_id: Some(session_id),
            transport: "tcp".to_owned(),
            parameters: Vec::new(),
        }
    }

    /// The port to connect to.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The address to connect to, unless the host is a name.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port_or_default())),
            Host::Name(_) => None,
        }
    }

    /// Equivalence of RFC 4975 §6.1: scheme, host and transport whatever their case, the port as written, the session id
    /// with its case; user info and parameters do not count.
    #[must_use]
    pub fn same_as(&self, other: &MsrpUri) -> bool {
        self.secure == other.secure
            && self.host.same_as(&other.host)
            && self.port == other.port
            && self.session_id == other.session_id
            && self.transport.eq_ignore_ascii_case(&other.transport)
    }
}

impl FromStr for MsrpUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<MsrpUri, UriError> {
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let secure = match scheme {
            scheme if scheme.eq_ignore_ascii_case("msrp") => false,
            scheme if scheme.eq_ignore_ascii_case("msrps") => true,
            _ => return Err(UriError::Scheme),
        };
        let (place, parameters) = rest.split_once(';').ok_or(UriError::Transport)?;
        let (authority, session_id) = match place.split_once('/') {
            Some((authority, session_id)) => (authority, Some(session_id)),
            None => (place, None),
        };
        if session_id.is_some_and(|id| id.is_empty() || !id.bytes().all(is_session_id_byte)) {
            return Err(UriError::SessionId);
        }
        let (user_info, host, port) = parse_authority(authority)?;
        let (transport, parameters) = parse_parameters(parameters)?;
        Ok(MsrpUri { secure, user_info, host, port, session_id: session_id.map(str::to_owned), transport, parameters })
    }
}

impl fmt::Display for MsrpUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.secure { "msrps://" } else { "msrp://" })?;
        if let Some(user_info) = &self.user_info {
            write!(formatter, "{user_info}@")?;
        }
        write!(formatter, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(formatter, ":{port}")?;
        }
        if let Some(session_id) = &self.session_id {
            write!(formatter, "/{session_id}")?;
        }
        write!(formatter, ";{}", self.transport)?;
        for (name, value) in &self.parameters {
            write!(formatter, ";{name}")?;
            if let Some(value) = value {
                write!(formatter, "={value}")?;
            }
        }
        Ok(())
    }
}

/// The URIs of To-Path, From-Path or `a=path`, nearest hop first (RFC 4975 §5.2). Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MsrpPath {
    first: MsrpUri,
    others: Vec<MsrpUri>,
}

impl MsrpPath {
    /// The next hop.
    #[must_use]
    pub fn first(&self) -> &MsrpUri {
        &self.first
    }

    /// The endpoint.
    #[must_use]
    pub fn last(&self) -> &MsrpUri {
        self.others.last().unwrap_or(&self.first)
    }

    /// All, nearest hop first.
    pub fn iter(&self) -> impl Iterator<Item = &MsrpUri> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Whether relays stand in between.
    #[must_use]
    pub fn has_relays(&self) -> bool {
        !self.others.is_empty()
    }
}

impl MsrpPath {
    /// A path of these. None: none, or more than [`MAX_PATH_URIS`].
    #[must_use]
    pub fn new(uris: impl IntoIterator<Item = MsrpUri>) -> Option<MsrpPath> {
        let mut uris = uris.into_iter();
        let (first, others) = (uris.next()?, uris.collect::<Vec<_>>());
        (others.len() < MAX_PATH_URIS).then_some(MsrpPath { first, others })
    }
}

impl From<MsrpUri> for MsrpPath {
    fn from(first: MsrpUri) -> MsrpPath {
        MsrpPath { first, others: Vec::new() }
    }
}

impl FromStr for MsrpPath {
    type Err = UriError;

    fn from_str(text: &str) -> Result<MsrpPath, UriError> {
        let mut uris = text.split([' ', '\t']).filter(|uri| !uri.is_empty());
        let first = uris.next().ok_or(UriError::PathLength)?.parse()?;
        let mut others = Vec::new();
        for uri in uris {
            if others.len() + 1 >= MAX_PATH_URIS {
                return Err(UriError::PathLength);
            }
            others.push(uri.parse()?);
        }
        Ok(MsrpPath { first, others })
    }
}

impl fmt::Display for MsrpPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first)?;
        self.others.iter().try_for_each(|uri| write!(formatter, " {uri}"))
    }
}

fn parse_authority(authority: &str) -> Result<(Option<String>, Host, Option<u16>), UriError> {
    let (user_info, place) = match authority.rsplit_once('@') {
        Some((user_info, place)) => (Some(user_info), place),
        None => (None, authority),
    };
    if user_info.is_some_and(|user| !user.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(UriError::Host);
    }
    let (host, port) = match place.rsplit_once(':') {
        // A colon inside brackets is part of an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let port = match port {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| UriError::Port)?)
        }
        Some(_) => return Err(UriError::Port),
        None => None,
    };
    Ok((user_info.map(str::to_owned), Host::parse(host).ok_or(UriError::Host)?, port))
}

/// A URI's own parameters, each with its value.
type Parameters = Vec<(String, Option<String>)>;

fn parse_parameters(text: &str) -> Result<(String, Parameters), UriError> {
    let mut parts = text.split(';');
    let transport = parts.next().unwrap_or_default();
    if transport.is_empty() || !transport.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(UriError::Transport);
    }
    let mut parameters = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (part, None),
        };
        let is_token = |token: &str| !token.is_empty() && token.bytes().all(is_parameter_byte);
        if !is_token(name) || value.is_some_and(|value| !is_token(value)) {
            return Err(UriError::Parameter);
        }
        parameters.push((name.to_owned(), value.map(str::to_owned)));
    }
    Ok((transport.to_owned(), parameters))
}

/// Deviation: RFC 4975 §9 allows unreserved, `+`, `=` and `/`; clients also write `%`, `:`, `@` and more, which is harmless.
fn is_session_id_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b';'
}

fn is_parameter_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b';' && byte != b'='
}
