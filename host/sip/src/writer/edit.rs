//! Changes to a message that is forwarded: every byte that is not meant stays as it came (RFC 3261 §16.6).

use std::ops::Range;

use bytes::Bytes;

use super::WriteError;
use crate::header::position_outside;
use crate::message::{HeaderField, Name, SipMessage, header_value_end};

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

    /// Adds a field above the first of that name, or above all. Of two for the same name the one that was pushed last
    /// stands on top.
    ///
    /// # Errors
    /// [`WriteError::ControlCharacter`]
    pub fn push(mut self, name: Name, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        let fields = self.message.fields();
        let place = fields.iter().find(|field| field.name == name).or(fields.first());
        let at = place.map_or(self.message.header_end(), |field| self.message.field_start(field));
        // In front of what was pushed to the same place before.
        self.changes.insert(0, (at..at, format!("{}: {value}\r\n", name.as_str()).into_bytes()));
        Ok(self)
    }

    /// Adds a field below all others, its name as given.
    ///
    /// # Errors
    /// [`WriteError`]
    pub fn append(mut self, name: &str, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        if name.is_empty() || !name.bytes().all(crate::message_token) {
            return Err(WriteError::Name);
        }
        let at = self.message.header_end();
        self.changes.push((at..at, format!("{name}: {value}\r\n").into_bytes()));
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
            None => self.append(name.as_str(), value),
        }
    }

    /// The same for a field that [`Name`] does not know.
    ///
    /// # Errors
    /// [`WriteError`]
    pub fn set_by_text(mut self, name: &str, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        let message = self.message;
        match message.fields().iter().find(|field| message.field_name(field).eq_ignore_ascii_case(name)) {
            Some(field) => {
                self.changes.push((message.field_value_range(field), value.as_bytes().to_vec()));
                Ok(self)
            }
            None => self.append(name, value),
        }
    }

    /// Replaces the first element of a name's comma list: the topmost Via, by itself with what was added on receipt.
    ///
    /// # Errors
    /// [`WriteError`]: [`WriteError::Missing`] where there is none.
    pub fn replace_first(mut self, name: Name, value: &str) -> Result<Self, WriteError> {
        refuse_control(value)?;
        let field = self.message.fields().iter().find(|field| field.name == name).ok_or(WriteError::Missing)?;
        let text = self.message.field_value(field);
        let length = position_outside(text, b',').unwrap_or(text.len());
        let start = self.message.field_value_range(field).start;
        self.changes.push((start..start.saturating_add(length), value.as_bytes().to_vec()));
        Ok(self)
    }

    /// Counts Max-Forwards down (RFC 3261 §16.6 step 3); one that was missing becomes 70.
    ///
    /// # Errors
    /// [`WriteError::TooManyHops`]: it is 0, or no number. The request gets 483 then.
    pub fn count_hop(self) -> Result<Self, WriteError> {
        let left = match self.message.number(Name::MaxForwards) {
            Ok(Some(hops)) => hops.checked_sub(1).ok_or(WriteError::TooManyHops)?,
            Ok(None) => 70,
            Err(_) => return Err(WriteError::TooManyHops),
        };
        self.set(Name::MaxForwards, &left.to_string())
    }

    /// Says the length of the body where the message does not, so that it can go over a stream.
    ///
    /// # Errors
    /// None in practice; [`WriteError`] of [`Edit::append`].
    pub fn content_length(self) -> Result<Self, WriteError> {
        if self.message.count(Name::ContentLength) > 0 {
            return Ok(self);
        }
        let length = self.message.body().len().to_string();
        self.append(Name::ContentLength.as_str(), &length)
    }

    /// Takes away all fields of a name.
    #[must_use]
    pub fn remove(mut self, name: Name) -> Self {
        for field in self.message.fields().iter().filter(|field| field.name == name) {
            self.changes.push((self.lines_of(field), Vec::new()));
        }
        self
    }

    /// Takes away the first element of a name's comma list: the topmost Via or Route. Once only.
    #[must_use]
    pub fn pop(mut self, name: Name) -> Self {
        let Some(field) = self.message.fields().iter().find(|field| field.name == name) else { return self };
        let value = self.message.field_value(field);
        let range = self.message.field_value_range(field);
        match position_outside(value, b',') {
            Some(comma) => {
                let rest = value.get(comma + 1..).unwrap_or("");
                let blanks = rest.len() - rest.trim_start().len();
                self.changes.push((range.start..range.start + comma + 1 + blanks, Vec::new()));
            }
            None => self.changes.push((self.lines_of(field), Vec::new())),
        }
        self
    }

    /// The whole lines of a field, line end included.
    fn lines_of(&self, field: &HeaderField) -> Range<usize> {
        let start = self.message.field_start(field);
        let end = header_value_end(self.message.bytes(), start);
        let line_end = match self.message.bytes().get(end..end + 2) {
            Some(b"\r\n") => end + 2,
            _ => end + 1,
        };
        start..line_end.min(self.message.body_start())
    }

    /// The changed message, without octets behind its body.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        // Stable: what goes to the same place keeps its order. An insertion comes before what it stands in front of.
        self.changes.sort_by_key(|(range, _)| (range.start, range.end));
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

    #[test]
    fn what_is_added_stands_where_it_should() {
        let message = SipMessage::parse(Bytes::from_static(REQUEST.as_bytes()), &MessageLimits::default()).unwrap();
        let edited = Edit::new(&message)
            .push(Name::Route, "<sip:first;lr>")
            .and_then(|edit| edit.push(Name::Route, "<sip:second;lr>"))
            .and_then(|edit| edit.append("X-Last", "1")?.remove(Name::Via).count_hop()?.content_length())
            .unwrap()
            .finish();
        let expected = REQUEST
            .replace("v: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b\r\n", "")
            .replace("70", "69")
            .replace("Route: ", "Route: <sip:second;lr>\r\nRoute: <sip:first;lr>\r\nRoute: ")
            .replace("tag=1\r\n", "tag=1\r\nX-Last: 1\r\nContent-Length: 7\r\n");
        assert_eq!(String::from_utf8_lossy(&edited), expected);
        assert_eq!(Edit::new(&message).append("X Y", "1").err(), Some(WriteError::Name));
        let last_hop = REQUEST.replace("70", "0");
        let message = SipMessage::parse(Bytes::from(last_hop), &MessageLimits::default()).unwrap();
        assert_eq!(Edit::new(&message).count_hop().err(), Some(WriteError::TooManyHops));
    }
}
