use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use thiserror::Error;

use crate::header::quote;
use crate::registration::EmbeddedDevice;

/// Longest document.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Most registrations in one.
pub const MAX_REGISTRATIONS: usize = 64;
/// Most contacts in one, of all registrations together.
pub const MAX_CONTACTS: usize = 128;
/// Most parameters of one contact.
const MAX_PARAMETERS: usize = 32;
/// Longest text or attribute.
const MAX_TEXT_BYTES: usize = 2048;
/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// One `application/reginfo+xml` document (RFC 3680 §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationInfo {
    /// Rises by one with each document of a subscription.
    pub version: u32,
    /// It says everything, and not what changed.
    pub is_full: bool,
    /// Registrations of addresses-of-record.
    pub registrations: Vec<ReportedRegistration>,
}

/// What is registered for one address-of-record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedRegistration {
    /// The address-of-record as written.
    pub address_of_record: String,
    /// Names it within the subscription.
    pub id: String,
    /// `state="active"`; `init` and `terminated` are not.
    pub is_active: bool,
    /// Its contacts.
    pub contacts: Vec<ReportedContact>,
}

/// One contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedContact {
    /// Names it within its registration.
    pub id: String,
    /// `state="active"`.
    pub is_active: bool,
    /// What happened to it: `registered`, `refreshed`, `expired` and others.
    pub event: String,
    /// Its URI.
    pub uri: String,
    /// Seconds that are left of it.
    pub expires_seconds: Option<u32>,
    /// `q` as written.
    pub q: Option<String>,
    /// Further parameters of its Contact (`unknown-param`): names, and values without quotes.
    pub parameters: Vec<(String, String)>,
    /// Its public GRUU (RFC 5628).
    pub public_gruu: Option<String>,
}

impl ReportedContact {
    /// Bytes of its texts.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.id, &self.event, &self.uri].into_iter().chain(&self.q).chain(&self.public_gruu);
        let parameters = self.parameters.iter().flat_map(|(name, value)| [name, value]);
        texts.chain(parameters).map(String::len).fold(0, usize::saturating_add)
    }
}

/// Why bytes are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// No well-formed XML, or a document type, which is never needed.
    #[error("malformed XML")]
    Xml,
    /// Too large, too deep, or too much in it.
    #[error("document over the limits")]
    TooLarge,
    /// Something that RFC 3680 demands is missing.
    #[error("not a registration document")]
    Incomplete,
}

