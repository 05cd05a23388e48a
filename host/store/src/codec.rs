//! The binary form of what a row holds besides its columns: a version, then values one after the other; lengths before
//! texts, a presence byte before optional ones.

use restante_deferral::commit::MessageState;
use restante_deferral::model::{
    CanonicalAddress, Delivery, DeviceState, Dispositions, Envelope, ExpirySource, ImdnHeaders, LastResult,
    MessageKind, Mode, Origin, Profile, Sender, Timestamp, Verification,
};

use crate::{StoreError, UserCredentials};

const VERSION: u8 = 1;
const DAMAGED: StoreError = StoreError::Damaged("a row ends early");

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }
    fn number(&mut self, value: u64) {
        // LEB128: most numbers are small.
        let mut rest = value;
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }
    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }
    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
    fn optional_text(&mut self, value: Option<&str>) {
        self.optional(value, Self::text);
    }
    fn optional_time(&mut self, value: Option<Timestamp>) {
        self.optional(value, |writer, time| writer.number(time.0));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, StoreError> {
        let (first, rest) = self.0.split_first().ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(*first)
    }
    fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.byte()? != 0)
    }
    fn number(&mut self) -> Result<u64, StoreError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DAMAGED)
    }
    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, StoreError> {
        self.number()?.try_into().map_err(|_| DAMAGED)
    }
    fn text(&mut self) -> Result<String, StoreError> {
        String::from_utf8(self.bytes()?).map_err(|_| DAMAGED)
    }
    fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let length: usize = self.small()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }
    fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp)
    }
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
        let length: usize = self.small()?;
        if length > self.0.len() {
            return Err(DAMAGED);
        }
        (0..length).map(|_| read(self)).collect()
    }
    fn version(&mut self) -> Result<(), StoreError> {
        if self.byte()? == VERSION { Ok(()) } else { Err(StoreError::Damaged("a row of an unknown form")) }
    }
}

/// Gives an enum without values its numbers.
macro_rules! numbered {
    ($writer:ident, $reader:ident, $type:ident { $($variant:ident = $number:literal),* }) => {
        pub(crate) fn $writer(value: $type) -> u8 {
            match value { $($type::$variant => $number,)* }
        }
        pub(crate) fn $reader(value: u8) -> Result<$type, StoreError> {
            match value { $($number => Ok($type::$variant),)* _ => Err(StoreError::Damaged("an unknown value")) }
        }
    };
}

numbered!(kind_number, kind_of, MessageKind { Message = 0, Disposition = 1 });
numbered!(mode_number, mode_of, Mode { Page = 0, Large = 1 });
numbered!(source_number, source_of, ExpirySource { Sender = 0, Operator = 1 });
numbered!(verification_number, verification_of, Verification { None = 0, TrustedPeer = 1, Authenticated = 2 });
numbered!(origin_number, origin_of, Origin { Device = 0, Core = 1, Timeout = 2, Transport = 3 });
numbered!(delivery_number, delivery_of, Delivery { Push = 0, Pull = 1, Hold = 2 });

pub(crate) fn write_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(256));
    out.byte(VERSION);
    out.byte(kind_number(envelope.kind));
    out.byte(mode_number(envelope.mode));
    out.text(&envelope.sender.address.0);
    out.text(&envelope.sender.uri);
    out.byte(verification_number(envelope.sender.verification));
    out.byte(u8::from(envelope.sender.private));
    out.text(&envelope.request_uri);
    out.number(envelope.headers.len() as u64);
    for (name, value) in &envelope.headers {
        out.text(name);
        out.text(value);
    }
    out.text(&envelope.content_type);
    out.optional_text(envelope.wrapped_type.as_deref());
    out.optional(envelope.imdn.as_ref(), |out, imdn| {
        out.text(&imdn.message_id);
        out.optional_text(imdn.date_time.as_deref());
        out.optional_text(imdn.to.as_deref());
        out.optional_text(imdn.from.as_deref());
        let asked = imdn.dispositions;
        let flags = [asked.positive_delivery, asked.negative_delivery, asked.processing, asked.display];
        out.byte(flags.iter().enumerate().fold(0, |bits, (index, set)| bits | u8::from(*set) << index));
        out.number(imdn.record_route.len() as u64);
        for hop in &imdn.record_route {
            out.text(hop);
        }
    });
    out.optional(envelope.page_base_bytes, |out, bytes| out.number(u64::from(bytes)));
    out.optional_text(envelope.imdn.as_ref().and_then(|imdn| imdn.original_to.as_deref()));
    out.0
}

