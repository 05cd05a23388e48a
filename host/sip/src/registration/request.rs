use super::embedded::{EmbeddedDevice, associated_addresses, embedded_devices};
use super::{RegisterError, Registrant};
use crate::header::{ContactValue, NameAddr, position_outside, split_list, split_outside};
use crate::identity::canonical;
use crate::message::{Method, Name, SipMessage, unfold};
use crate::uri::Uri;

/// What a REGISTER asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRequest {
    /// Whom it registers: To in canonical form.
    pub address_of_record: String,
    /// Who registers: From in canonical form, if it has one.
    pub registrant_address: Option<String>,
    /// From's URI as written.
    pub registrant_uri: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq.
    pub cseq_number: u32,
    /// What is to be bound.
    pub contacts: RequestedContacts,
    /// The Expires header field.
    pub expires_seconds: Option<u32>,
    /// Path, the first hop from us first.
    pub path: Vec<String>,
    /// `Supported: path`.
    pub supports_path: bool,
    /// RFC 5626 applies: `Supported: outbound`, and either nobody stands between or the first edge proxy said `ob`.
    pub is_outbound: bool,
    /// P-Associated-URI in canonical form, each once: its own, and that of an embedded answer. To be believed of a core only.
    pub associated_addresses: Vec<String>,
    /// `Event: registration`, which Kamailio puts into a third-party REGISTER.
    pub is_registration_event: bool,
    /// Devices from an embedded REGISTER or its answer (`message/sip`).
    pub devices: Vec<EmbeddedDevice>,
    /// The embedded message was an answer, which names all devices.
    pub devices_are_complete: bool,
    /// Methods of Allow.
    pub allow: Vec<String>,
    /// User-Agent.
    pub user_agent: Option<String>,
    /// Seconds within which a flow of RFC 5626 is to be kept alive, for the caller to set where it came over one.
    pub flow_timer_seconds: Option<u32>,
    /// The flow it came over, for the caller to set; goes into [`super::Binding::flow`].
    pub flow: Option<String>,
}

/// What is to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedContacts {
    /// No Contact: only asks what is bound.
    Query,
    /// `*`: end all.
    All,
    /// These.
    These(Vec<RequestedContact>),
}

/// One Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedContact {
    /// Parsed.
    pub value: ContactValue,
    /// URI as written.
    pub uri: String,
    /// Parameters as written, each with its semicolon, without `expires`.
    pub parameters: String,
}

impl RegisterRequest {
    /// Reads a REGISTER that passed [`crate::message::validate_request`].
    ///
    /// # Errors
    /// [`RegisterError::Malformed`], [`RegisterError::NoSuchUser`]
    pub fn parse(message: &SipMessage) -> Result<RegisterRequest, RegisterError> {
        use RegisterError::Malformed;
        if message.method() != Some(Method::Register) || !message.is_request() {
            return Err(Malformed("Not A REGISTER"));
        }
        let to = message.to().map_err(|_| Malformed("Malformed To"))?;
        let from = message.from().map_err(|_| Malformed("Malformed From"))?;
        let cseq = message.cseq().map_err(|_| Malformed("Malformed CSeq"))?;
        let expires_seconds = message.number(Name::Expires).map_err(|_| Malformed("Malformed Expires"))?;
        let embedded = embedded_devices(message);
        let mut associated: Vec<String> = Vec::new();
        for address in associated_addresses(message).chain(embedded.associated_addresses) {
            if !associated.contains(&address) {
                associated.push(address);
            }
        }
        let path: Vec<String> = message.list(Name::Path).map(unfold).collect();
        if path.iter().any(|value| value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')) {
            return Err(Malformed("Malformed Path"));
        }
        Ok(RegisterRequest {
            address_of_record: canonical(&to.uri).ok_or(RegisterError::NoSuchUser)?,
            registrant_address: canonical(&from.uri),
            registrant_uri: from.uri.to_string(),
            call_id: message.call_id().unwrap_or("").to_owned(),
            cseq_number: cseq.number,
            contacts: contacts(message, expires_seconds)?,
            expires_seconds,
            supports_path: has_option(message, "path"),
            is_outbound: has_option(message, "outbound") && is_outbound_route(message, &path),
            path,
            associated_addresses: associated,
            is_registration_event: message
                .header(Name::Event)
                .is_some_and(|event| event.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("registration")),
            devices_are_complete: embedded.is_complete,
            devices: embedded.devices,
            allow: message.list(Name::Allow).map(str::to_owned).collect(),
            user_agent: message.header(Name::UserAgent).map(unfold),
            flow_timer_seconds: None,
            flow: None,
        })
    }

