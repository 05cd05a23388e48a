//! Reports for senders (RFC 5438): stored, when `processing` was asked for; failed, when `negative-delivery` was and the
//! message expired or was given up. Never about a report, nor about what is encrypted: nobody here can encrypt for its sender, and
//! a report in the clear would say what the message did not (RFC 5438 §14).
//!
//! A report is a message for the sender's own queue, stored in the transaction that makes it true. It follows
//! IMDN-Record-Route; without one it goes to the asserted sender that was stored. A sender who is nobody and recorded no route
//! hears of nothing: the report would wait for nobody. Its deduplication key follows from that of the message, so that it is
//! stored once however often it is made; its own id follows from that with a secret, so that nobody else can tell it
//! (RFC 5438 §6.3).
//!
//! Deviation: RFC 5438 §7.2.1 sends it to the CPIM From, which may be anonymous, and which anybody can write.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use restante_cpim::imdn::{self, Disposition};
use sha2::Sha256;

use super::Limits;
use crate::model::{
    Body, CanonicalAddress, DeduplicationKey, Dispositions, Envelope, ExpirySource, ImdnHeaders, MessageKind, Mode,
    NewMessage, RecipientKey, Sender, StoredMessage, Timestamp, Verification,
};

/// What a MESSAGE with a report needs besides its body, its addresses and its Request-URI.
const REPORT_HEADER_BYTES: u32 = 480;
/// So large a MESSAGE is sent in page mode over any transport (1300 bytes, RFC 3428 §8), with a Route and a Request-URI of usual
/// length.
const SAFE_PAGE_BYTES: u32 = 1_300 - 100;
/// Makes a report's key out of its message's.
const STORED_MARK: u8 = 0x5a;
/// The same.
const FAILED_MARK: u8 = 0xa5;

/// What Message-IDs of reports are made with: the same for as long as there are messages, and known to nobody else.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReportKey([u8; 32]);

impl ReportKey {
    /// From secret random bytes.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> ReportKey {
        ReportKey(secret)
    }

    /// 32 hexadecimal digits.
    fn message_id(&self, report: &DeduplicationKey) -> String {
        // Any length of a key is taken.
        let digest =
            Hmac::<Sha256>::new_from_slice(&self.0).map(|mac| mac.chain_update(report.0).finalize().into_bytes());
        let digits = digest.unwrap_or_default();
        digits.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Debug for ReportKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ReportKey(..)")
    }
}

/// The dispositions that the sender asked for.
pub(super) fn asked(message: &NewMessage) -> Dispositions {
    message.envelope.imdn.as_ref().map(|imdn| imdn.dispositions).unwrap_or_default()
}

/// The message was stored.
pub(super) fn stored(message: &NewMessage, now: Timestamp, limits: &Limits) -> Option<NewMessage> {
    asked(message).processing.then(|| build(message, Disposition::Stored, STORED_MARK, now, limits))?
}

/// The message will not be delivered.
pub(super) fn failed(stored: &StoredMessage, now: Timestamp, limits: &Limits) -> Option<NewMessage> {
    let message = &stored.message;
    // What a device has was delivered, whatever became of the copy that was kept.
    let reached_a_device = stored.devices.iter().any(|state| state.delivered_at.is_some());
    let wanted = asked(message).negative_delivery && !reached_a_device;
    wanted.then(|| build(message, Disposition::DeliveryFailed, FAILED_MARK, now, limits))?
}

