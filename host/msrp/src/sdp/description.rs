//! What a peer's offer or answer says of MSRP.

use std::str::FromStr;

use sdp_types::{Attribute, Media};

use super::{AcceptTypes, Fingerprint, SdpError};
use crate::uri::MsrpPath;

/// Larger descriptions are refused.
pub const MAX_SDP_BYTES: usize = 64 * 1024;

/// Fingerprints that are looked at.
const MAX_FINGERPRINTS: usize = 8;

/// `a=setup` (RFC 4145 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setup {
    /// Connects.
    Active,
    /// Waits for the connection.
    Passive,
    /// Either; in offers only.
    ActPass,
    /// Neither for now.
    HoldConnection,
}

impl FromStr for Setup {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Setup, SdpError> {
        let known = [Setup::Active, Setup::Passive, Setup::ActPass, Setup::HoldConnection];
        let text = text.trim();
        known.into_iter().find(|setup| text.eq_ignore_ascii_case(setup.as_str())).ok_or(SdpError::Attribute("setup"))
    }
}

impl Setup {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
            Setup::HoldConnection => "holdconn",
        }
    }
}

/// `a=connection` (RFC 4145 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionAttribute {
    /// A new one.
    New,
    /// The one there is.
    Existing,
}

/// Who sends (RFC 3264 §5.1), seen from the one who says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both.
    #[default]
    SendReceive,
    /// The one who says it.
    SendOnly,
    /// The other one.
    ReceiveOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// From what one does.
    #[must_use]
    pub fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendReceive,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::ReceiveOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the one who says it sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendReceive | Direction::SendOnly)
    }

    /// Whether the one who says it receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendReceive | Direction::ReceiveOnly)
    }

    /// What is left of what we want when the peer says `theirs`; seen from us.
    #[must_use]
    pub fn restricted_by(self, theirs: Direction) -> Direction {
        Direction::of(self.sends() && theirs.receives(), self.receives() && theirs.sends())
    }

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendReceive => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::ReceiveOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
}

/// The first usable MSRP media of an offer or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrpDescription {
    /// Which of the media it is.
    pub media_index: usize,
    /// Port of the `m=` line.
    pub port: u16,
    /// Address of the `c=` line that holds for it.
    pub connection_address: Option<String>,
    /// Whether the protocol is `TCP/TLS/MSRP`.
    pub secure: bool,
    /// `a=path`.
    pub path: MsrpPath,
    /// `a=accept-types`; `*` when missing. Deviation: RFC 4975 §8.6 demands it, some clients leave it out.
    pub accept_types: AcceptTypes,
    /// `a=accept-wrapped-types`: types that only come wrapped, as in CPIM.
    pub accept_wrapped_types: Option<AcceptTypes>,
    /// `a=max-size` in bytes.
    pub max_size_bytes: Option<u64>,
    /// `a=setup`.
    pub setup: Option<Setup>,
    /// Seen from the one who wrote it.
    pub direction: Direction,
    /// `a=connection`.
    pub connection: Option<ConnectionAttribute>,
    /// `a=msrp-cema` (RFC 6714): its writer knows that `c=` and `m=` may be connected to instead of the path.
    pub msrp_cema: bool,
    /// `a=file-selector` as it was written (RFC 5547).
    pub file_selector: Option<String>,
    /// `a=fingerprint`, for TLS: one of them must be of the certificate that is shown. None given: any may be shown that is
    /// believed otherwise.
    pub fingerprints: Vec<Fingerprint>,
    /// All media as an answer refuses them, with port 0.
    pub(super) refused_media: Vec<Media>,
}

impl MsrpDescription {
    /// Reads an offer or answer. Taken besides what the grammar allows: lines that end in LF alone, empty lines, blanks at the
    /// beginning of a line, and more than one `c=` line before the media (the first counts).
    ///
    /// `takes_tls`: whether `TCP/TLS/MSRP` is taken.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn parse(bytes: &[u8], takes_tls: bool) -> Result<MsrpDescription, SdpError> {
        if bytes.len() > MAX_SDP_BYTES {
            return Err(SdpError::TooLarge);
        }
        let session = sdp_types::Session::parse(&straighten(bytes));
        let session = session.map_err(|error| SdpError::Malformed(error.to_string()))?;
        let is_msrp = |media: &Media| media.media.eq_ignore_ascii_case("message") && media.port != 0;
        let mut of_msrp =
            session.medias.iter().enumerate().filter(|(_, media)| is_msrp(media)).filter_map(|(index, media)| {
                let secure = is_tls(&media.proto)?;
                Some((index, media, secure))
            });
        let mut any_tls = false;
        let found = of_msrp.find(|&(_, _, secure)| {
            any_tls |= secure;
            takes_tls || !secure
        });
        let missing = if any_tls { SdpError::TlsUnsupported } else { SdpError::NoMsrpMedia };
        let (media_index, media, secure) = found.ok_or(missing)?;
        let address = media.connections.first().or(session.connection.as_ref());
        let connection_address = address.map(|connection| connection.connection_address.clone());
        let attributes = Attributes { media: &media.attributes, session: &session.attributes };
        let path = attributes.path(secure)?;
        Ok(MsrpDescription {
            media_index,
            port: media.port,
            connection_address,
            secure,
            path,
            accept_types: attributes.value("accept-types").map_or_else(AcceptTypes::any, AcceptTypes::parse),
            accept_wrapped_types: attributes.value("accept-wrapped-types").map(AcceptTypes::parse),
            max_size_bytes: attributes.max_size()?,
            setup: attributes.value("setup").map(str::parse).transpose()?,
            direction: attributes.direction(),
            connection: attributes.connection(),
            msrp_cema: attributes.has("msrp-cema"),
            file_selector: attributes.value("file-selector").map(str::to_owned),
            fingerprints: attributes.fingerprints()?,
            refused_media: session.medias.iter().map(refused).collect(),
        })
    }

    /// Media beside the MSRP one that is used.
    #[must_use]
    pub fn other_media(&self) -> usize {
        self.refused_media.len().saturating_sub(1)
    }
}