pub(crate) fn read_envelope(bytes: &[u8]) -> Result<Envelope, StoreError> {
    let mut from = Reader(bytes);
    from.version()?;
    let mut envelope = Envelope {
        kind: kind_of(from.byte()?)?,
        mode: mode_of(from.byte()?)?,
        sender: Sender {
            address: CanonicalAddress(from.text()?.into()),
            uri: from.text()?,
            verification: verification_of(from.byte()?)?,
            private: from.flag()?,
        },
        request_uri: from.text()?,
        headers: from.list(|from| Ok((from.text()?, from.text()?)))?,
        content_type: from.text()?,
        wrapped_type: from.optional(Reader::text)?,
        imdn: from.optional(|from| {
            Ok(ImdnHeaders {
                message_id: from.text()?,
                date_time: from.optional(Reader::text)?,
                to: from.optional(Reader::text)?,
                from: from.optional(Reader::text)?,
                original_to: None,
                dispositions: {
                    let bits = from.byte()?;
                    Dispositions {
                        positive_delivery: bits & 1 != 0,
                        negative_delivery: bits & 2 != 0,
                        processing: bits & 4 != 0,
                        display: bits & 8 != 0,
                    }
                },
                record_route: from.list(Reader::text)?,
            })
        })?,
        page_base_bytes: from.optional(Reader::small)?,
    };
    // An older row ends before it.
    if let (Some(imdn), false) = (envelope.imdn.as_mut(), from.0.is_empty()) {
        imdn.original_to = from.optional(Reader::text)?;
    }
    Ok(envelope)
}

pub(crate) fn write_state(state: &MessageState) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.number(u64::from(state.attempts));
    out.optional_time(state.not_before);
    out.optional(state.last_failure, |out, last| {
        out.number(last.at.0);
        out.optional(last.status, |out, status| out.number(u64::from(status)));
        out.byte(origin_number(last.origin));
    });
    out.byte(u8::from(state.page_refused));
    out.byte(u8::from(state.large_refused));
    out.optional_time(state.notified_at);
    out.optional_time(state.fetch_deadline);
    out.byte(u8::from(state.push_after_deadline));
    out.number(state.expires_at.0);
    out.optional_text(state.hand_over_to.as_deref());
    out.number(state.devices.len() as u64);
    for device in &state.devices {
        out.text(&device.device);
        out.optional_time(device.delivered_at);
    }
    out.0
}

pub(crate) fn read_state(bytes: &[u8]) -> Result<MessageState, StoreError> {
    let mut from = Reader(bytes);
    from.version()?;
    Ok(MessageState {
        attempts: from.small()?,
        not_before: from.optional(Reader::time)?,
        last_failure: from.optional(|from| {
            Ok(LastResult { at: from.time()?, status: from.optional(Reader::small)?, origin: origin_of(from.byte()?)? })
        })?,
        page_refused: from.flag()?,
        large_refused: from.flag()?,
        notified_at: from.optional(Reader::time)?,
        fetch_deadline: from.optional(Reader::time)?,
        push_after_deadline: from.flag()?,
        expires_at: from.time()?,
        hand_over_to: from.optional(Reader::text)?,
        devices: from
            .list(|from| Ok(DeviceState { device: from.text()?, delivered_at: from.optional(Reader::time)? }))?,
    })
}

pub(crate) fn write_profile(profile: &Profile) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.number(profile.aliases.len() as u64);
    for alias in &profile.aliases {
        out.text(alias);
    }
    out.optional_text(profile.subscriber_class.as_deref());
    out.optional(profile.delivery, |out, delivery| out.byte(delivery_number(delivery)));
    out.optional(profile.utc_offset_minutes, |out, offset| out.number((i64::from(offset) + 1440).unsigned_abs()));
    out.number(profile.registered.len() as u64);
    for alias in &profile.registered {
        out.text(alias);
    }
    out.0
}

