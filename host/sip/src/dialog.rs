//! Dialogs (RFC 3261 §12): what two user agents remember of each other after an INVITE or a SUBSCRIBE.
//!
//! | state | is entered by | what may follow |
//! |---|---|---|
//! | Early | a 101-199 with a To-tag (§12.1) | 2xx → Confirmed; 300-699 ends it, the owner drops it |
//! | Confirmed | a 2xx (§12.1, RFC 6665 §4.4.1) | BYE of either side → Terminated (§15.1) |
//! | Terminated | | nothing: requests get 481 |
//!
//! Every field is plain text or a number, so that a dialog can be kept with what it belongs to.

use thiserror::Error;

use crate::header::{ContactValue, NameAddr};
use crate::message::{Method, Name, SipMessage};
use crate::uri::{Uri, find_parameter};
use crate::writer::{Builder, WriteError};

/// Entries of a route set. A request with more: 400.
pub const MAX_ROUTES: usize = 32;

/// First CSeq number that we use in a dialog which the other side began.
const FIRST_CSEQ: u32 = 1;

/// Why a dialog cannot be made, or why a request is not of it. The text is the reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DialogError {
    /// A field that dialogs need is missing or wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// The request belongs to no such dialog.
    #[error("Call/Transaction Does Not Exist")]
    Unknown,
    /// A request with a higher CSeq came before it (§12.2.2).
    #[error("CSeq Out Of Order")]
    OutOfOrder,
}

impl DialogError {
    /// The status to answer a request with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            DialogError::Malformed(_) => 400,
            DialogError::Unknown => 481,
            DialogError::OutOfOrder => 500,
        }
    }
}

/// Where a dialog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialogState {
    /// A provisional answer made it.
    Early,
    /// A 2xx made it.
    Confirmed,
    /// BYE was sent or received.
    Terminated,
}

/// Names a dialog (§12): compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The other side's tag; empty for a peer of RFC 2543 (§12.1.1).
    pub remote_tag: String,
}

impl DialogId {
    /// The dialog that a received request belongs to; none when it is outside of any.
    #[must_use]
    pub fn of_request(request: &SipMessage) -> Option<DialogId> {
        Some(DialogId {
            call_id: request.call_id()?.to_owned(),
            local_tag: request.to().ok()?.tag()?.to_owned(),
            remote_tag: request.from().ok()?.tag().unwrap_or("").to_owned(),
        })
    }
}

/// One dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// Where it stands.
    pub state: DialogState,
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The other side's tag, empty if it gave none.
    pub remote_tag: String,
    /// Our name-addr, without a tag: From of our requests.
    pub local_party: String,
    /// The other side's name-addr, without a tag: To of our requests.
    pub remote_party: String,
    /// The other side's Contact URI: Request-URI of our requests.
    pub remote_target: String,
    /// URIs with their parameters, in the order in which our requests pass them.
    pub route_set: Vec<String>,
    /// CSeq of our last request; 0 before the first.
    pub local_cseq: u32,
    /// CSeq of the other side's last request; none before the first.
    pub remote_cseq: Option<u32>,
}

impl Dialog {
    /// The dialog that a received INVITE or SUBSCRIBE makes with an answer that has `local_tag` in To (§12.1.1). It is
    /// confirmed; one that only rings has no use for [`Dialog::request`] yet.
    ///
    /// # Errors
    /// [`DialogError::Malformed`]
    pub fn as_server(request: &SipMessage, local_tag: &str) -> Result<Dialog, DialogError> {
        let from = request.from().map_err(|_| DialogError::Malformed("Malformed From"))?;
        let to = request.to().map_err(|_| DialogError::Malformed("Malformed To"))?;
        Ok(Dialog {
            state: DialogState::Confirmed,
            call_id: call_id(request)?,
            local_tag: local_tag.to_owned(),
            remote_tag: from.tag().unwrap_or("").to_owned(),
            local_party: without_tag(to),
            remote_party: without_tag(from),
            remote_target: remote_target(request)?.ok_or(DialogError::Malformed("Contact Missing"))?,
            route_set: record_routes(request)?,
            local_cseq: 0,
            remote_cseq: Some(cseq_number(request)?),
        })
    }

