//! What is sent on: the received bytes with what RFC 3261 §16.4, §16.6 and §16.7 change.

use bytes::Bytes;

use crate::header::NameAddr;
use crate::message::{Method, Name, SipMessage};
use crate::uri::Uri;
use crate::writer::{Edit, WriteError};

use super::best::Best;

/// What is left of a request's routing once it arrived here (§16.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoutes {
    /// The Request-URI to go on with.
    pub request_uri: String,
    /// The URI by which we were named, ours by `is_ours`: in the first Route, or as the Request-URI of a strict router.
    pub own: Option<Uri>,
    /// The Route values that are left, as they were written.
    pub routes: Vec<String>,
}

/// Takes away what names us. The Request-URI counts as a route of ours only for a URI that we put into Record-Route:
/// `is_record_route`.
#[must_use]
pub fn without_own_routes(
    message: &SipMessage,
    is_ours: impl Fn(&Uri) -> bool,
    is_record_route: impl Fn(&Uri) -> bool,
) -> OwnRoutes {
    let mut routes: Vec<String> = message.list(Name::Route).map(crate::message::unfold).collect();
    let mut request_uri = message.request_uri().unwrap_or("").to_owned();
    let mut own = None;
    if let Ok(uri) = Uri::parse(&request_uri)
        && is_record_route(&uri)
        && let Some(last) = routes.last().and_then(|route| NameAddr::parse(route).ok())
    {
        // §16.4: what the strict router should have left in the Request-URI is the last Route.
        routes.pop();
        request_uri = last.uri.to_string();
        own = Some(uri);
    }
    // Of two in a row that are ours both go: a proxy with two sides names itself twice.
    for _ in 0..2 {
        let first = routes.first().and_then(|route| NameAddr::parse(route).ok()).map(|route| route.uri);
        if let Some(uri) = first.filter(|uri| is_ours(uri)) {
            routes.remove(0);
            own.get_or_insert(uri);
        }
    }
    OwnRoutes { request_uri, own, routes }
}

/// One branch's copy of a request (§16.6).
#[derive(Clone, Debug, Default)]
pub struct Forwarding<'a> {
    /// Our Via.
    pub via: &'a str,
    /// Its topmost Via with what was added on receipt (§18.2.1).
    pub stamped: Option<&'a str>,
    /// The target.
    pub request_uri: &'a str,
    /// Route values, all of them, the next hop's first.
    pub routes: &'a [String],
    /// URIs for Record-Route, where what follows in the dialog is to come here: the caller's side first.
    pub record_routes: &'a [String],
    /// Fields that the next hop may not see.
    pub hidden: &'a [Name],
    /// Max-Breadth (RFC 5393 §5.3.3).
    pub max_breadth: Option<u32>,
}

impl Forwarding<'_> {
    /// Its bytes.
    ///
    /// # Errors
    /// [`WriteError::TooManyHops`]: 483.
    pub fn write(&self, message: &SipMessage) -> Result<Bytes, WriteError> {
        // A next hop that is a strict router finds its own URI in the Request-URI, and the target last (§16.6 step 6).
        let first = self.routes.first().and_then(|route| NameAddr::parse(route).ok()).map(|route| route.uri);
        let strict = first.filter(|uri| uri.as_sip().is_some() && uri.parameter("lr").is_none());
        let last = format!("<{}>", self.request_uri);
        let (request_uri, routes): (String, Vec<&str>) = match &strict {
            Some(uri) => {
                let rest = self.routes.iter().skip(1).map(String::as_str);
                (uri.to_string(), rest.chain([last.as_str()]).collect())
            }
            None => (self.request_uri.to_owned(), self.routes.iter().map(String::as_str).collect()),
        };
        let mut edit = Edit::new(message).count_hop()?.content_length()?;
        if message.request_uri() != Some(request_uri.as_str()) {
            edit = edit.request_uri(&request_uri)?;
        }
        let received: Vec<String> = message.list(Name::Route).map(crate::message::unfold).collect();
        if !received.iter().map(String::as_str).eq(routes.iter().copied()) {
            edit = edit.remove(Name::Route);
            for route in routes.iter().rev() {
                edit = edit.push(Name::Route, route)?;
            }
        }
        for name in self.hidden {
            edit = edit.remove(*name);
        }
        if let Some(breadth) = self.max_breadth {
            edit = edit.set_by_text("Max-Breadth", &breadth.to_string())?;
        }
        for uri in self.record_routes {
            edit = edit.push(Name::RecordRoute, &format!("<{uri}>"))?;
        }
        if let Some(stamped) = self.stamped {
            edit = edit.replace_first(Name::Via, stamped)?;
        }
        Ok(edit.push(Name::Via, self.via)?.finish())
    }
}

/// A response as it goes back (§16.7 steps 7 to 9): without our Via.
#[derive(Clone, Copy, Debug, Default)]
pub struct Returning<'a> {
    /// Of the best answer: what others add to it.
    pub best: Option<&'a Best>,
    /// Via values of the request as it came, the topmost with what was added on receipt: for a response that kept none
    /// but ours.
    pub vias: &'a [String],
    /// Record-Route values that the request went on with, the topmost first, where one of them is ours: for an answer to
    /// an INVITE that makes a dialog and kept none.
    pub record_routes: &'a [String],
    /// Fields that its sender may not say.
    pub hidden: &'a [Name],
}

impl Returning<'_> {
    /// Its bytes.
    ///
    /// # Errors
    /// [`WriteError`]
    pub fn write(&self, response: &SipMessage) -> Result<Bytes, WriteError> {
        let mut edit = Edit::new(response).content_length()?;
        if response.list(Name::Via).count() > 1 {
            edit = edit.pop(Name::Via);
        } else {
            edit = edit.remove(Name::Via);
            for via in self.vias.iter().rev() {
                edit = edit.push(Name::Via, via)?;
            }
        }
        let makes_dialog = matches!(response.status(), Some(101..=299))
            && response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite)
            && response.to().is_ok_and(|to| to.tag().is_some());
        if makes_dialog && response.count(Name::RecordRoute) == 0 {
            for value in self.record_routes {
                edit = edit.append(Name::RecordRoute.as_str(), value)?;
            }
        }
        for name in self.hidden {
            edit = edit.remove(*name);
        }
        for (name, value) in self.best.iter().flat_map(|best| &best.challenges) {
            edit = edit.append(name.as_str(), value)?;
        }
        Ok(edit.finish())
    }
}