fn build(
    message: &NewMessage,
    disposition: Disposition,
    mark: u8,
    now: Timestamp,
    limits: &Limits,
) -> Option<NewMessage> {
    let envelope = &message.envelope;
    let imdn = envelope.imdn.as_ref().filter(|imdn| !imdn.message_id.is_empty())?;
    if envelope.kind == MessageKind::Disposition || is_encrypted(envelope) {
        return None;
    }
    let recipient_uri = address_of(imdn.to.as_deref()).unwrap_or(&envelope.request_uri);
    let request_uri = address_of(imdn.record_route.first().map(String::as_str));
    let request_uri = request_uri.or_else(|| address_of(Some(&envelope.sender.uri)))?.to_owned();
    let deduplication = DeduplicationKey(message.deduplication.0.map(|byte| byte ^ mark));
    let own_message_id = limits.report_key.message_id(&deduplication);
    let date = date_time(now);
    let original_date = imdn.date_time.clone().unwrap_or_else(|| date_time(message.received_at));
    let headers: Vec<(String, String)> =
        envelope.headers.iter().filter(|(name, _)| belongs_to_the_conversation(name)).cloned().collect();
    let header_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let around = header_bytes + envelope.sender.uri.len() + limits.reporter.len() * 2;
    let original_recipient_uri = address_of(imdn.original_to.as_deref());
    // The schema has both or neither (RFC 5438 §11.1.9).
    let with = |recipient_uri: Option<&str>| {
        let report = imdn::Report {
            message_id: &imdn.message_id,
            date_time: &original_date,
            recipient_uri,
            original_recipient_uri: recipient_uri.map(|uri| original_recipient_uri.unwrap_or(uri)),
            disposition,
            from: &limits.reporter,
            to: address_of(imdn.from.as_deref()).unwrap_or(&envelope.sender.uri),
            own_message_id: &own_message_id,
            now: &date,
            route: &imdn.record_route,
        };
        report.to_cpim()
    };
    let page_bytes =
        |body: &Bytes| u32::try_from(body.len() + around).ok().and_then(|bytes| bytes.checked_add(REPORT_HEADER_BYTES));
    let whole = with(Some(recipient_uri));
    // A report that its sender's device gets in page mode says more than one that names the recipient and does not come:
    // which message it is of the message's id says.
    let is_of_a_page = page_bytes(&whole).is_some_and(|bytes| bytes <= SAFE_PAGE_BYTES);
    let body = if is_of_a_page || original_recipient_uri.is_some() { whole } else { with(None) };
    let address = CanonicalAddress(limits.reporter.as_str().into());
    Some(NewMessage {
        recipient: RecipientKey { tenant: message.recipient.tenant.clone(), address: envelope.sender.address.clone() },
        deduplication,
        deduplication_as_written: None,
        envelope: Envelope {
            kind: MessageKind::Disposition,
            mode: Mode::Page,
            sender: Sender {
                address,
                uri: limits.reporter.clone(),
                verification: Verification::Authenticated,
                private: false,
            },
            request_uri,
            headers,
            content_type: String::from("message/cpim"),
            wrapped_type: Some(imdn::CONTENT_TYPE.to_owned()),
            imdn: Some(ImdnHeaders { message_id: own_message_id, date_time: Some(date), ..ImdnHeaders::default() }),
            page_base_bytes: page_bytes(&body),
        },
        body: Body::Inline(body),
        received_at: now,
        expires_at: now.after(limits.default_keep.min(limits.max_keep)),
        expiry_source: ExpirySource::Operator,
        priority: crate::decision::fallback::PRIORITY,
        hand_over_to: None,
    })
}

/// Media types of what is encrypted end to end (RFC 8551, RFC 1847).
const ENCRYPTED: [&str; 3] = ["application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted"];

fn is_encrypted(envelope: &Envelope) -> bool {
    envelope.wrapped_type.as_deref().is_some_and(|wrapped| ENCRYPTED.contains(&wrapped))
}

/// Header fields by which a client finds the conversation (CPM).
fn belongs_to_the_conversation(name: &str) -> bool {
    ["Conversation-ID", "Contribution-ID"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Hosts of URIs that name nobody (RFC 3323 §4.1.1.3, 3GPP TS 23.003 §13.7).
const HOSTS_OF_NOBODY: [&str; 2] = ["anonymous.invalid", "unknown.invalid"];

/// The URI of a CPIM address, `Bob <sip:bob@example.org>` (RFC 3862 §4.1), unless it names nobody.
fn address_of(address: Option<&str>) -> Option<&str> {
    let uri = restante_cpim::cpim::address_uri(address?).trim();
    let lower = uri.to_ascii_lowercase();
    let names_nobody = uri.is_empty() || HOSTS_OF_NOBODY.iter().any(|host| lower.contains(host));
    (!names_nobody).then_some(uri)
}

/// RFC 3339 in UTC, for CPIM's DateTime.
fn date_time(at: Timestamp) -> String {
    let seconds = at.0 / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar. Counted in eras of 400 years that begin on
/// the first of March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (at, expected) in table {
            assert_eq!(date_time(Timestamp(at)), expected);
        }
        assert!(!date_time(Timestamp::NEVER).is_empty());
    }
}