    /// The dialog that an answer to our own request makes (§12.1.2): early by a 101-199, confirmed by a 2xx.
    ///
    /// Deviation: an answer without Contact is taken as if it named the Request-URI: a session that was accepted can be
    /// acknowledged and ended only so, and some clients leave it out.
    ///
    /// # Errors
    /// [`DialogError::Malformed`] for an answer that makes none: without a To-tag, or of another class.
    pub fn as_client(request: &SipMessage, response: &SipMessage) -> Result<Dialog, DialogError> {
        let state = match response.status() {
            Some(101..200) => DialogState::Early,
            Some(200..300) => DialogState::Confirmed,
            _ => return Err(DialogError::Malformed("No Dialog By This Answer")),
        };
        let from = request.from().map_err(|_| DialogError::Malformed("Malformed From"))?;
        let to = response.to().map_err(|_| DialogError::Malformed("Malformed To"))?;
        let remote_tag = to.tag().unwrap_or("").to_owned();
        if state == DialogState::Early && remote_tag.is_empty() {
            return Err(DialogError::Malformed("No Dialog By This Answer"));
        }
        // It stands in every request of ours as it came.
        if !remote_tag.is_empty() && !is_token(&remote_tag) {
            return Err(DialogError::Malformed("Malformed To"));
        }
        let target = remote_target(response)?.or_else(|| request.request_uri().map(str::to_owned));
        Ok(Dialog {
            state,
            call_id: call_id(request)?,
            local_tag: from.tag().unwrap_or("").to_owned(),
            remote_tag,
            local_party: without_tag(from),
            remote_party: without_tag(to),
            remote_target: target.ok_or(DialogError::Malformed("Contact Missing"))?,
            route_set: record_routes(response)?.into_iter().rev().collect(),
            local_cseq: cseq_number(request)?,
            remote_cseq: None,
        })
    }

    /// What it is found by.
    #[must_use]
    pub fn id(&self) -> DialogId {
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            remote_tag: self.remote_tag.clone(),
        }
    }

    /// Whether a received request has this dialog's Call-ID and tags.
    #[must_use]
    pub fn is_for(&self, request: &SipMessage) -> bool {
        request.call_id() == Some(&self.call_id)
            && request.to().is_ok_and(|to| to.tag() == Some(&self.local_tag))
            && request.from().is_ok_and(|from| from.tag().unwrap_or("") == self.remote_tag)
    }

    /// Takes an answer to our request in it: a 2xx to INVITE confirms an early dialog with the route set of that answer
    /// (§13.2.2.4), a 2xx to a target refresh gives a new remote target (§12.2.1.2). Anything else changes nothing.
    ///
    /// # Errors
    /// [`DialogError::Malformed`]; the dialog is as before.
    pub fn update(&mut self, response: &SipMessage) -> Result<(), DialogError> {
        let refreshes = response.method().is_some_and(|method| is_target_refresh(&method));
        if !matches!(response.status(), Some(200..300)) || !refreshes || self.state == DialogState::Terminated {
            return Ok(());
        }
        let target = remote_target(response)?;
        if self.state == DialogState::Early {
            self.route_set = record_routes(response)?.into_iter().rev().collect();
            self.state = DialogState::Confirmed;
        }
        if let Some(target) = target {
            self.remote_target = target;
        }
        Ok(())
    }

    /// Checks a received request of this dialog and takes what it changes (§12.2.2): its CSeq, and the remote target of
    /// a target refresh. BYE ends the dialog. ACK and CANCEL have the CSeq of their INVITE and change nothing.
    ///
    /// # Errors
    /// [`DialogError`]; the dialog is as before.
    pub fn receive(&mut self, request: &SipMessage) -> Result<(), DialogError> {
        if !self.is_for(request) || self.state == DialogState::Terminated {
            return Err(DialogError::Unknown);
        }
        let method = request.method().ok_or(DialogError::Unknown)?;
        if matches!(method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        let number = cseq_number(request)?;
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(DialogError::OutOfOrder);
        }
        let target = if is_target_refresh(&method) { remote_target(request)? } else { None };
        self.remote_cseq = Some(number);
        if let Some(target) = target {
            self.remote_target = target;
        }
        if method == Method::Bye {
            self.state = DialogState::Terminated;
        }
        Ok(())
    }

    /// Begins our next request in it (§12.2.1.1), with `via` on top. Sending BYE ends the dialog (§15.1.1).
    #[must_use]
    pub fn request(&mut self, method: &Method, via: &str) -> Builder {
        self.local_cseq = self.local_cseq.saturating_add(1).max(FIRST_CSEQ);
        if *method == Method::Bye {
            self.state = DialogState::Terminated;
        }
        self.begin(method, via, self.local_cseq)
    }

    /// Begins the ACK to a 2xx of our INVITE (§13.2.2.4), in a Via with a branch of its own.
    ///
    /// # Errors
    /// [`WriteError::Missing`] when the answer has no CSeq.
    pub fn ack(&self, response: &SipMessage, via: &str) -> Result<Builder, WriteError> {
        let cseq = response.cseq().map_err(|_| WriteError::Missing)?;
        Ok(self.begin(&Method::Ack, via, cseq.number))
    }

    /// The URI whose address our requests go to (§8.1.2).
    #[must_use]
    pub fn next_hop(&self) -> &str {
        self.route_set.first().unwrap_or(&self.remote_target)
    }

    fn begin(&self, method: &Method, via: &str, cseq: u32) -> Builder {
        let tagged = |party: &str, tag: &str| match tag {
            "" => party.to_owned(),
            tag => format!("{party};tag={tag}"),
        };
        // A first proxy that is no loose router expects its own URI as the Request-URI, and the target last.
        let strict = self.route_set.split_first().filter(|(first, _)| !is_loose(first));
        let (request_uri, routes, last) = match strict {
            Some((first, rest)) => (without_method_and_headers(first), rest, Some(&self.remote_target)),
            None => (self.remote_target.clone(), self.route_set.as_slice(), None),
        };
        let mut builder = Builder::request(method, &request_uri).field("Via", via).field("Max-Forwards", "70");
        for route in routes.iter().chain(last) {
            builder = builder.field("Route", &format!("<{route}>"));
        }
        builder
            .field("From", &tagged(&self.local_party, &self.local_tag))
            .field("To", &tagged(&self.remote_party, &self.remote_tag))
            .field("Call-ID", &self.call_id)
            .field("CSeq", &format!("{cseq} {method}"))
    }
}

