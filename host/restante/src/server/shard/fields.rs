//! Header fields of requests that carry messages.

use restante_deferral::model::{Envelope, MessageId, Sender};
use restante_sip::header::{
    ChargingVector, ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE, accept_contact, icsi_values,
};
use restante_sip::message::Method;
use restante_sip::writer::Builder;

use super::route::{Route, is_sips};
use crate::server::facts;

/// Start line, Via, Max-Forwards, Route.
pub(super) fn begin(method: &Method, route: &Route, via: &str) -> Builder {
    let builder = Builder::request(method, &route.request_uri).field("Via", via).field("Max-Forwards", "70");
    route.routes.iter().fold(builder, |builder, value| builder.unfolded("Route", value))
}

/// Our Contact where a request goes along these URIs: `sips:` where one of them is (RFC 3261 §8.1.1.8, §12.1.1). A transport
/// is not said beside that (§26.2.2).
pub(super) fn contact_along<'a>(contact: &str, uris: impl IntoIterator<Item = &'a str>) -> String {
    let encrypted = contact.strip_prefix("sip:").and_then(|contact| contact.strip_suffix(";transport=tls"));
    match encrypted.filter(|_| uris.into_iter().any(is_sips)) {
        Some(place) => format!("sips:{place}"),
        None => contact.to_owned(),
    }
}

/// The sender as From names it.
pub(super) fn from_of(sender: &Sender) -> String {
    if sender.private {
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned()
    } else {
        format!("<{}>", sender.uri)
    }
}

/// What the sender called the recipient, without header parameters that a URI may have carried.
pub(super) fn to_of(request_uri: &str) -> &str {
    request_uri.split('?').next().unwrap_or(request_uri)
}

/// P-Asserted-Identity (RFC 3325): to whoever is trusted always, to a device unless the sender asked for privacy.
pub(super) fn asserted(builder: Builder, route: &Route, sender: &Sender) -> Builder {
    if sender.private && !route.is_trusted {
        return builder;
    }
    builder.field("P-Asserted-Identity", &format!("<{}>", sender.uri))
}

/// Privacy, to whoever is trusted: what the sender asked for, and `id` where it is not to be named. A `none` is told to
/// everybody, as nobody may take that away (RFC 3323 §4.2); what else was asked for is done where the device begins. What goes
/// together is as private as any of it.
pub(super) fn privacy<'a>(
    builder: Builder,
    route: &Route,
    envelopes: impl Iterator<Item = &'a Envelope> + Clone,
) -> Builder {
    let said = envelopes.clone().flat_map(|envelope| &envelope.headers);
    let said = said.filter(|(name, _)| name.eq_ignore_ascii_case("Privacy"));
    let said = said.flat_map(|(_, value)| value.split([';', ','])).map(str::trim).filter(|value| !value.is_empty());
    let is = |value: &str, known: &str| value.eq_ignore_ascii_case(known);
    let mut values: Vec<&str> = Vec::new();
    for value in said.chain(envelopes.filter(|envelope| envelope.sender.private).map(|_| "id")) {
        if !values.iter().any(|known| is(known, value)) {
            values.push(value);
        }
    }
    if values.len() > 1 {
        values.retain(|value| !is(value, "none"));
    }
    let is_told = route.is_trusted || values.iter().any(|value| is(value, "none"));
    if values.is_empty() || !is_told { builder } else { builder.field("Privacy", &values.join(";")) }
}

/// Fields that came with the message, with the service identifiers of the mode that it goes in: a change of mode changes
/// them (Accept-Contact, and P-Asserted-Service, which only trusted hops get, RFC 6050 §4.1).
/// What stays among those who trust each other goes to such a hop alone.
///
/// A delivery is a session or message of its own, so it is not charged as the one that came: `charging_identity` is its own,
/// and the one that came is named as related to it (RFC 7315 §5.6). Where none came nobody charges, and none is sent.
pub(super) fn kept(
    builder: Builder,
    envelope: &Envelope,
    route: &Route,
    service: &str,
    charging_identity: &str,
) -> Builder {
    let is = |name: &str, known: &str| name.eq_ignore_ascii_case(known);
    let names_a_mode = |value: &str| {
        icsi_values(value).iter().any(|it| [ICSI_MESSAGE, ICSI_LARGE_MESSAGE, ICSI_DEFERRED].contains(&it.as_str()))
    };
    let mut builder = builder;
    let mut asserted_service = false;
    for (name, value) in &envelope.headers {
        // [`privacy`] says that.
        if is(name, "P-Asserted-Service") {
            asserted_service = true;
        } else if facts::is_within_trust(name) && !route.is_trusted {
            // Nobody who may know it.
        } else if is(name, "P-Charging-Vector") {
            let related_identity = ChargingVector::parse(value).ok().map(|came| came.identity);
            let own = ChargingVector { identity: charging_identity.to_owned(), related_identity };
            builder = builder.field(name, &own.to_string());
        } else if facts::is_of_body(name) || is(name, "Privacy") {
            // In an INVITE it would be said of the SDP.
        } else if !(is(name, "Accept-Contact") && names_a_mode(value)) {
            builder = builder.field(name, value);
        }
    }
    let builder = builder.field("Accept-Contact", &accept_contact(service));
    if route.is_trusted && asserted_service { builder.field("P-Asserted-Service", service) } else { builder }
}

/// Fields that came with the message and say how its body is to be read.
pub(super) fn of_body(builder: Builder, envelope: &Envelope) -> Builder {
    let of_body = envelope.headers.iter().filter(|(name, _)| facts::is_of_body(name));
    of_body.fold(builder, |builder, (name, value)| builder.field(name, value))
}

/// Conversation-ID and Contribution-ID, which some clients refuse a session without.
pub(super) fn identified(builder: Builder, envelope: &Envelope, message: MessageId) -> Builder {
    ["Conversation-ID", "Contribution-ID"].into_iter().fold(builder, |builder, field| {
        let known = envelope.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(field));
        if known { builder } else { builder.field(field, &format!("restante-{:016x}", message.0)) }
    })
}

/// Milliseconds since 1970 as CPIM writes a time.
pub(super) fn rfc3339(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .map_or_else(|| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