impl RegistrationInfo {
    /// Parses a document with any prefixes. What is not known is passed over (RFC 3680 §5.1).
    ///
    /// # Errors
    /// [`DocumentError`]
    pub fn parse(xml: &[u8]) -> Result<RegistrationInfo, DocumentError> {
        if xml.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge);
        }
        let xml = std::str::from_utf8(xml).map_err(|_| DocumentError::Xml)?;
        let mut reader = Reader::from_str(xml);
        let mut parsing = Parsing::default();
        loop {
            match reader.read_event().map_err(|_| DocumentError::Xml)? {
                Event::Start(element) => {
                    if parsing.path.len() >= MAX_DEPTH {
                        return Err(DocumentError::TooLarge);
                    }
                    parsing.begin(&element)?;
                    parsing.path.push(element.local_name().as_ref().to_owned());
                }
                Event::Empty(element) => {
                    parsing.begin(&element)?;
                    parsing.path.push(element.local_name().as_ref().to_owned());
                    parsing.end();
                }
                Event::End(_) => parsing.end(),
                Event::Text(text) => parsing.text(&text.xml10_content())?,
                Event::CData(text) => parsing.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().map_err(|_| DocumentError::Xml)? {
                        Some(character) => character.to_string(),
                        None => predefined(reference.as_ref()).ok_or(DocumentError::Xml)?.to_owned(),
                    };
                    parsing.text(&character)?;
                }
                Event::DocType(_) => return Err(DocumentError::Xml),
                Event::Eof if parsing.path.is_empty() && parsing.has_root => return Ok(parsing.info),
                Event::Eof => return Err(DocumentError::Xml),
                _ => {}
            }
        }
    }

    /// Writes the document.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
        let state = |is_active: bool| if is_active { "active" } else { "terminated" };
        let mut xml = format!(
            "<?xml version=\"1.0\"?>\r\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" \
             xmlns:gr=\"urn:ietf:params:xml:ns:gruuinfo\" version=\"{}\" state=\"{}\">",
            self.version,
            if self.is_full { "full" } else { "partial" }
        );
        for registration in &self.registrations {
            xml.push_str(&format!(
                "<registration aor=\"{}\" id=\"{}\" state=\"{}\">",
                escape(&registration.address_of_record),
                escape(&registration.id),
                state(registration.is_active)
            ));
            for contact in &registration.contacts {
                xml.push_str(&format!(
                    "<contact id=\"{}\" state=\"{}\" event=\"{}\"",
                    escape(&contact.id),
                    state(contact.is_active),
                    escape(&contact.event)
                ));
                if let Some(seconds) = contact.expires_seconds {
                    xml.push_str(&format!(" expires=\"{seconds}\""));
                }
                if let Some(q) = &contact.q {
                    xml.push_str(&format!(" q=\"{}\"", escape(q)));
                }
                xml.push_str(&format!("><uri>{}</uri>", escape(&contact.uri)));
                for (name, value) in &contact.parameters {
                    let (name, value) = (escape(name), escape(value));
                    xml.push_str(&format!("<unknown-param name=\"{name}\">{value}</unknown-param>"));
                }
                if let Some(gruu) = &contact.public_gruu {
                    xml.push_str(&format!("<gr:pub-gruu uri=\"{}\"/>", escape(gruu)));
                }
                xml.push_str("</contact>");
            }
            xml.push_str("</registration>");
        }
        xml.push_str("</reginfo>");
        xml
    }
}

impl ReportedContact {
    /// The device, as a core tells of one in a third-party REGISTER. None: what was reported makes no Contact.
    #[must_use]
    pub fn device(&self) -> Option<EmbeddedDevice> {
        let q = self.q.as_ref().map(|q| format!(";q={q}")).unwrap_or_default();
        let parameters = self.parameters.iter().map(|(name, value)| match value.as_str() {
            "" => format!(";{name}"),
            value => format!(";{name}={}", quote(value)),
        });
        let contact = parameters.fold(format!("<{}>{q}", self.uri), |contact, parameter| contact + &parameter);
        EmbeddedDevice::read(&contact)
    }
}

/// A document that is being read.
#[derive(Default)]
struct Parsing {
    info: RegistrationInfo,
    /// Local names of the open elements.
    path: Vec<String>,
    has_root: bool,
    contacts: usize,
    /// What the innermost element says so far.
    text: String,
}

