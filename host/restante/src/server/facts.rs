//! What a received message says, in the words of the deferral machine.

use bytes::Bytes;
use restante_cpim::cpim::{CONTENT_TYPE as CPIM, CpimMessage};
use restante_cpim::imdn::{self, Imdn};
use restante_cpim::media_type::essence;
use restante_deferral::decision::Field;
use restante_deferral::model::{
    DeduplicationKey, Dispositions, Envelope, ImdnHeaders, MessageKind, Mode, RecipientKey, Sender, Timestamp,
    Verification,
};
use restante_deferral::participating_function::RequestFacts;
use restante_sip::header::{ChargingVector, NameAddr, icsi_values, parse_date};
use restante_sip::identity::canonical;
use restante_sip::message::{Name, SipMessage, unfold};
use restante_sip::uri::Uri;
use sha2::{Digest, Sha256};

use super::content_encoding;
use super::served::Served;

/// Header fields that are stored with a message and sent with it again.
const KEPT: [Name; 9] = [
    Name::ConversationId,
    Name::ContributionId,
    Name::InReplyToContributionId,
    Name::Subject,
    Name::AcceptContact,
    Name::PAssertedService,
    Name::PCalledPartyId,
    Name::PChargingVector,
    Name::Privacy,
];
/// What only a trusted peer may say, and only a trusted peer is told (RFC 6050 §4.1, RFC 7315 §6). Addresses of
/// charging functions and the served user are never kept, not even by `sip.keep_headers`: a core knows those of the day
/// of delivery.
const WITHIN_TRUST: [Name; 5] = [
    Name::PAssertedService,
    Name::PCalledPartyId,
    Name::PChargingVector,
    Name::PChargingFunctionAddresses,
    Name::PServedUser,
];
/// Further ones, which nothing here reads.
const KEPT_UNREAD: [&str; 5] = ["Reply-To", "In-Reply-To", "Priority", "Organization", "Message-UID"];
/// What says how the body of a MESSAGE or of a SEND is to be read. Those of an INVITE are about its SDP.
const OF_BODY: [Name; 3] = [Name::ContentEncoding, Name::ContentDisposition, Name::ContentLanguage];
/// Longest value among a policy's further values.
const MAX_FIELD_BYTES: usize = 512;
/// Longest value that is kept.
const MAX_KEPT_BYTES: usize = 2048;
/// What a MESSAGE of ours has besides the kept fields, addresses, route and body: start line, Via, From, To, Call-ID, CSeq,
/// Max-Forwards, Date, Expires, P-Asserted-Identity, Content-Type, Content-Length. About 360 with short names of our own;
/// one that becomes larger than this says is not sent and goes the other way.
const OWN_FIELDS_BYTES: usize = 400;
/// An Accept-Contact of ours, where none is kept.
const ACCEPT_CONTACT_BYTES: usize = 90;
/// A charging identity of ours, beside the one that is kept.
const CHARGING_BYTES: usize = 64;
/// Privacy, and a From that names nobody.
const PRIVACY_BYTES: usize = 70;

/// Why a message cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkeepable {
    /// Says to be CPIM and is not: 400.
    MalformedCpim,
    /// Says that somebody is typing (RFC 3994): of no use later. 415.
    Transient,
}

impl Unkeepable {
    /// The SIP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Unkeepable::MalformedCpim => 400,
            Unkeepable::Transient => 415,
        }
    }
}

/// What the body itself says.
pub struct BodyFacts {
    /// Message or disposition.
    pub kind: MessageKind,
    /// Inside CPIM.
    pub wrapped_type: Option<String>,
    /// IMDN headers.
    pub imdn: Option<ImdnHeaders>,
    /// Of a disposition: what it reports on, and what it says.
    reports: Option<String>,
}

impl BodyFacts {
    /// Of a body that cannot be looked into.
    fn opaque(kind: MessageKind) -> BodyFacts {
        BodyFacts { kind, wrapped_type: None, imdn: None, reports: None }
    }
}