pub(crate) fn write_credentials(credentials: &UserCredentials) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.text(&credentials.username);
    out.text(&credentials.realm);
    out.number(credentials.hashes.len() as u64);
    for (algorithm, hash) in &credentials.hashes {
        out.text(algorithm);
        out.bytes(hash);
    }
    out.0
}

pub(crate) fn read_credentials(bytes: &[u8]) -> Result<UserCredentials, StoreError> {
    let mut from = Reader(bytes);
    from.version()?;
    Ok(UserCredentials {
        username: from.text()?,
        realm: from.text()?,
        hashes: from.list(|from| Ok((from.text()?, from.bytes()?)))?,
    })
}

pub(crate) fn read_profile(bytes: &[u8]) -> Result<Profile, StoreError> {
    let mut from = Reader(bytes);
    from.version()?;
    Ok(Profile {
        aliases: from.list(Reader::text)?,
        subscriber_class: from.optional(Reader::text)?,
        delivery: from.optional(|from| delivery_of(from.byte()?))?,
        utc_offset_minutes: from.optional(|from| {
            let shifted: i16 = from.small()?;
            shifted.checked_sub(1440).ok_or(DAMAGED)
        })?,
        // An older row ends before it.
        registered: if from.0.is_empty() { Vec::new() } else { from.list(Reader::text)? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(text: String, flag: bool, number: Option<u32>) -> Envelope {
        Envelope {
            kind: if flag { MessageKind::Message } else { MessageKind::Disposition },
            mode: if flag { Mode::Page } else { Mode::Large },
            sender: Sender {
                address: CanonicalAddress(text.as_str().into()),
                uri: text.clone(),
                verification: Verification::TrustedPeer,
                private: flag,
            },
            request_uri: text.clone(),
            headers: vec![(text.clone(), String::new()); usize::from(flag) * 3],
            content_type: text.clone(),
            wrapped_type: flag.then(|| text.clone()),
            imdn: flag.then(|| ImdnHeaders {
                message_id: text.clone(),
                dispositions: Dispositions { processing: true, ..Default::default() },
                record_route: vec![text.clone(); 2],
                original_to: number.map(|number| number.to_string()),
                ..Default::default()
            }),
            page_base_bytes: number,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".{0,20}", flag: bool, number: Option<u32>, time: Option<u64>, attempts: u16, offset in proptest::option::of(-1440i16..=1440)) {
            let envelope = envelope(text.clone(), flag, number);
            let written = write_envelope(&envelope);
            prop_assert_eq!(&read_envelope(&written).unwrap(), &envelope);
            if let (None, Some((0, older))) = (number, written.split_last()) {
                prop_assert_eq!(&read_envelope(older).unwrap(), &envelope, "an older row");
            }
            let time = time.map(Timestamp);
            let state = MessageState {
                attempts,
                not_before: time,
                last_failure: time.map(|at| LastResult { at, status: Some(attempts), origin: Origin::Core }),
                page_refused: flag,
                large_refused: !flag,
                notified_at: time,
                fetch_deadline: time,
                push_after_deadline: flag,
                expires_at: Timestamp::NEVER,
                hand_over_to: flag.then(|| text.clone()),
                devices: vec![DeviceState { device: text.clone(), delivered_at: time }],
            };
            prop_assert_eq!(read_state(&write_state(&state)).unwrap(), state);
            let profile = Profile { aliases: vec![text.clone()], registered: vec![text.clone(); usize::from(flag)], subscriber_class: flag.then_some(text), delivery: flag.then_some(Delivery::Hold), utc_offset_minutes: offset };
            prop_assert_eq!(read_profile(&write_profile(&profile)).unwrap(), profile);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let with_version: Vec<u8> = std::iter::once(VERSION).chain(bytes).collect();
            let _ = (read_envelope(&with_version), read_state(&with_version), read_profile(&with_version));
        }
    }
}