    /// Who sent it, as far as the request tells: From names another than To (RFC 3261 §10.2), or it is marked as a core's.
    /// The caller, who knows all names of a user and whom to trust as a core, has the last word.
    #[must_use]
    pub fn likely_registrant(&self) -> Registrant {
        let same = self.registrant_address.as_deref() == Some(self.address_of_record.as_str());
        if same && !self.is_registration_event && self.devices.is_empty() {
            Registrant::Device
        } else {
            Registrant::Core
        }
    }
}

fn contacts(message: &SipMessage, expires: Option<u32>) -> Result<RequestedContacts, RegisterError> {
    let values: Vec<&str> = message.list(Name::Contact).collect();
    if values.is_empty() {
        return Ok(RequestedContacts::Query);
    }
    if values.contains(&"*") {
        // RFC 3261 §10.3 step 6.
        return match (values.len(), expires) {
            (1, Some(0)) => Ok(RequestedContacts::All),
            _ => Err(RegisterError::Malformed("Contact * Without Expires 0")),
        };
    }
    values.iter().map(|value| RequestedContact::parse(value)).collect::<Result<_, _>>().map(RequestedContacts::These)
}

impl RequestedContact {
    fn parse(value: &str) -> Result<RequestedContact, RegisterError> {
        let text = unfold(value);
        // A quoted string may hold them, escaped, but nobody could be told of such a binding.
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(RegisterError::Malformed("Control Character In Contact"));
        }
        let value = ContactValue::parse(&text).map_err(|_| RegisterError::Malformed("Malformed Contact"))?;
        let (uri, parameters) = split_contact(&text);
        Ok(RequestedContact { uri: uri.to_owned(), parameters: without_expires(parameters), value })
    }
}

/// URI and parameters of a Contact value that parses, as written.
fn split_contact(text: &str) -> (&str, &str) {
    match position_outside(text, b'<').and_then(|open| text.get(open + 1..)).and_then(|rest| rest.split_once('>')) {
        Some(parts) => parts,
        None => {
            let (uri, parameters) = text.split_at(text.find(';').unwrap_or(text.len()));
            (uri.trim(), parameters)
        }
    }
}

fn without_expires(parameters: &str) -> String {
    let is_expires = |parameter: &str| parameter.split('=').next().unwrap_or("").trim().eq_ignore_ascii_case("expires");
    split_outside(parameters, b';')
        .map(str::trim)
        .filter(|parameter| !parameter.is_empty() && !is_expires(parameter))
        .fold(String::with_capacity(parameters.len()), |out, parameter| out + ";" + parameter)
}

/// Whether flows can be kept apart: we are the first hop ourselves, or the first edge proxy says `ob` (RFC 5626 §6).
///
/// Deviation: without that a reg-id is ignored, where the RFC wants 439, which deployed clients take for a failure.
fn is_outbound_route(message: &SipMessage, path: &[String]) -> bool {
    match path.last() {
        Some(edge) => NameAddr::parse(edge).is_ok_and(|edge| edge.uri.parameter("ob").is_some()),
        None => message.list(Name::Via).take(2).count() == 1,
    }
}

fn has_option(message: &SipMessage, option: &str) -> bool {
    [Name::Supported, Name::Require]
        .into_iter()
        .any(|name| message.headers(name).flat_map(split_list).any(|tag| tag.eq_ignore_ascii_case(option)))
}

/// Whether it is a URI that a request can be sent to.
pub(super) fn is_reachable(contact: &RequestedContact) -> bool {
    matches!(contact.value.address.uri, Uri::Sip(_))
}

/// Methods of a contact's `methods` feature tag, else those of Allow.
pub(super) fn methods_of(contact: &ContactValue, allow: &[String]) -> Vec<String> {
    match contact.address.parameter("methods") {
        Some(methods) => split_list(methods).map(str::to_owned).collect(),
        None => allow.to_vec(),
    }
}