/// Reads the body of a MESSAGE. One whose encoding cannot be undone is taken for what it says to be.
///
/// # Errors
/// [`Unkeepable`]
pub fn read_page(content_type: &str, encoding: Option<&str>, body: &Bytes) -> Result<BodyFacts, Unkeepable> {
    match content_encoding::decoded(body, encoding) {
        Some(plain) => read_body(content_type, &plain),
        None => kind_of(&essence(content_type)).map(BodyFacts::opaque),
    }
}

/// Reads a body or the beginning of one.
///
/// # Errors
/// [`Unkeepable`]
pub fn read_body(content_type: &str, prefix: &Bytes) -> Result<BodyFacts, Unkeepable> {
    let outer = essence(content_type);
    if outer != CPIM {
        let facts = BodyFacts::opaque(kind_of(&outer)?);
        let reports = (outer == imdn::CONTENT_TYPE).then(|| report_of(prefix)).flatten();
        return Ok(BodyFacts { reports, ..facts });
    }
    let cpim = CpimMessage::parse(prefix.clone()).map_err(|_| Unkeepable::MalformedCpim)?;
    let wrapped = essence(cpim.content_type());
    let is_aggregated = wrapped == "multipart/mixed" && is_notification(&cpim);
    let kind = if is_aggregated { MessageKind::Disposition } else { kind_of(&wrapped)? };
    let headers = cpim.imdn();
    let asked = headers.disposition_notification;
    let reports = (kind == MessageKind::Disposition).then(|| report_of(&cpim.content())).flatten();
    let imdn = headers.message_id.map(|message_id| ImdnHeaders {
        message_id,
        date_time: cpim.date_time().map(str::to_owned),
        to: cpim.to().map(str::to_owned),
        from: cpim.from().map(str::to_owned),
        original_to: headers.original_to,
        dispositions: Dispositions {
            positive_delivery: asked.positive_delivery,
            negative_delivery: asked.negative_delivery,
            processing: asked.processing,
            display: asked.display,
        },
        record_route: headers.record_route,
    });
    Ok(BodyFacts { kind, wrapped_type: Some(wrapped), imdn, reports })
}

/// Several notifications in one (RFC 5438 §8.3): a mixture alone may be anything.
fn is_notification(cpim: &CpimMessage) -> bool {
    cpim.content_header("Content-Disposition").is_some_and(|value| essence(value) == "notification")
}

fn kind_of(essence: &str) -> Result<MessageKind, Unkeepable> {
    match essence {
        "application/im-iscomposing+xml" => Err(Unkeepable::Transient),
        imdn::CONTENT_TYPE => Ok(MessageKind::Disposition),
        _ => Ok(MessageKind::Message),
    }
}

fn report_of(xml: &[u8]) -> Option<String> {
    let imdn = Imdn::parse(xml).ok()?;
    let (notification, status) = imdn.disposition.elements();
    Some(format!("{} {notification} {status}", imdn.message_id))
}

/// How a body came.
pub struct BodyForm<'a> {
    /// In a request or in a session.
    pub mode: Mode,
    /// Its media type.
    pub content_type: &'a str,
    /// Names and values of the fields beside it that say how it is to be read: see [`is_of_body`].
    pub fields: Vec<(&'a str, &'a str)>,
    /// Its size.
    pub size_bytes: u64,
}

impl<'a> BodyForm<'a> {
    /// Of a MESSAGE.
    #[must_use]
    pub fn page(request: &'a SipMessage, content_type: &'a str, size_bytes: u64) -> BodyForm<'a> {
        let fields =
            OF_BODY.into_iter().flat_map(|name| request.headers(name).map(move |value| (name.as_str(), value)));
        BodyForm { mode: Mode::Page, content_type, fields: fields.collect(), size_bytes }
    }
}

/// Whether a header field says how a body is to be read.
#[must_use]
pub fn is_of_body(name: &str) -> bool {
    OF_BODY.iter().any(|known| known.as_str().eq_ignore_ascii_case(name))
}

