//! `message/imdn+xml` (RFC 5438 §11.1).

use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use thiserror::Error;

/// Namespace of the document.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";
/// Longest document that is read.
const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Disposition {
    Delivered,
    DeliveryFailed,
    DeliveryForbidden,
    DeliveryError,
    Processed,
    Stored,
    ProcessingForbidden,
    ProcessingError,
    Displayed,
    DisplayForbidden,
    DisplayError,
}

impl Disposition {
    /// The notification's element and its status.
    #[must_use]
    pub fn elements(self) -> (&'static str, &'static str) {
        match self {
            Disposition::Delivered => ("delivery-notification", "delivered"),
            Disposition::DeliveryFailed => ("delivery-notification", "failed"),
            Disposition::DeliveryForbidden => ("delivery-notification", "forbidden"),
            Disposition::DeliveryError => ("delivery-notification", "error"),
            Disposition::Processed => ("processing-notification", "processed"),
            Disposition::Stored => ("processing-notification", "stored"),
            Disposition::ProcessingForbidden => ("processing-notification", "forbidden"),
            Disposition::ProcessingError => ("processing-notification", "error"),
            Disposition::Displayed => ("display-notification", "displayed"),
            Disposition::DisplayForbidden => ("display-notification", "forbidden"),
            Disposition::DisplayError => ("display-notification", "error"),
        }
    }

    /// All of them.
    pub const ALL: [Disposition; 11] = [
        Disposition::Delivered,
        Disposition::DeliveryFailed,
        Disposition::DeliveryForbidden,
        Disposition::DeliveryError,
        Disposition::Processed,
        Disposition::Stored,
        Disposition::ProcessingForbidden,
        Disposition::ProcessingError,
        Disposition::Displayed,
        Disposition::DisplayForbidden,
        Disposition::DisplayError,
    ];
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imdn {
    /// imdn.Message-ID of the message it is about.
    pub message_id: String,
    /// That message's DateTime.
    pub date_time: String,
    /// Who it was for.
    pub recipient_uri: Option<String>,
    /// Who it was first for.
    pub original_recipient_uri: Option<String>,
    /// What became of it.
    pub disposition: Disposition,
}

/// Why bytes are no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImdnError {
    /// No well-formed XML, or a document type, which is never needed.
    #[error("malformed XML")]
    Xml,
    /// Too large or too deep.
    #[error("document over the limits")]
    TooLarge,
    /// message-id or the disposition is missing.
    #[error("not a disposition notification")]
    Incomplete,
}

impl Imdn {
    /// Parses a document with any prefix.
    ///
    /// # Errors
    /// [`ImdnError`]
    pub fn parse(xml: &[u8]) -> Result<Imdn, ImdnError> {
        if xml.len() > MAX_BYTES {
            return Err(ImdnError::TooLarge);
        }
        let xml = std::str::from_utf8(xml).map_err(|_| ImdnError::Xml)?;
        let mut reader = NsReader::from_str(xml);
        let mut path: Vec<String> = Vec::new();
        let mut texts: [Option<String>; 4] = Default::default();
        let mut disposition = None;
        loop {
            let (namespace, event) = reader.read_resolved_event().map_err(|_| ImdnError::Xml)?;
            let in_imdn = !matches!(namespace, ResolveResult::Bound(name) if name.as_ref() != NAMESPACE);
            match event {
                Event::Start(element) | Event::Empty(element) if path.len() >= MAX_DEPTH => {
                    let _ = element;
                    return Err(ImdnError::TooLarge);
                }
                Event::Start(element) => {
                    let name = element.local_name().as_ref().to_owned();
                    note_status(&path, &name, in_imdn, &mut disposition);
                    path.push(name);
                }
                Event::Empty(element) => {
                    let name = element.local_name().as_ref().to_owned();
                    note_status(&path, &name, in_imdn, &mut disposition);
                }
                Event::End(_) => _ = path.pop(),
                Event::Text(text) => {
                    let text = text.xml10_content();
                    collect(&path, &text, &mut texts);
                }
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().map_err(|_| ImdnError::Xml)? {
                        Some(character) => character.to_string(),
                        None => predefined(reference.as_ref()).ok_or(ImdnError::Xml)?.to_owned(),
                    };
                    collect(&path, &character, &mut texts);
                }
                Event::DocType(_) => return Err(ImdnError::Xml),
                Event::Eof if path.is_empty() => break,
                Event::Eof => return Err(ImdnError::Xml),
                _ => {}
            }
        }
        let [message_id, date_time, recipient_uri, original_recipient_uri] =
            texts.map(|text| text.map(|text| text.trim().to_owned()));
        Ok(Imdn {
            message_id: message_id.filter(|id| !id.is_empty()).ok_or(ImdnError::Incomplete)?,
            date_time: date_time.unwrap_or_default(),
            recipient_uri,
            original_recipient_uri,
            disposition: disposition.ok_or(ImdnError::Incomplete)?,
        })
    }

    /// Writes the document.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let (notification, status) = self.disposition.elements();
        let mut xml =
            String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">");
        let mut element = |name: &str, value: &str| {
            xml.push_str(&format!("<{name}>{}</{name}>", quick_xml::escape::escape(value)));
        };
        element("message-id", &self.message_id);
        element("datetime", &self.date_time);
        if let Some(uri) = &self.recipient_uri {
            element("recipient-uri", uri);
        }
        if let Some(uri) = &self.original_recipient_uri {
            element("original-recipient-uri", uri);
        }
        xml.push_str(&format!("<{notification}><status><{status}/></status></{notification}></imdn>"));
        xml
    }
}

