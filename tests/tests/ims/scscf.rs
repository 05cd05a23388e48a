//! As much of an S-CSCF as an application server sees (TS 24.229 §5.4), on a bare socket: it invokes the server for what
//! matches a filter, tells it of registrations, and takes its requests.

use std::time::Duration;

use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::registration_events::{RegistrationInfo, ReportedContact, ReportedRegistration};
use restante_tests::{RawSip, Request, World, in_time};
use tokio::time::Instant;

pub const BOB: &str = "sip:bob@example.org";
/// A proxy in front gives an application server five seconds for anything but an INVITE; this is with what a busy machine
/// adds. Who waits for what a device does not answer says nothing for 32 s.
pub const PATIENCE_OF_CORE: Duration = Duration::from_secs(15);
/// How often something is passed on that the server keeps where a machine stands still for three seconds.
pub const TRIES: u64 = 5;
/// Content-Type of a body with a REGISTER in it and what the HSS has for the server.
const BOTH: &str = "multipart/mixed;boundary=both";

/// The core.
pub struct Scscf {
    pub socket: RawSip,
    server: String,
}

/// What a third-party REGISTER carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// The client's REGISTER.
    Register,
    /// The 200 to it.
    Answer,
    /// What the HSS has for the server.
    ServiceInfo,
    /// Both in a multipart.
    Both,
}

impl Scscf {
    pub async fn new(world: &World) -> Scscf {
        Scscf::at(world, world.udp().await)
    }

    pub fn at(world: &World, socket: RawSip) -> Scscf {
        Scscf { socket, server: world.sip().to_string() }
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its URI in a third-party REGISTER.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.socket.local())
    }

    /// The mark by which it goes on with a request that comes back (as Kamailio writes it).
    pub fn mark(&self) -> String {
        format!("<sip:iscmark@{};lr;s=0;h=1;d=0;a=7369703a626f62>", self.socket.local())
    }

    /// A request that matched a filter: the server's Route on top, its own mark below.
    pub fn invokes(&self, method: &str, uri: &str) -> Request {
        let server = &self.server;
        self.socket
            .request(method, uri)
            .with("Route", &format!("<sip:{server};lr>"))
            .with("Route", &self.mark())
            .with("P-Asserted-Identity", "<sip:alice@example.org>")
    }

    /// The same with what RFC 5502 says of the served user.
    pub fn serves(&self, method: &str, uri: &str, served: &str) -> Request {
        self.invokes(method, uri).with("P-Served-User", served)
    }

    /// Tells that somebody registered, or with 0 that a device left.
    pub async fn registers(&mut self, user: &str, expires_seconds: u32, body: Body) -> SipMessage {
        let request = self.third_party(user, expires_seconds, body);
        self.socket.ask(&request).await
    }

    pub fn third_party(&self, user: &str, expires_seconds: u32, body: Body) -> Request {
        let uri = self.uri();
        let request = self.socket.request("REGISTER", &format!("sip:{}", self.server));
        let request = request.set("From", &format!("<{uri}>;tag=scscf")).set("To", &format!("<{user}>"));
        let request = request.with("Contact", &format!("<{uri}>")).with("Expires", &expires_seconds.to_string());
        let inner = embedded(user, expires_seconds);
        let answer = inner.replacen("REGISTER sip:example.org SIP/2.0", "SIP/2.0 200 OK", 1);
        match body {
            Body::None => request,
            Body::Register => request.body("message/sip", inner),
            Body::Answer => request.body("message/sip", answer),
            Body::ServiceInfo => request.body("application/3gpp-ims+xml", SERVICE_INFO),
            Body::Both => {
                let parts = format!(
                    "--both\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n{SERVICE_INFO}\r\n\
                     --both\r\nContent-Type: message/sip\r\n\r\n{inner}\r\n--both--\r\n"
                );
                request.body(BOTH, parts)
            }
        }
    }

    /// The next request of the server with this method.
    pub async fn asked(&mut self, method: &str) -> SipMessage {
        let is_it = |it: &SipMessage| it.is_request() && it.method().is_some_and(|known| known.as_str() == method);
        self.socket.expect(method, is_it).await
    }

    /// The final answer, within what a core waits for.
    pub async fn answered_in_time(&mut self, request: &Request, patience: Duration) -> SipMessage {
        let asked_at = Instant::now();
        self.socket.send(&request.bytes()).await;
        let answer = in_time("a final answer", self.socket.answer_to(request)).await;
        assert!(asked_at.elapsed() < patience, "{:?}: {:?}", asked_at.elapsed(), answer.bytes());
        answer
    }

    /// Acknowledges the refusal of an INVITE.
    pub async fn acknowledges(&mut self, invite: &Request, answer: &SipMessage) {
        let line = invite.line.replacen("INVITE", "ACK", 1);
        let request = Request { line, body: Default::default(), ..invite.clone().without("Content-Type") };
        let request = request.set("To", answer.header_by_text("To").expect("a To")).set("CSeq", "1 ACK");
        self.socket.send(&request.bytes()).await;
    }
}