/// The envelope of a request. `further` are names of header fields that the operator wants kept.
#[must_use]
pub fn envelope(
    request: &SipMessage,
    sender: Sender,
    form: &BodyForm<'_>,
    body: BodyFacts,
    further: &[String],
) -> Envelope {
    let BodyForm { mode, content_type, fields: of_body, size_bytes } = form;
    let unread = KEPT_UNREAD.into_iter().chain(further.iter().map(String::as_str));
    let unread = unread.filter_map(|name| Some((name, request.header_by_text(name)?)));
    // What somebody asserts whom nobody trusts is not asserted (RFC 6050 §4.1).
    let is_believed = |name: &str| sender.verification == Verification::TrustedPeer || !is_within_trust(name);
    let headers: Vec<(String, String)> = KEPT
        .into_iter()
        .flat_map(|name| request.headers(name).map(move |value| (name.as_str(), value)))
        .chain(of_body.iter().copied())
        .chain(unread)
        .filter(|(name, value)| !value.is_empty() && value.len() <= MAX_KEPT_BYTES && is_believed(name))
        .map(|(name, value)| (name.to_owned(), unfold(value)))
        .filter_map(|(name, value)| match name.as_str() {
            // Which networks the request passed is no longer so when its message is delivered.
            "P-Charging-Vector" => Some((name, charging_identity(&value)?)),
            _ => Some((name, value)),
        })
        .collect();
    // Nor do reports go where it says: what records a route are servers on the way (RFC 5438 §6).
    // Deviation: §7.2.1 has reports follow every recorded route; of a sender who is not trusted it would aim them at anybody.
    let record_route = |imdn: ImdnHeaders| match sender.verification {
        Verification::TrustedPeer => imdn,
        _ => ImdnHeaders { record_route: Vec::new(), ..imdn },
    };
    let imdn = body.imdn.map(record_route);
    let request_uri = request.request_uri().unwrap_or("").to_owned();
    let kept: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Accept-Contact"));
    let is_charged = headers.iter().any(|(name, _)| name == "P-Charging-Vector");
    let own = OWN_FIELDS_BYTES
        + if is_charged { CHARGING_BYTES } else { 0 }
        + if named { 0 } else { ACCEPT_CONTACT_BYTES }
        + if sender.private { PRIVACY_BYTES } else { 0 };
    let fields = own + kept + content_type.len() + sender.uri.len() * 2 + request_uri.len();
    let page = u64::try_from(fields).unwrap_or(u64::MAX).saturating_add(*size_bytes);
    Envelope {
        kind: body.kind,
        mode: *mode,
        sender,
        request_uri,
        headers,
        content_type: unfold(content_type),
        wrapped_type: body.wrapped_type,
        imdn,
        page_base_bytes: u32::try_from(page).ok().filter(|bytes| *bytes <= 64 * 1024),
    }
}

/// Whether a field stays among those who trust each other.
#[must_use]
pub fn is_within_trust(name: &str) -> bool {
    WITHIN_TRUST.iter().any(|known| known.as_str().eq_ignore_ascii_case(name))
}

fn charging_identity(value: &str) -> Option<String> {
    let vector = ChargingVector::parse(value).ok()?;
    Some(ChargingVector { related_identity: None, ..vector }.to_string())
}

/// What a request says beside its message: from whom nobody trusts only what anybody may say.
#[must_use]
pub fn beside(request: &SipMessage, served: &Served, is_trusted: bool) -> RequestFacts {
    let within_trust = |name: Name| request.header(name).filter(|_| is_trusted);
    let asserted = within_trust(Name::PAssertedService).or_else(|| request.header(Name::PPreferredService));
    let named = || request.headers(Name::AcceptContact).flat_map(icsi_values).next();
    let service = asserted.map(|value| value.trim().to_ascii_lowercase()).filter(|value| !value.is_empty());
    let charging = within_trust(Name::PChargingVector).and_then(|value| ChargingVector::parse(value).ok());
    let called = within_trust(Name::PCalledPartyId).and_then(|value| NameAddr::parse(value).ok());
    let fields = [
        ("sip.user-agent", request.header(Name::UserAgent).map(unfold)),
        ("ims.session-case", served.session_case.map(|case| case.as_str().to_owned())),
        ("ims.charging-id", charging.map(|charging| charging.identity)),
        ("ims.called-party", called.map(|called| called.uri.to_string())),
    ];
    RequestFacts {
        service: service.or_else(named),
        registration: served.registration,
        fields: fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| value.len() <= MAX_FIELD_BYTES)?)))
            .map(|(name, value)| Field { name: name.to_owned(), value })
            .collect(),
    }
}

