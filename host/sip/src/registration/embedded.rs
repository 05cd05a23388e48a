//! The client's own REGISTER, or the answer to it, inside a third-party REGISTER (TS 24.229 §5.4.1.7): the only place where
//! a core tells the feature tags of a client, and the usual one where it tells the other names of its user.

use bytes::Bytes;

use super::request::methods_of;
use crate::header::{ContactValue, HeaderError, MediaType, NameAddr};
use crate::identity::canonical;
use crate::message::{MessageLimits, Method, Name, SipMessage, unfold};

/// Parts of a multipart body that are looked at.
const MAX_PARTS: usize = 16;

/// A device that a core told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedDevice {
    /// Its Contact as the client wrote it, with all parameters.
    pub contact: String,
    /// Its methods; empty when unknown.
    pub methods: Vec<String>,
    /// It leaves: its expiry is 0.
    pub leaves: bool,
}

impl EmbeddedDevice {
    /// From one value of Contact; none where it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<EmbeddedDevice> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let contact = ContactValue::parse(text).ok()?;
        Some(EmbeddedDevice { methods: methods_of(&contact, &[]), leaves: false, contact: text.to_owned() })
    }

    /// Contact, parsed.
    ///
    /// # Errors
    /// [`HeaderError`]: cannot be for what was read from a message.
    pub fn contact(&self) -> Result<ContactValue, HeaderError> {
        ContactValue::parse(&self.contact)
    }

    /// Whether both are the same device: by instance, else by address.
    #[must_use]
    pub fn is_same_device(&self, other: &EmbeddedDevice) -> bool {
        match (self.contact(), other.contact()) {
            (Ok(one), Ok(other)) if one.instance().is_some() || other.instance().is_some() => {
                one.instance() == other.instance()
            }
            (Ok(one), Ok(other)) => one.address.uri == other.address.uri,
            _ => self.contact == other.contact,
        }
    }
}

pub(super) struct Embedded {
    pub(super) devices: Vec<EmbeddedDevice>,
    /// It was an answer, which lists everything that is bound.
    pub(super) is_complete: bool,
    /// P-Associated-URI of an answer, in canonical form.
    pub(super) associated_addresses: Vec<String>,
}

/// Devices in the `message/sip` parts of a body. What cannot be read is left out: it is a hint, and a core must not be
/// refused for it.
pub(super) fn embedded_devices(message: &SipMessage) -> Embedded {
    let mut found = Embedded { devices: Vec::new(), is_complete: false, associated_addresses: Vec::new() };
    let Some(media_type) = message.header(Name::ContentType).and_then(|value| MediaType::parse(value).ok()) else {
        return found;
    };
    let body = message.body();
    if media_type.is("message", "sip") {
        read(body, &mut found);
    } else if media_type.kind.eq_ignore_ascii_case("multipart")
        && let Some(boundary) = media_type.parameter("boundary")
    {
        for part in parts(&body, boundary).into_iter().take(MAX_PARTS) {
            if let Some(inner) = message_sip_part(&part) {
                read(inner, &mut found);
            }
        }
    }
    found
}

fn read(bytes: Bytes, found: &mut Embedded) {
    let Ok(message) = SipMessage::parse(bytes, &MessageLimits::default()) else { return };
    if message.method() != Some(Method::Register) {
        return;
    }
    let is_answer = message.status().is_some_and(|status| (200..300).contains(&status));
    if !message.is_request() && !is_answer {
        return;
    }
    found.is_complete |= is_answer;
    // A registrar says them in its answer (RFC 7315 §4.1). In the REGISTER anything stands that the client likes.
    if is_answer {
        found.associated_addresses.extend(associated_addresses(&message));
    }
    let default_expires = message.number(Name::Expires).ok().flatten();
    let allow: Vec<String> = message.list(Name::Allow).map(str::to_owned).collect();
    for text in message.list(Name::Contact) {
        let Ok(contact) = ContactValue::parse(text) else { continue };
        found.devices.push(EmbeddedDevice {
            contact: unfold(text),
            methods: methods_of(&contact, if is_answer { &[] } else { &allow }),
            leaves: contact.expires_seconds().or(default_expires) == Some(0),
        });
    }
}

/// P-Associated-URI in canonical form.
pub(super) fn associated_addresses(message: &SipMessage) -> impl Iterator<Item = String> {
    message
        .list(Name::PAssociatedUri)
        .filter_map(|value| NameAddr::parse(value).ok())
        .filter_map(|value| canonical(&value.uri))
}

/// The body of a part whose Content-Type is `message/sip`.
fn message_sip_part(part: &Bytes) -> Option<Bytes> {
    let mut at = 0;
    let mut is_sip = false;
    loop {
        let rest = part.get(at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest.get(..length)?;
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        at += length + 1;
        if line.is_empty() {
            return is_sip.then(|| part.slice(at..));
        }
        if let Some((name, value)) = line.split_once(':')
            && matches!(Name::from_bytes(name.trim().as_bytes()), Name::ContentType)
        {
            is_sip = MediaType::parse(value).is_ok_and(|media_type| media_type.is("message", "sip"));
        }
    }
}

/// The parts between the delimiters (RFC 2046 §5.1.1), header fields included.
fn parts(body: &Bytes, boundary: &str) -> Vec<Bytes> {
    let delimiter = format!("--{boundary}");
    let mut out = Vec::new();
    let mut at = 0;
    let mut begun = None;
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty() && out.len() < MAX_PARTS) {
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        if rest.starts_with(delimiter.as_bytes()) {
            if let Some(start) = begun {
                // The CRLF before a delimiter belongs to the delimiter.
                let end = body.get(start..at).map_or(start, |part: &[u8]| {
                    let cut = if part.ends_with(b"\r\n") { 2 } else { usize::from(part.ends_with(b"\n")) };
                    at - cut
                });
                out.push(body.slice(start..end));
            }
            if rest.get(delimiter.len()..).is_some_and(|after| after.starts_with(b"--")) {
                return out;
            }
            begun = Some(at + length);
        }
        at += length;
    }
    out
}
