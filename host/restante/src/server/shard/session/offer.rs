//! What the INVITE of a peer offers.

use restante_cpim::media_type::essence;
use restante_cpim::{multipart, resource_lists};
use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::{Name, SipMessage};

/// What an INVITE offers.
pub(in crate::server::shard) struct Offer {
    pub(in crate::server::shard) media: MsrpDescription,
    /// A part that selects deferred messages.
    pub(in crate::server::shard) selection: Option<bytes::Bytes>,
}

impl Offer {
    /// Reads the SDP of an INVITE, alone or in a multipart body; `takes_tls`: whether MSRP over TLS is taken. The error is the status to answer with.
    pub(in crate::server::shard) fn read(message: &SipMessage, takes_tls: bool) -> Result<Offer, u16> {
        let body = message.body();
        let content_type = message.header(Name::ContentType).unwrap_or("");
        let (description, selection) = match essence(content_type).as_str() {
            "application/sdp" => (body, None),
            kind if kind.starts_with("multipart/") => {
                let parts = multipart::parse(content_type, &body).ok_or(400u16)?;
                let of_type = |wanted: &str| parts.iter().find(|part| essence(part.content_type()) == wanted);
                let description = of_type("application/sdp").ok_or(488u16)?.content.clone();
                let list = of_type(resource_lists::CONTENT_TYPE).filter(|part| {
                    part.header("Content-Disposition").is_none_or(|value| essence(value) == resource_lists::DISPOSITION)
                });
                (description, list.map(|part| part.content.clone()))
            }
            // An INVITE without an offer leaves that to us; there is nothing to say before we know what they take.
            "" if body.is_empty() => return Err(488),
            _ => return Err(415),
        };
        let media = MsrpDescription::parse(&description, takes_tls).map_err(|error| error.sip_status())?;
        Ok(Offer { media, selection })
    }

    /// Size in a file selector (RFC 5547 §6).
    pub(in crate::server::shard) fn file_size_bytes(&self) -> Option<u64> {
        let selector = self.media.file_selector.as_deref()?;
        selector.split_ascii_whitespace().find_map(|part| part.strip_prefix("size:"))?.parse().ok()
    }
}
