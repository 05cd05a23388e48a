//! Our offers and answers.
//!
//! | we | relays of ours | `a=msrp-cema` (RFC 6714 §4) |
//! |---|---|---|
//! | offer | none | yes: `c=` and `m=` name what the path does |
//! | offer, answer | some | no: see the deviation |
//! | answer an offer with it | none | yes, but to who is behind a relay and connects (§4.3 criterion 2) |
//! | answer an offer without it | any | no: its writer knows nothing of it, or a middlebox took it away |
//!
//! Deviation: RFC 6714 §4.2 and §4.3 have it said with relays of ours, too. A relay of RFC 4976 compares whole URIs, so what a
//! middlebox connects to it for under other ones it would refuse; without CEMA middleboxes carry MSRP themselves.
//!
//! With relays of ours `c=` and `m=` name the first of them, which is where peers connect to (RFC 6714 §4.2, §4.3).

use std::net::IpAddr;

use bytes::Bytes;
use sdp_types::{AddrType, Attribute, Connection, Media, NetType, Origin, Session, Time};

use super::description::{Direction, MsrpDescription, Setup, bare_media};
use super::place::DISCARD_PORT;
use super::{AcceptTypes, Fingerprint, SdpError};
use crate::session::Role;
use crate::uri::{Host, MsrpPath, MsrpUri};

/// What we say of ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// Our URI with the session id; `c=` and `m=` name its host and port where there are no relays.
    pub uri: MsrpUri,
    /// Relays of ours that peers reach us through, as their Use-Path says (RFC 4976 §5.1), outermost first.
    pub relays: Vec<MsrpUri>,
    /// Types we take.
    pub accept_types: AcceptTypes,
    /// Types we take wrapped.
    pub accept_wrapped_types: Option<AcceptTypes>,
    /// Bytes of the largest message we take.
    pub max_size_bytes: Option<u64>,
    /// What we want to do.
    pub direction: Direction,
    /// Of the certificates that we may show, where the URI is `msrps`.
    pub fingerprints: Vec<Fingerprint>,
    /// Session id of the `o=` line, the same in every description of one dialog.
    pub origin_session_id: u64,
    /// Version of the `o=` line, one more for every changed description.
    pub origin_version: u64,
}

impl LocalMedia {
    /// Our `a=path`: the relays and then our own URI.
    #[must_use]
    pub fn path(&self) -> MsrpPath {
        let uris = self.relays.iter().chain([&self.uri]).cloned();
        MsrpPath::new(uris).unwrap_or_else(|| MsrpPath::from(self.uri.clone()))
    }
}

/// Our answer and what it makes of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session description.
    pub sdp: Bytes,
    /// Who connects.
    pub role: Role,
    /// What we do.
    pub direction: Direction,
}

/// An offer: `actpass`, so that a client behind NAT can connect (RFC 6135).
#[must_use]
pub fn make_offer(local: &LocalMedia) -> Bytes {
    let setup = Some((Setup::ActPass, "new"));
    let media = msrp_media(local, listening_port(local), setup, local.direction, local.relays.is_empty());
    write(local, vec![media])
}

/// Answers an offer. To `actpass` and to an offer without `a=setup` (whose writer connects, RFC 4975 §5.4) we are passive,
/// to `passive` active. Media other than the MSRP one are refused with port 0 (RFC 3264 §6).
///
/// # Errors
/// [`SdpError::HoldConnection`], [`SdpError::NoCommonDirection`], [`SdpError::TlsUnsupported`] when only one side is secure.
pub fn answer(offer: &MsrpDescription, local: &LocalMedia) -> Result<Answer, SdpError> {
    if offer.secure != local.uri.secure {
        return Err(SdpError::TlsUnsupported);
    }
    let role = match offer.setup {
        None | Some(Setup::ActPass | Setup::Active) => Role::Passive,
        Some(Setup::Passive) => Role::Active,
        Some(Setup::HoldConnection) => return Err(SdpError::HoldConnection),
    };
    let direction = local.direction.restricted_by(offer.direction);
    if direction == Direction::Inactive && offer.direction != Direction::Inactive {
        return Err(SdpError::NoCommonDirection);
    }
    let (port, setup) = match role {
        Role::Active => (DISCARD_PORT, Setup::Active),
        Role::Passive => (listening_port(local), Setup::Passive),
    };
    // Who did not write a=setup need not know it.
    let setup = offer.setup.map(|_| (setup, "new"));
    let ours = msrp_media(local, port, setup, direction, takes_cema(offer) && local.relays.is_empty());
    let media = offer
        .refused_media
        .iter()
        .enumerate()
        .map(|(index, media)| if index == offer.media_index { ours.clone() } else { media.clone() });
    Ok(Answer { sdp: write(local, media.collect()), role, direction })
}

