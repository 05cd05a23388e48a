//! Changes to a message that is forwarded: every byte that is not meant stays as it came (RFC 3261 §16.6).

use std::ops::Range;

use bytes::Bytes;

use super::WriteError;
use crate::message::{Name, SipMessage, header_value_end};

/// Collects changes and applies them at once.
#[derive(Debug)]
pub struct Edit<'a> {
    message: &'a SipMessage,
    changes: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'a> Edit<'a> {
    /// Of this message.
    #[must_use]
    pub fn new(message: &'a SipMessage) -> Edit<'a> {
        Edit { message, changes: Vec::new() }
    }

    /// Replaces the Request-URI.
    ///
    /// # Errors
    /// [`WriteError::ControlCharacter`]
    pub fn request_uri(mut self, uri: &str) -> Result<Self, WriteError> {
        refuse_control(uri)?;
        if let Some(range) = self.message.request_uri_range() {
            self.changes.push((range, uri.as_bytes().to_vec()));
        }
        Ok(self)
    }

    /// Adds a field above the first of that name, or above all.
    ///
    /// # Errors
    /// [`WriteError::ControlCharacter`]
    pub fn push(mut self, name: Name, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        let fields = self.message.fields();
        let place = fields.iter().find(|field| field.name == name).or(fields.first());
        if let Some(field) = place {
            let at = self.message.field_start(field);
            self.changes.push((at..at, format!("{}: {value}\r\n", name.as_str()).into_bytes()));
        }
        Ok(self)
    }

    /// Replaces the first field of that name, or adds it.
    ///
    /// # Errors
    /// [`WriteError::ControlCharacter`]
    pub fn set(mut self, name: Name, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        match self.message.fields().iter().find(|field| field.name == name) {
            Some(field) => {
                self.changes.push((self.message.field_value_range(field), value.as_bytes().to_vec()));
                Ok(self)
            }
            None => self.push(name, value),
        }
    }

    /// Takes away the first element of a name's comma list: the topmost Via or Route.
    #[must_use]
    pub fn pop(mut self, name: Name) -> Self {
        let Some(field) = self.message.fields().iter().find(|field| field.name == name) else { return self };
        let value = self.message.field_value(field);
        let range = self.message.field_value_range(field);
        match crate::header::position_outside(value, b',') {
            Some(comma) => {
                let rest = value.get(comma + 1..).unwrap_or("");
                let blanks = rest.len() - rest.trim_start().len();
                self.changes.push((range.start..range.start + comma + 1 + blanks, Vec::new()));
            }
            None => {
                let start = self.message.field_start(field);
                let end = header_value_end(self.message.bytes(), start);
                let line_end = match self.message.bytes().get(end..end + 2) {
                    Some(b"\r\n") => end + 2,
                    _ => end + 1,
                };
                self.changes.push((start..line_end.min(self.message.body_start()), Vec::new()));
            }
        }
        self
    }

    /// The changed message, without octets behind its body.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.changes.sort_by_key(|(range, _)| range.start);
        let data = self.message.bytes();
        let mut out = Vec::with_capacity(data.len() + 256);
        let mut at = 0;
        for (range, replacement) in &self.changes {
            out.extend_from_slice(data.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(replacement);
            at = range.end.max(at);
        }
        out.extend_from_slice(data.get(at..self.message.body_end()).unwrap_or_default());
        out.into()
    }
}

fn refuse_control(value: &str) -> Result<(), WriteError> {
    if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) { Err(WriteError::ControlCharacter) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageLimits;

    const REQUEST: &str = "MESSAGE sip:bob@example.org SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b\r\nX-Odd :  kept \r\nmax-forwards: 70\r\nRoute: <sip:p;lr>\r\nFrom: <sip:a@b>;tag=1\r\n\r\nbody\0é";

    #[test]
    fn only_what_is_meant_changes() {
        let message = SipMessage::parse(Bytes::from_static(REQUEST.as_bytes()), &MessageLimits::default()).unwrap();
        let edited = Edit::new(&message)
            .request_uri("sip:bob@192.0.2.1")
            .and_then(|edit| edit.set(Name::MaxForwards, "69"))
            .and_then(|edit| edit.pop(Name::Route).push(Name::Via, "SIP/2.0/UDP us;branch=z9hG4bK2"))
            .unwrap()
            .finish();
        let expected = REQUEST
            .replace("sip:bob@example.org", "sip:bob@192.0.2.1")
            .replace("70", "69")
            .replace("Route: <sip:p;lr>\r\n", "")
            .replace("v: ", "Via: SIP/2.0/UDP us;branch=z9hG4bK2\r\nv: ");
        assert_eq!(edited, expected.as_bytes());
        let popped = Edit::new(&message).pop(Name::Via).finish();
        assert!(String::from_utf8_lossy(&popped).contains("\r\nv: SIP/2.0/UDP b\r\n"));
        assert!(Edit::new(&message).push(Name::Via, "a\r\nEvil: 1").is_err());
    }
}