fn note_status(path: &[String], name: &str, in_imdn: bool, disposition: &mut Option<Disposition>) {
    let [.., notification, status] = path else { return };
    if in_imdn && status == "status" {
        let found = Disposition::ALL.into_iter().find(|known| known.elements() == (notification.as_str(), name));
        *disposition = disposition.or(found);
    }
}

fn collect(path: &[String], text: &str, texts: &mut [Option<String>; 4]) {
    let [_, name] = path else { return };
    let names = ["message-id", "datetime", "recipient-uri", "original-recipient-uri"];
    if let Some(slot) = names.iter().position(|known| known == name).and_then(|index| texts.get_mut(index)) {
        slot.get_or_insert_default().push_str(text);
    }
}

/// The five entities of XML itself; no others are known.
fn predefined(name: &str) -> Option<&'static str> {
    match name {
        "amp" => Some("&"),
        "lt" => Some("<"),
        "gt" => Some(">"),
        "quot" => Some("\""),
        "apos" => Some("'"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notifications_as_rfc_5438_writes_them_are_read() {
        let written = |status: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n\
                 <message-id>34jk324j</message-id>\r\n<datetime>2008-04-04T12:16:49-05:00</datetime>\r\n\
                 <recipient-uri>im:bob@example.com</recipient-uri>\r\n\
                 <original-recipient-uri>im:bob@example.com</original-recipient-uri>\r\n{status}\r\n</imdn>"
            )
        };
        for (kind, status, expected) in [
            ("delivery", "delivered", Disposition::Delivered),
            ("delivery", "failed", Disposition::DeliveryFailed),
            ("processing", "processed", Disposition::Processed),
            ("processing", "stored", Disposition::Stored),
            ("display", "displayed", Disposition::Displayed),
        ] {
            let xml = written(&format!(
                "<{kind}-notification>\r\n  <status>\r\n    <{status}/>\r\n  </status>\r\n</{kind}-notification>"
            ));
            let imdn = Imdn::parse(xml.as_bytes()).unwrap();
            assert_eq!((imdn.message_id.as_str(), imdn.disposition), ("34jk324j", expected), "{kind} {status}");
        }
    }

    #[test]
    fn any_prefix_is_read() {
        let xml = "<?xml version=\"1.0\"?><i:imdn xmlns:i=\"urn:ietf:params:xml:ns:imdn\"><i:message-id>a&amp;&#98;</i:message-id><i:datetime>2008-04-04T12:16:49-05:00</i:datetime><i:display-notification><i:status><i:displayed/></i:status></i:display-notification></i:imdn>";
        let imdn = Imdn::parse(xml.as_bytes()).unwrap();
        assert_eq!((imdn.message_id.as_str(), imdn.disposition), ("a&b", Disposition::Displayed));
    }

    #[test]
    fn bombs_are_refused() {
        let laughs =
            b"<!DOCTYPE x [<!ENTITY a \"aa\"><!ENTITY b \"&a;&a;\">]><imdn><message-id>&b;</message-id></imdn>";
        assert_eq!(Imdn::parse(laughs), Err(ImdnError::Xml));
        assert_eq!(Imdn::parse("<a>".repeat(50).as_bytes()), Err(ImdnError::TooLarge));
        assert_eq!(Imdn::parse(&vec![b' '; 70_000]), Err(ImdnError::TooLarge));
        assert_eq!(Imdn::parse(b"<imdn><message-id>&evil;</message-id></imdn>"), Err(ImdnError::Xml));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id in "[!-~]{1,20}", uri in proptest::option::of("sip:[a-z<&\"]{1,9}@b"), index in 0usize..11) {
            let imdn = Imdn {
                message_id: id,
                date_time: "2026-01-01T00:00:00Z".to_owned(),
                recipient_uri: uri.clone(),
                original_recipient_uri: uri,
                disposition: Disposition::ALL[index],
            };
            prop_assert_eq!(Imdn::parse(imdn.to_xml().as_bytes()).unwrap(), imdn);
        }

        #[test]
        fn arbitrary_bytes_never_panic(xml in "(<imdn>)?(<[a-z/!&;]{0,8}>|[ -~]{0,5}){0,12}") {
            let _ = Imdn::parse(xml.as_bytes());
        }
    }
}