/// What makes a repetition recognisable: see [`DeduplicationKey`]. The first key is over whom sender and recipient are; the
/// second, where they were named otherwise, over the names as they were written.
#[must_use]
pub fn deduplication(
    recipient: &RecipientKey,
    sender: &Sender,
    body: &BodyFacts,
    request: &SipMessage,
    msrp_message_id: Option<&str>,
) -> (DeduplicationKey, Option<DeduplicationKey>) {
    let key = |from: &str, to: &str| deduplication_key([&recipient.tenant.0, from, to], body, request, msrp_message_id);
    let written = |uri: &str| Uri::parse(uri).ok().and_then(|uri| canonical(&uri));
    let from = written(&sender.uri).filter(|from| **from != *sender.address.0);
    let to = request.request_uri().and_then(written).filter(|to| **to != *recipient.address.0);
    let is_otherwise = from.is_some() || to.is_some();
    let as_written =
        || key(from.as_deref().unwrap_or(&sender.address.0), to.as_deref().unwrap_or(&recipient.address.0));
    (key(&sender.address.0, &recipient.address.0), is_otherwise.then(as_written))
}

fn deduplication_key(
    parties: [&str; 3],
    body: &BodyFacts,
    request: &SipMessage,
    msrp_message_id: Option<&str>,
) -> DeduplicationKey {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    parties.into_iter().for_each(&mut part);
    match (body.imdn.as_ref(), &body.reports) {
        (Some(imdn), _) => {
            part("id");
            part(&imdn.message_id);
        }
        (None, Some(reports)) => {
            part("reports");
            part(reports);
        }
        (None, None) => {
            part("request");
            part(request.call_id().unwrap_or(""));
            part(request.from().ok().as_ref().and_then(|from| from.tag()).unwrap_or(""));
            part(request.header(Name::CSeq).unwrap_or(""));
            part(request.request_uri().unwrap_or(""));
            part(msrp_message_id.unwrap_or(""));
        }
    }
    let digest = hash.finalize();
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(digest) {
        *to = from;
    }
    DeduplicationKey(key)
}

