//! Disposition notifications (RFC 5438).

mod payload;

use std::fmt;

use bytes::Bytes;

pub use payload::{Disposition, Imdn, ImdnError};

use crate::cpim::Builder;

/// Media type of a notification.
pub const CONTENT_TYPE: &str = "message/imdn+xml";

/// Which notifications are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispositionNotification {
    /// `positive-delivery`
    pub positive_delivery: bool,
    /// `negative-delivery`
    pub negative_delivery: bool,
    /// `processing`
    pub processing: bool,
    /// `display`
    pub display: bool,
}

impl DispositionNotification {
    /// Reads the header's value; unknown tokens are ignored (RFC 5438 §7.2.1, §10).
    #[must_use]
    pub fn parse(value: &str) -> DispositionNotification {
        let mut asked = DispositionNotification::default();
        for token in value.split(',') {
            match token.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
                "positive-delivery" => asked.positive_delivery = true,
                "negative-delivery" => asked.negative_delivery = true,
                "processing" => asked.processing = true,
                "display" => asked.display = true,
                _ => {}
            }
        }
        asked
    }
}

impl fmt::Display for DispositionNotification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens: Vec<&str> = [
            (self.positive_delivery, "positive-delivery"),
            (self.negative_delivery, "negative-delivery"),
            (self.processing, "processing"),
            (self.display, "display"),
        ]
        .into_iter()
        .filter_map(|(asked, token)| asked.then_some(token))
        .collect();
        formatter.write_str(&tokens.join(", "))
    }
}

/// What a report says, besides the disposition.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// imdn.Message-ID of the message it is about.
    pub message_id: &'a str,
    /// The message's CPIM DateTime.
    pub date_time: &'a str,
    /// The recipient that the message was for.
    pub recipient_uri: Option<&'a str>,
    /// The recipient as the sender first wrote it; by the schema where there is a recipient, and only there (RFC 5438 §11.1.9).
    pub original_recipient_uri: Option<&'a str>,
    /// What became of it.
    pub disposition: Disposition,
    /// CPIM From of the report.
    pub from: &'a str,
    /// CPIM To of the report.
    pub to: &'a str,
    /// The report's own Message-ID; it asks for nothing itself.
    pub own_message_id: &'a str,
    /// The time of the report, RFC 3339.
    pub now: &'a str,
    /// Where the report goes, taken from the message's IMDN-Record-Route, next hop first.
    pub route: &'a [String],
}

impl Report<'_> {
    /// The report as a CPIM message.
    #[must_use]
    pub fn to_cpim(&self) -> Bytes {
        let imdn = Imdn {
            message_id: self.message_id.to_owned(),
            date_time: self.date_time.to_owned(),
            recipient_uri: self.recipient_uri.map(str::to_owned),
            original_recipient_uri: self.original_recipient_uri.map(str::to_owned),
            disposition: self.disposition,
        };
        let mut builder = Builder::new()
            .from(&format!("<{}>", self.from))
            .to(&format!("<{}>", self.to))
            .date_time(self.now)
            .imdn_message_id(self.own_message_id);
        for hop in self.route {
            builder = builder.imdn("IMDN-Route", hop);
        }
        let content = imdn.to_xml();
        let head = builder.head(CONTENT_TYPE, &[("Content-Disposition", "notification")], Some(content.len() as u64));
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(content.as_bytes());
        bytes.into()
    }
}