impl Parsing {
    fn begin(&mut self, element: &BytesStart<'_>) -> Result<(), DocumentError> {
        let name = element.local_name();
        let attributes = attributes(element)?;
        let of = |name: &str| attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let wanted = |name: &str| of(name).ok_or(DocumentError::Incomplete);
        self.text.clear();
        let depth = self.path.len();
        match (depth, name.as_ref()) {
            (0, "reginfo") if !self.has_root => {
                self.has_root = true;
                self.info.version = wanted("version")?.trim().parse().map_err(|_| DocumentError::Incomplete)?;
                self.info.is_full = match wanted("state")?.as_str() {
                    "full" => true,
                    "partial" => false,
                    _ => return Err(DocumentError::Incomplete),
                };
            }
            (0, _) => return Err(DocumentError::Incomplete),
            (1, "registration") => {
                if self.info.registrations.len() >= MAX_REGISTRATIONS {
                    return Err(DocumentError::TooLarge);
                }
                self.info.registrations.push(ReportedRegistration {
                    address_of_record: wanted("aor")?,
                    id: wanted("id")?,
                    is_active: wanted("state")? == "active",
                    contacts: Vec::new(),
                });
            }
            (2, "contact") if self.is_in(1, "registration") => {
                self.contacts += 1;
                if self.contacts > MAX_CONTACTS {
                    return Err(DocumentError::TooLarge);
                }
                let contact = ReportedContact {
                    id: wanted("id")?,
                    is_active: wanted("state")? == "active",
                    event: of("event").unwrap_or_default(),
                    expires_seconds: of("expires").and_then(|text| text.trim().parse().ok()),
                    q: of("q"),
                    ..ReportedContact::default()
                };
                if let Some(registration) = self.info.registrations.last_mut() {
                    registration.contacts.push(contact);
                }
            }
            (3, "unknown-param") => {
                let name = wanted("name")?;
                if let Some(contact) = self.contact() {
                    if contact.parameters.len() >= MAX_PARAMETERS {
                        return Err(DocumentError::TooLarge);
                    }
                    contact.parameters.push((name, String::new()));
                }
            }
            (3, "pub-gruu") => {
                let uri = wanted("uri")?;
                self.contact().into_iter().for_each(|contact| contact.public_gruu = Some(uri.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), DocumentError> {
        if self.path.len() != 4 {
            return Ok(());
        }
        if self.text.len().saturating_add(text.len()) > MAX_TEXT_BYTES {
            return Err(DocumentError::TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn end(&mut self) {
        let text = std::mem::take(&mut self.text);
        let is_of_contact = self.path.len() == 4;
        let name = self.path.last().cloned().unwrap_or_default();
        if is_of_contact && let Some(contact) = self.contact() {
            let text = text.trim();
            match name.as_str() {
                "uri" => text.clone_into(&mut contact.uri),
                "unknown-param" => {
                    if let Some((_, value)) = contact.parameters.last_mut() {
                        unquoted(text).clone_into(value);
                    }
                }
                _ => {}
            }
        }
        self.path.pop();
    }

    /// The contact whose element is open.
    fn contact(&mut self) -> Option<&mut ReportedContact> {
        let is_open = self.is_in(1, "registration") && self.is_in(2, "contact");
        self.info.registrations.last_mut()?.contacts.last_mut().filter(|_| is_open)
    }

    fn is_in(&self, depth: usize, name: &str) -> bool {
        self.path.get(depth).is_some_and(|known| known == name)
    }
}

/// Notifiers write values with their quotes and without.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn attributes(element: &BytesStart<'_>) -> Result<Vec<(String, String)>, DocumentError> {
    let mut found = Vec::new();
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| DocumentError::Xml)?;
        let value = quick_xml::escape::unescape(&attribute.value).map_err(|_| DocumentError::Xml)?;
        if value.len() > MAX_TEXT_BYTES {
            return Err(DocumentError::TooLarge);
        }
        found.push((attribute.key.local_name().as_ref().to_owned(), value.into_owned()));
    }
    Ok(found)
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
    fn the_document_of_rfc_5628_is_read() {
        let xml = r#"<?xml version="1.0"?>
            <reginfo xmlns="urn:ietf:params:xml:ns:reginfo" xmlns:gr="urn:ietf:params:xml:ns:gruuinfo"
                     version="1" state="partial">
              <registration aor="sip:user@example.com" id="as9" state="active">
                <contact id="76" state="active" event="registered" duration-registered="7322" q="0.8" expires="600">
                  <uri>sip:user@192.0.2.1;a=1&amp;b</uri>
                  <display-name xml:lang="en">A <b>user</b></display-name>
                  <unknown-param name="+sip.instance">"&lt;urn:uuid:f81d&gt;"</unknown-param>
                  <unknown-param name="methods">"MESSAGE, INVITE"</unknown-param>
                  <unknown-param name="video"/>
                  <gr:pub-gruu uri="sip:user@example.com;gr=hha9s8d-999a"/>
                </contact>
                <contact id="77" state="terminated" event="expired"><uri>sip:user@pc</uri></contact>
              </registration>
            </reginfo>"#;
        let info = RegistrationInfo::parse(xml.as_bytes()).unwrap();
        assert_eq!((info.version, info.is_full, info.registrations.len()), (1, false, 1));
        let registration = &info.registrations[0];
        assert_eq!((registration.address_of_record.as_str(), registration.is_active), ("sip:user@example.com", true));
        let [phone, gone] = registration.contacts.as_slice() else { panic!("{registration:?}") };
        assert!(phone.is_active && !gone.is_active);
        assert_eq!(phone.uri, "sip:user@192.0.2.1;a=1&b");
        assert_eq!(phone.public_gruu.as_deref(), Some("sip:user@example.com;gr=hha9s8d-999a"));
        let device = phone.device().unwrap();
        assert_eq!(device.contact().unwrap().instance(), Some("urn:uuid:f81d"));
        assert_eq!(device.contact().unwrap().q_permille(), Ok(800));
        assert_eq!(device.methods, ["MESSAGE", "INVITE"]);
    }

    #[test]
    fn what_is_too_much_or_no_document_is_refused() {
        let with = |inner: &str| format!("<reginfo version=\"0\" state=\"full\">{inner}</reginfo>");
        let contact = "<contact id=\"1\" state=\"active\"><uri>sip:a@b</uri></contact>";
        let registration =
            |inner: &str| format!("<registration aor=\"a\" id=\"1\" state=\"active\">{inner}</registration>");
        for (xml, why) in [
            (String::new(), DocumentError::Xml),
            ("<reginfo version=\"0\" state=\"full\">".to_owned(), DocumentError::Xml),
            ("<!DOCTYPE x><reginfo version=\"0\" state=\"full\"/>".to_owned(), DocumentError::Xml),
            ("<other/>".to_owned(), DocumentError::Incomplete),
            ("<reginfo state=\"full\"/>".to_owned(), DocumentError::Incomplete),
            ("<reginfo version=\"0\" state=\"some\"/>".to_owned(), DocumentError::Incomplete),
            (with("<registration id=\"1\" state=\"active\"/>"), DocumentError::Incomplete),
            (with(&registration("").repeat(MAX_REGISTRATIONS + 1)), DocumentError::TooLarge),
            (with(&registration(&contact.repeat(MAX_CONTACTS + 1))), DocumentError::TooLarge),
            (with(&"<x>".repeat(MAX_DEPTH)), DocumentError::TooLarge),
            (" ".repeat(MAX_DOCUMENT_BYTES + 1), DocumentError::TooLarge),
            (with("<x>&evil;</x>"), DocumentError::Xml),
        ] {
            assert_eq!(RegistrationInfo::parse(xml.as_bytes()), Err(why), "{:.80}", xml);
        }
    }

    fn contact() -> impl Strategy<Value = ReportedContact> {
        let parameters = proptest::collection::vec(("[+a-z.]{1,8}", "[!#-~]{0,8}"), 0..3);
        let optional = |pattern: &'static str| proptest::option::of(pattern);
        (
            "[a-z<&]{1,4}",
            any::<bool>(),
            "[a-z]{1,9}",
            "sip:[a-z&;=]{1,9}@b",
            any::<Option<u32>>(),
            optional("0\\.[0-9]"),
            parameters,
            optional("sip:[a-z\"]{1,4}@h;gr=[a-z]"),
        )
            .prop_map(|(id, is_active, event, uri, expires_seconds, q, parameters, public_gruu)| {
                ReportedContact { id, is_active, event, uri, expires_seconds, q, parameters, public_gruu }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version: u32, is_full: bool, contacts in proptest::collection::vec(contact(), 0..4)) {
            let registration = ReportedRegistration {
                address_of_record: "sip:a&b@example.org".to_owned(), id: "r".to_owned(), is_active: true, contacts,
            };
            let info = RegistrationInfo { version, is_full, registrations: vec![registration] };
            prop_assert_eq!(RegistrationInfo::parse(info.to_xml().as_bytes()).unwrap(), info);
        }

        #[test]
        fn arbitrary_bytes_never_panic(xml in "(<reginfo version=\"1\" state=\"full\">)?(<(registration|contact|uri|/[a-z]{0,4})?( id=\"1\"| state=\"active\"| aor=\"a\"){0,3}/?>|[ -~]{0,5}){0,12}") {
            if let Ok(info) = RegistrationInfo::parse(xml.as_bytes()) {
                info.registrations.iter().flat_map(|it| &it.contacts).for_each(|it| _ = it.device());
            }
        }
    }
}