/// The sender's expiry (RFC 3428 §7): Expires counted from Date when there is a believable one, else from now.
#[must_use]
pub fn expires_at(request: &SipMessage, now: Timestamp) -> Option<Timestamp> {
    let seconds = request.number(Name::Expires).ok().flatten()?;
    let sent = request.header(Name::Date).and_then(parse_date).map(|seconds| seconds.saturating_mul(1000));
    // A clock that runs ahead must not lengthen what was asked.
    let from = sent.map_or(now.0, |sent| sent.min(now.0));
    Some(Timestamp(from.saturating_add(u64::from(seconds).saturating_mul(1000))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<BodyFacts, Unkeepable> {
        read_body("Message/CPIM", &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn messages_dispositions_and_typing_are_told_apart() {
        let plain =
            body("NS: x <urn:ietf:params:imdn>\r\nx.Message-ID: 1\r\nx.Original-To: <im:b@c>\r\n\r\nContent-Type: text/plain\r\n\r\nhi").unwrap();
        let imdn = plain.imdn.unwrap();
        assert_eq!((plain.kind, imdn.message_id.as_str()), (MessageKind::Message, "1"));
        assert_eq!(imdn.original_to.as_deref(), Some("<im:b@c>"));
        let report = "<imdn><message-id>7</message-id><delivery-notification><status><delivered/></status></delivery-notification></imdn>";
        let disposition = body(&format!("From: a\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n{report}")).unwrap();
        assert_eq!(disposition.kind, MessageKind::Disposition);
        assert_eq!(disposition.reports.as_deref(), Some("7 delivery-notification delivered"));
        assert_eq!(
            body("From: a\r\n\r\nContent-Type: application/im-iscomposing+xml\r\n\r\nx").err(),
            Some(Unkeepable::Transient)
        );
        assert_eq!(body("nonsense").err(), Some(Unkeepable::MalformedCpim));
        let mixed = |fields: &str| {
            let part = format!("--x\r\nContent-Type: message/imdn+xml\r\n\r\n{report}\r\n--x--\r\n");
            body(&format!("From: a\r\n\r\nContent-Type: multipart/mixed;boundary=x\r\n{fields}\r\n{part}"))
                .unwrap()
                .kind
        };
        assert_eq!(mixed("Content-Disposition: Notification; handling=optional\r\n"), MessageKind::Disposition);
        assert_eq!(
            (mixed(""), mixed("Content-Disposition: attachment\r\n")),
            (MessageKind::Message, MessageKind::Message)
        );
    }

    #[test]
    fn a_wish_counts_from_when_it_was_made_and_never_from_later_than_now() {
        let now = Timestamp(1_700_000_100_000);
        let after = |fields: &str| {
            let text = format!("MESSAGE sip:bob@example.org SIP/2.0\r\n{fields}Content-Length: 0\r\n\r\n");
            let request = SipMessage::parse(text.into_bytes().into(), &Default::default()).unwrap();
            expires_at(&request, now).map(|it| i64::try_from(it.0).unwrap() - i64::try_from(now.0).unwrap())
        };
        assert_eq!(after("Expires: 300\r\n"), Some(300_000));
        let cases = [
            ("Tue, 14 Nov 2023 22:13:20 GMT", 200_000),
            ("Tue, 14 Nov 2023 22:05:00 GMT", -300_000),
            ("Tue, 14 Nov 2023 23:13:20 GMT", 300_000),
            ("yesterday", 300_000),
        ];
        for (date, expected) in cases {
            assert_eq!(after(&format!("Date: {date}\r\nExpires: 300\r\n")), Some(expected), "{date}");
        }
        assert_eq!(after("Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"), None);
    }

    #[test]
    fn a_repetition_is_known_before_and_after_its_names_were_learnt() {
        let request = |to: &str| {
            let text = format!(
                "MESSAGE {to} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\
                 From: <sip:alice@example.org>;tag=1\r\nTo: <{to}>\r\nContent-Length: 0\r\n\r\n"
            );
            SipMessage::parse(text.into_bytes().into(), &Default::default()).unwrap()
        };
        let keys = |owner: &str, from: (&str, &str), to: &str| {
            let tenant = restante_deferral::model::TenantName("t".into());
            let recipient = RecipientKey { tenant, address: restante_deferral::model::CanonicalAddress(owner.into()) };
            let sender = Sender {
                address: restante_deferral::model::CanonicalAddress(from.0.into()),
                uri: from.1.to_owned(),
                verification: restante_deferral::model::Verification::TrustedPeer,
                private: false,
            };
            let body = read_body("text/plain", &Bytes::new()).unwrap();
            deduplication(&recipient, &sender, &body, &request(to), None)
        };
        let alice = ("sip:alice@example.org", "sip:alice@example.org");
        let (unknown, none) = keys("tel:+1555", alice, "tel:+1-555");
        assert_eq!(none, None);
        let (known, as_written) = keys("sip:bob@example.org", alice, "tel:+1-555");
        assert_eq!(as_written, Some(unknown));
        assert_ne!(known, unknown);
        let (_, of_number) = keys("sip:bob@example.org", ("sip:alice@example.org", "tel:+1-777"), "tel:+1-555");
        assert_eq!(of_number, Some(keys("tel:+1555", ("tel:+1777", "tel:+1777"), "tel:+1-555").0));
    }
}