/// Answers an offer in a session that stands and keeps its connection: who connected once stays who that was (RFC 4145
/// §5.2). Media other than the MSRP one are refused.
#[must_use]
pub fn answer_again(offer: &MsrpDescription, local: &LocalMedia, role: Role) -> Bytes {
    let ours = standing_media(local, role, offer.direction, (offer.setup.is_some(), takes_cema(offer)));
    let all = offer.refused_media.iter().enumerate();
    let media = all.map(|(index, media)| if index == offer.media_index { ours.clone() } else { media.clone() });
    write(local, media.collect())
}

/// Whether an answer to this offer may say CEMA.
fn takes_cema(offer: &MsrpDescription) -> bool {
    let connects = matches!(offer.setup, None | Some(Setup::Active));
    offer.msrp_cema && !(offer.path.has_relays() && connects)
}

/// Our side of a session that stands, where the other side did not make an offer.
#[must_use]
pub fn describe_again(local: &LocalMedia, role: Role, theirs: Direction) -> Bytes {
    write(local, vec![standing_media(local, role, theirs, (true, true))])
}

/// The other side may know `a=setup` and `a=msrp-cema`.
fn standing_media(local: &LocalMedia, role: Role, theirs: Direction, (knows_setup, has_cema): (bool, bool)) -> Media {
    let (port, setup) = match role {
        Role::Active => (DISCARD_PORT, Setup::Active),
        Role::Passive => (listening_port(local), Setup::Passive),
    };
    let setup = knows_setup.then_some((setup, "existing"));
    let direction = local.direction.restricted_by(theirs);
    msrp_media(local, port, setup, direction, has_cema && local.relays.is_empty())
}

/// What we, who offered `actpass`, are after this answer. Without `a=setup` the offerer connects (RFC 4975 §5.4).
///
/// Deviation: an answer must not say `actpass` (RFC 4145 §4.1); who does waits for us as well as anybody.
///
/// # Errors
/// [`SdpError::HoldConnection`].
pub fn role_after_answer(answer: &MsrpDescription) -> Result<Role, SdpError> {
    match answer.setup {
        None | Some(Setup::Passive | Setup::ActPass) => Ok(Role::Active),
        Some(Setup::Active) => Ok(Role::Passive),
        Some(Setup::HoldConnection) => Err(SdpError::HoldConnection),
    }
}

/// The port that peers connect to.
fn listening_port(local: &LocalMedia) -> u16 {
    local.path().first().port_or_default()
}

/// With what `a=setup` and `a=connection` say.
fn msrp_media(
    local: &LocalMedia,
    port: u16,
    setup: Option<(Setup, &str)>,
    direction: Direction,
    has_cema: bool,
) -> Media {
    let mut attributes = vec![Attribute::with_value("accept-types", &local.accept_types)];
    if let Some(types) = &local.accept_wrapped_types {
        attributes.push(Attribute::with_value("accept-wrapped-types", types));
    }
    if let Some(max_size_bytes) = local.max_size_bytes {
        attributes.push(Attribute::with_value("max-size", max_size_bytes));
    }
    attributes.push(Attribute::with_value("path", local.path()));
    if let Some((setup, connection)) = setup {
        attributes.push(Attribute::with_value("setup", setup.as_str()));
        attributes.push(Attribute::with_value("connection", connection));
    }
    if has_cema {
        attributes.push(Attribute::new("msrp-cema"));
    }
    for fingerprint in local.fingerprints.iter().filter(|_| local.uri.secure) {
        attributes.push(Attribute::with_value("fingerprint", fingerprint));
    }
    attributes.push(Attribute::new(direction.as_str()));
    Media { attributes, ..bare_media("message", port, protocol(&local.uri), "*") }
}

fn protocol(uri: &MsrpUri) -> &'static str {
    if uri.secure { "TCP/TLS/MSRP" } else { "TCP/MSRP" }
}

/// The description around the media. One `c=` line for all: some clients refuse a second one.
fn write(local: &LocalMedia, media: Vec<Media>) -> Bytes {
    let (addrtype, address) = match &local.path().first().host {
        Host::Address(address @ IpAddr::V6(_)) => (AddrType::Ip6, address.to_string()),
        Host::Address(address) => (AddrType::Ip4, address.to_string()),
        Host::Name(name) => (AddrType::Ip4, name.clone()),
    };
    let session_id = local.origin_session_id.to_string();
    let origin = Origin::new(session_id, local.origin_version, NetType::In, addrtype.clone(), &address);
    let mut session = Session::new(origin, "-");
    session.connection = Some(Connection::new(NetType::In, addrtype, &address));
    session.times = vec![Time::new(0, 0)];
    session.medias = media;
    let mut bytes = Vec::with_capacity(512);
    // Writing into a Vec cannot fail.
    let _ = session.write(&mut bytes);
    Bytes::from(bytes)
}