/// Attributes of the media, or of the session where the media has none.
struct Attributes<'a> {
    media: &'a [Attribute],
    session: &'a [Attribute],
}

impl<'a> Attributes<'a> {
    fn find(&self, name: &str) -> Option<&'a Attribute> {
        let is_it = |attribute: &&Attribute| attribute.attribute.trim().eq_ignore_ascii_case(name);
        self.media.iter().find(is_it).or_else(|| self.session.iter().find(is_it))
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.find(name)?.value.as_deref().map(str::trim)
    }

    fn path(&self, secure: bool) -> Result<MsrpPath, SdpError> {
        let path: MsrpPath = self.value("path").ok_or(SdpError::MissingPath)?.parse()?;
        // The scheme of the hop we would connect to has to go with the protocol.
        if path.first().secure == secure { Ok(path) } else { Err(SdpError::SchemeMismatch) }
    }

    /// Those of the media, or of the session where the media has none (RFC 8122 §5).
    fn fingerprints(&self) -> Result<Vec<Fingerprint>, SdpError> {
        let of = |list: &[Attribute]| -> Result<Vec<Fingerprint>, SdpError> {
            let is_it = |attribute: &&Attribute| attribute.attribute.trim().eq_ignore_ascii_case("fingerprint");
            let values = list.iter().filter(is_it).map(|attribute| attribute.value.as_deref().unwrap_or(""));
            values.take(MAX_FINGERPRINTS).map(str::parse).collect()
        };
        let of_media = of(self.media)?;
        if of_media.is_empty() { of(self.session) } else { Ok(of_media) }
    }

    fn max_size(&self) -> Result<Option<u64>, SdpError> {
        let parse = |text: &str| text.parse().map_err(|_| SdpError::Attribute("max-size"));
        self.value("max-size").map(parse).transpose()
    }

    fn direction(&self) -> Direction {
        let known = [Direction::SendReceive, Direction::SendOnly, Direction::ReceiveOnly, Direction::Inactive];
        let in_list = |list: &[Attribute]| {
            list.iter().find_map(|attribute| {
                known.into_iter().find(|direction| attribute.attribute.trim().eq_ignore_ascii_case(direction.as_str()))
            })
        };
        in_list(self.media).or_else(|| in_list(self.session)).unwrap_or_default()
    }

    fn connection(&self) -> Option<ConnectionAttribute> {
        match self.value("connection")? {
            value if value.eq_ignore_ascii_case("new") => Some(ConnectionAttribute::New),
            value if value.eq_ignore_ascii_case("existing") => Some(ConnectionAttribute::Existing),
            _ => None,
        }
    }
}

/// Whether a protocol is MSRP over TLS; `None`: not MSRP.
fn is_tls(protocol: &str) -> Option<bool> {
    if protocol.eq_ignore_ascii_case("TCP/MSRP") {
        Some(false)
    } else if protocol.eq_ignore_ascii_case("TCP/TLS/MSRP") {
        Some(true)
    } else {
        None
    }
}

/// Lines as the parser wants them.
fn straighten(bytes: &[u8]) -> Vec<u8> {
    let mut straight = Vec::with_capacity(bytes.len().saturating_add(16));
    let (mut in_media, mut has_connection) = (false, false);
    for line in bytes.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        in_media |= line.starts_with(b"m=");
        let is_connection = !in_media && line.starts_with(b"c=");
        if line.is_empty() || (is_connection && has_connection) {
            continue;
        }
        has_connection |= is_connection;
        straight.extend_from_slice(line);
        straight.extend_from_slice(b"\r\n");
    }
    straight
}

fn refused(media: &Media) -> Media {
    bare_media(&media.media, 0, &media.proto, &media.fmt)
}

/// An `m=` line without anything.
pub(super) fn bare_media(media: &str, port: u16, proto: &str, fmt: &str) -> Media {
    Media {
        media: media.to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: fmt.to_owned(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}
