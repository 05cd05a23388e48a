//! Bodies and header fields that clients write.

use bytes::Bytes;
use restante_cpim::cpim::Builder as CpimBuilder;
use restante_cpim::imdn::DispositionNotification;
use restante_cpim::multipart::{self, Part};
use restante_cpim::resource_lists;
use restante_msrp::sdp::{AcceptTypes, Direction, LocalMedia};
use restante_msrp::uri::{Host, MsrpUri};
use restante_sip::header::{ICSI_DEFERRED, ICSI_LARGE_MESSAGE, ICSI_MESSAGE};
use restante_sip::uri::Uri;

use crate::configuration::{ClientConfiguration, Features};

/// Methods that the client answers.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, MESSAGE, NOTIFY, OPTIONS";
/// Types that it takes.
pub(crate) const ACCEPT: &str =
    "application/sdp, message/cpim, message/imdn+xml, application/simple-message-summary, text/plain";

/// Now, as CPIM writes it.
pub(crate) fn date_time() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}

/// `*` with a service identifier, as deployed clients write it.
pub(crate) fn accept_contact(service: &str) -> String {
    format!("*;+g.3gpp.icsi-ref=\"{}\"", service.replace(':', "%3A"))
}

/// The CPIM headers of a message of ours.
pub(crate) struct CpimHead<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) message_id: &'a str,
    pub(crate) notifications: DispositionNotification,
    pub(crate) subject: Option<&'a str>,
    pub(crate) content_type: &'a str,
    pub(crate) content_bytes: u64,
}

impl CpimHead<'_> {
    /// Everything before the content.
    pub(crate) fn write(&self) -> Bytes {
        let mut builder = CpimBuilder::new()
            .from(&format!("<{}>", self.from))
            .to(&format!("<{}>", self.to))
            .date_time(&date_time())
            .imdn_message_id(self.message_id)
            .disposition_notification(self.notifications);
        if let Some(subject) = self.subject {
            builder = builder.header("Subject", subject);
        }
        builder.head(self.content_type, &[], Some(self.content_bytes))
    }
}

/// The Contact of a registration.
pub(crate) fn registered_contact(
    configuration: &ClientConfiguration,
    contact_uri: &str,
    expires_seconds: u32,
) -> String {
    let Features { page, large, cpm_deferred, accepts_summary } = configuration.features;
    let services: Vec<String> = [(page, ICSI_MESSAGE), (large, ICSI_LARGE_MESSAGE), (cpm_deferred, ICSI_DEFERRED)]
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, service)| service.replace(':', "%3A"))
        .collect();
    let mut contact = format!("<{contact_uri}>;+sip.instance=\"<{}>\"", configuration.instance);
    if !services.is_empty() {
        contact.push_str(&format!(";+g.3gpp.icsi-ref=\"{}\"", services.join(",")));
    }
    let methods: Vec<&str> =
        [(large, "INVITE"), (large, "ACK"), (large, "BYE"), (page, "MESSAGE"), (true, "NOTIFY"), (true, "OPTIONS")]
            .into_iter()
            .filter_map(|(has, method)| has.then_some(method))
            .collect();
    contact.push_str(&format!(";methods=\"{}\"", methods.join(",")));
    if accepts_summary {
        // RFC 3840 §9: text goes into angle brackets inside the quotes.
        contact.push_str(";type=\"<application/simple-message-summary>\"");
    }
    contact.push_str(&format!(";expires={expires_seconds}"));
    contact
}

/// The user part of a Contact for an identity.
pub(crate) fn contact_user(identity: &str) -> String {
    match Uri::parse(identity) {
        Ok(Uri::Sip(uri)) => uri.user.unwrap_or_else(|| "client".to_owned()),
        Ok(Uri::Tel(tel)) => tel.digits(),
        _ => "client".to_owned(),
    }
}

/// What the client says of its end of a session.
pub(crate) fn local_media(
    (is_encrypted, place): (bool, std::net::SocketAddr),
    session_id: String,
    direction: Direction,
    max_size_bytes: u64,
) -> LocalMedia {
    LocalMedia {
        uri: MsrpUri::new(is_encrypted, Host::Address(place.ip()), place.port(), session_id),
        relays: Vec::new(),
        accept_types: AcceptTypes::parse("message/cpim"),
        accept_wrapped_types: Some(AcceptTypes::parse("*")),
        max_size_bytes: Some(max_size_bytes),
        direction,
        fingerprints: Vec::new(),
        origin_session_id: u64::from_be_bytes(crate::random::bytes()) >> 1,
        origin_version: 1,
    }
}

/// The body of an INVITE that fetches: the offer, and which messages are wanted. Content-Type and body.
pub(crate) fn fetch_body(offer: Bytes, ids: Option<&[String]>) -> (String, Bytes) {
    let Some(ids) = ids else { return ("application/sdp".to_owned(), offer) };
    let list = resource_lists::write_selection(ids.iter().map(String::as_str));
    let boundary = crate::random::token();
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let parts = [
        Part { headers: vec![field("Content-Type", "application/sdp")], content: offer },
        Part {
            headers: vec![
                field("Content-Type", resource_lists::CONTENT_TYPE),
                field("Content-Disposition", resource_lists::DISPOSITION),
            ],
            content: Bytes::from(list.into_bytes()),
        },
    ];
    (format!("multipart/mixed;boundary={boundary}"), multipart::write(&boundary, &parts))
}