/// With P-Associated-URI inside the embedded message.
pub fn with_associated(request: Request, names: &str) -> Request {
    let inner = String::from_utf8(request.body.to_vec()).expect("text");
    let inner = inner.replacen("CSeq: 1", &format!("P-Associated-URI: {names}\r\nCSeq: 1"), 1);
    request.body("message/sip", inner)
}

const SERVICE_INFO: &str =
    "<?xml version=\"1.0\"?>\r\n<ims-3gpp version=\"1\"><service-info>gold</service-info></ims-3gpp>";

/// A client's REGISTER with the feature tags of a CPM client.
fn embedded(user: &str, expires_seconds: u32) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKue\r\nFrom: <{user}>;tag=ue\r\n\
         To: <{user}>\r\nCall-ID: ue\r\nCSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.7>;expires={expires_seconds}\
         ;+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-000000000001>\"\
         ;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A subscription of the server's to registration events.
pub struct Subscription {
    /// Its last SUBSCRIBE.
    pub subscribe: SipMessage,
    cseq: u32,
    version: u32,
}

impl Scscf {
    /// The next SUBSCRIBE, not answered yet.
    pub async fn subscription(&mut self) -> Subscription {
        Subscription { subscribe: self.asked("SUBSCRIBE").await, cseq: 0, version: 0 }
    }

    /// Grants it.
    pub async fn grants(&mut self, subscription: &Subscription, expires_seconds: u32) {
        let contact = format!("<{}>", self.uri());
        let fields = [("Expires", &*expires_seconds.to_string()), ("Contact", &contact)];
        self.socket.respond_with(&subscription.subscribe, 200, &fields).await;
    }

    /// The NOTIFY with the next document: all contacts of Bob's, or those that changed.
    pub fn notify(
        &self,
        subscription: &mut Subscription,
        state: &str,
        is_full: bool,
        contacts: &[(&str, bool)],
    ) -> Request {
        let contact = |(user, is_active): &(&str, bool)| ReportedContact {
            id: (*user).to_owned(),
            is_active: *is_active,
            event: if *is_active { "registered" } else { "expired" }.to_owned(),
            uri: format!("sip:{user}@192.0.2.7"),
            expires_seconds: Some(600),
            parameters: vec![
                ("+sip.instance".to_owned(), format!("<urn:uuid:{user}>")),
                ("methods".to_owned(), "MESSAGE, INVITE".to_owned()),
                ("+g.3gpp.icsi-ref".to_owned(), "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg".to_owned()),
            ],
            public_gruu: Some(format!("sip:bob@example.org;gr=urn:uuid:{user}")),
            q: None,
        };
        let registration = ReportedRegistration {
            address_of_record: BOB.to_owned(),
            id: "r1".to_owned(),
            is_active: !is_full || contacts.iter().any(|(_, is_active)| *is_active),
            contacts: contacts.iter().map(contact).collect(),
        };
        let info = RegistrationInfo { version: subscription.version, is_full, registrations: vec![registration] };
        subscription.version += 1;
        self.notify_without(subscription, state).body("application/reginfo+xml", info.to_xml())
    }

    /// A NOTIFY without a document.
    pub fn notify_without(&self, subscription: &mut Subscription, state: &str) -> Request {
        subscription.cseq += 1;
        let subscribe = &subscription.subscribe;
        let field = |name: Name| subscribe.header(name).expect("a SUBSCRIBE").to_owned();
        let to = field(Name::To);
        let from = to.split(";tag=").next().unwrap_or_default().to_owned();
        let contact = subscribe.contacts().expect("a Contact")[0].address.uri.to_string();
        self.socket
            .request("NOTIFY", &contact)
            .set("From", &format!("{from};tag=story"))
            .set("To", &field(Name::From))
            .set("Call-ID", subscribe.call_id().expect("a Call-ID"))
            .set("CSeq", &format!("{} NOTIFY", subscription.cseq))
            .with("Contact", &format!("<{}>", self.uri()))
            .with("Event", "reg")
            .with("Subscription-State", state)
    }
}

impl Subscription {
    /// A document was lost on the way.
    pub fn loses_one(&mut self) {
        self.version += 1;
    }
}

/// The values of Route.
pub fn routes(message: &SipMessage) -> Vec<String> {
    message.list(Name::Route).map(str::to_owned).collect()
}

pub fn is(message: &SipMessage, method: Method) -> bool {
    message.is_request() && message.method() == Some(method)
}
