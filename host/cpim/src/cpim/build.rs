use bytes::Bytes;

use super::IMDN_NAMESPACE;
use crate::imdn::DispositionNotification;

/// Makes a CPIM message as deployed clients parse it: NS before the first use of its prefix, names in exact case, the
/// content last and nothing after it.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    text: String,
    imdn_bound: bool,
}

impl Builder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// `From`, an address such as `<sip:a@b>`.
    #[must_use]
    pub fn from(self, address: &str) -> Builder {
        self.header("From", address)
    }

    /// `To`
    #[must_use]
    pub fn to(self, address: &str) -> Builder {
        self.header("To", address)
    }

    /// `DateTime`, RFC 3339.
    #[must_use]
    pub fn date_time(self, date_time: &str) -> Builder {
        self.header("DateTime", date_time)
    }

    /// `imdn.Message-ID`
    #[must_use]
    pub fn imdn_message_id(self, id: &str) -> Builder {
        self.imdn("Message-ID", id)
    }

    /// `imdn.Disposition-Notification`, if anything is asked for.
    #[must_use]
    pub fn disposition_notification(self, asked: DispositionNotification) -> Builder {
        let value = asked.to_string();
        if value.is_empty() { self } else { self.imdn("Disposition-Notification", &value) }
    }

    /// A header in the IMDN namespace.
    #[must_use]
    pub fn imdn(mut self, name: &str, value: &str) -> Builder {
        if !self.imdn_bound {
            self.imdn_bound = true;
            self = self.header("NS", &format!("imdn <{IMDN_NAMESPACE}>"));
        }
        self.header(&format!("imdn.{name}"), value)
    }

    /// Any header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Builder {
        for part in [name, ": ", &escape(value), "\r\n"] {
            self.text.push_str(part);
        }
        self
    }

    /// The message with its content.
    #[must_use]
    pub fn content(self, content_type: &str, content: &[u8]) -> Bytes {
        let mut bytes = self.head(content_type, &[], Some(content.len() as u64)).to_vec();
        bytes.extend_from_slice(content);
        bytes.into()
    }

    /// Everything before the content, which follows from elsewhere.
    #[must_use]
    pub fn head(self, content_type: &str, further: &[(&str, &str)], content_bytes: Option<u64>) -> Bytes {
        let mut text = self.text;
        text.push_str("\r\n");
        let length = content_bytes.map(|length| length.to_string());
        let fields = std::iter::once(("Content-Type", content_type)).chain(further.iter().copied());
        for (name, value) in fields.chain(length.as_deref().map(|length| ("Content-Length", length))) {
            // MIME has no escapes of CPIM's; what would begin a line of its own is left out.
            let value = value.chars().filter(|it| !it.is_ascii_control() || *it == '\t');
            text.push_str(name);
            text.push_str(": ");
            text.extend(value);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes().into()
    }
}

/// Control characters of ASCII and backslashes escaped, and nothing else (RFC 3862 §2.3.1), so that no value can begin a line of its own.
#[must_use]
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            control if control.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out
}