/// Adds to an answer what every answer that makes a dialog carries (§12.1.1): the request's Record-Route fields in their
/// order, and our Contact.
#[must_use]
pub fn establish(mut response: Builder, request: &SipMessage, contact_uri: &str) -> Builder {
    for route in request.headers(Name::RecordRoute) {
        response = response.unfolded("Record-Route", route);
    }
    response.field("Contact", &format!("<{contact_uri}>"))
}

/// What a tag has to be (RFC 3261 §25.1).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(crate::message_token)
}

/// Methods whose Contact replaces the remote target (§12.2, RFC 3311 §5.1, RFC 6665 §3.1).
fn is_target_refresh(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer)
}

fn call_id(message: &SipMessage) -> Result<String, DialogError> {
    message.call_id().map(str::to_owned).ok_or(DialogError::Malformed("Call-ID Missing"))
}

fn cseq_number(message: &SipMessage) -> Result<u32, DialogError> {
    message.cseq().map(|cseq| cseq.number).map_err(|_| DialogError::Malformed("Malformed CSeq"))
}

/// The URI of the first Contact, which must be one that requests can be sent to.
fn remote_target(message: &SipMessage) -> Result<Option<String>, DialogError> {
    let Some(contact) = message.list(Name::Contact).next() else { return Ok(None) };
    match ContactValue::parse(contact).map(|contact| contact.address.uri) {
        Ok(Uri::Sip(uri)) => Ok(Some(without_method_and_headers(&uri.to_string()))),
        _ => Err(DialogError::Malformed("Malformed Contact")),
    }
}

fn record_routes(message: &SipMessage) -> Result<Vec<String>, DialogError> {
    let routes = message.name_addrs(Name::RecordRoute).map_err(|_| DialogError::Malformed("Malformed Record-Route"))?;
    if routes.len() > MAX_ROUTES {
        return Err(DialogError::Malformed("Too Many Routes"));
    }
    Ok(routes.into_iter().map(|route| route.uri.to_string()).collect())
}

/// A party's name-addr as it goes into our From or To.
fn without_tag(mut party: NameAddr) -> String {
    party.parameters.retain(|(name, _)| !name.eq_ignore_ascii_case("tag"));
    party.to_string()
}

fn is_loose(route: &str) -> bool {
    match Uri::parse(route) {
        Ok(Uri::Sip(uri)) => find_parameter(&uri.parameters, "lr").is_some(),
        _ => true,
    }
}

/// What may not stand in a Request-URI (§19.1.1 table 1).
fn without_method_and_headers(uri: &str) -> String {
    match Uri::parse(uri) {
        Ok(Uri::Sip(mut uri)) => {
            uri.headers = None;
            uri.parameters.retain(|(name, _)| !name.eq_ignore_ascii_case("method"));
            uri.to_string()
        }
        _ => uri.to_owned(),
    }
}
