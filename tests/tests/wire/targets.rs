//! Where a Contact, a Path and a Request-URI may make the server send to. All peers of a story are on loopback, which a server
//! that listens there alone allows by itself; here the operator wrote what is allowed, and loopback is nothing special.

use std::net::{SocketAddr, UdpSocket};

use restante_client::{ClientEvent, PageMessage};
use restante_sip::message::{Method, SipMessage};
use restante_tests::{RawMsrp, RawSip, Request, Setting, World, setting, story};

const BOB: &str = "sip:bob@example.org";

fn allowing(targets: &'static [&'static str]) -> Setting {
    setting().configure(move |it| {
        it.sip.allow_targets = Some(targets.iter().map(|target| target.parse().expect("a target")).collect());
    })
}

/// A service on this machine that nobody is to be made to talk to.
struct Trap(UdpSocket);

impl Trap {
    fn new() -> Trap {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not wait");
        Trap(socket)
    }

    fn place(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket")
    }

    fn heard(&self) -> Option<String> {
        let mut buffer = [0; 2_000];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

fn forbidden(world: &World) -> u64 {
    world.metric("restante_dropped_total", &["reason=\"forbidden-target\""])
}

fn registration(socket: &RawSip, contact: &str) -> Request {
    let request = socket.request("REGISTER", "sip:example.org").set("From", "<sip:bob@example.org>;tag=1");
    request.set("To", "<sip:bob@example.org>").with("Contact", contact)
}

fn is_message(message: &SipMessage) -> bool {
    message.method() == Some(Method::Message) && message.is_request()
}

/// Registers Bob there; a message for him comes to where he was seen, and to nobody else.
async fn is_not_followed(world: &World, fields: &[(&str, String)]) {
    let mut bob = world.udp().await;
    let contact = format!("<sip:bob@{}>", bob.local());
    let register = fields.iter().fold(registration(&bob, &contact), |request, (name, value)| request.set(name, value));
    assert_eq!(bob.ask(&register).await.status(), Some(200), "{fields:?}");
    let before = forbidden(world);
    let mut alice = world.udp().await;
    let message = alice.request("MESSAGE", BOB).text("to where he is");
    assert_eq!(alice.ask(&message).await.status(), Some(202));
    let delivery = bob.expect("the message", is_message).await;
    bob.respond(&delivery, 200).await;
    world.until_settled().await;
    assert_eq!(forbidden(world), before + 1, "{fields:?}");
    let gone = register.new_transaction().set("CSeq", "2 REGISTER").set("Expires", "0");
    assert_eq!(bob.ask(&gone).await.status(), Some(200));
}

/// What may stand in a Contact or a Path, and may not be followed.
fn places(world: &World, trap: &Trap) -> [String; 4] {
    let (own, port) = (world.sip(), trap.place().port());
    [trap.place().to_string(), format!("127.0.0.77:{port}"), "169.254.7.7:5060".to_owned(), own.to_string()]
}

#[test]
fn a_contact_that_names_loopback_a_link_or_ourselves_is_not_followed() {
    allowing(&[]).tell(async |world| {
        let trap = Trap::new();
        for place in places(world, &trap) {
            is_not_followed(world, &[("Contact", format!("<sip:bob@{place}>"))]).await;
        }
        assert_eq!(trap.heard(), None);
    });
}

#[test]
fn a_path_that_names_loopback_a_link_or_ourselves_is_not_followed() {
    allowing(&[]).tell(async |world| {
        let trap = Trap::new();
        for place in places(world, &trap) {
            is_not_followed(world, &[("Supported", "path".to_owned()), ("Path", format!("<sip:{place};lr>"))]).await;
        }
        assert_eq!(trap.heard(), None);
    });
}

#[test]
fn ourselves_are_not_followed_where_loopback_is_allowed_either() {
    let ours = async |world: &mut World| {
        let own = world.sip();
        is_not_followed(world, &[("Contact", format!("<sip:bob@{own}>"))]).await;
        is_not_followed(world, &[("Supported", "path".to_owned()), ("Path", format!("<sip:{own};lr>"))]).await;
    };
    // By itself, since nothing but loopback is listened on; and as the operator says.
    story(ours);
    allowing(&["127.0.0.0/8"]).tell(ours);
}

#[test]
fn what_the_operator_allows_is_followed() {
    allowing(&["127.0.0.1"]).tell(async |world| {
        let (mut bob, mut other, mut alice) = (world.udp().await, world.udp().await, world.udp().await);
        let place = other.local();
        for fields in [
            vec![("Contact", format!("<sip:bob@{place}>"))],
            vec![("Supported", "path".to_owned()), ("Path", format!("<sip:{place};lr>"))],
        ] {
            let register = registration(&bob, &format!("<sip:bob@{}>", bob.local()));
            let register = fields.iter().fold(register, |request, (name, value)| request.set(name, value));
            assert_eq!(bob.ask(&register).await.status(), Some(200));
            let message = alice.request("MESSAGE", BOB).text("to where he says");
            assert_eq!(alice.ask(&message).await.status(), Some(202));
            let delivery = other.expect("the message", is_message).await;
            other.respond(&delivery, 200).await;
            world.until_settled().await;
            let gone = register.new_transaction().set("CSeq", "2 REGISTER").set("Expires", "0");
            assert_eq!(bob.ask(&gone).await.status(), Some(200));
        }
        assert_eq!(forbidden(world), 0);
    });
}

#[test]
fn the_contact_of_a_dialog_is_not_followed_there_either() {
    let place = allowing(&[]).configure(|it| it.limits.max_session_setup_seconds = 1);
    place.tell(async |world| {
        let (trap, mut alice) = (Trap::new(), world.udp().await);
        let invite = RawMsrp::invitation(&alice, BOB).set("Contact", &format!("<sip:alice@{}>", trap.place()));
        let answer = alice.ask(&invite).await;
        assert_eq!(answer.status(), Some(200));
        alice.send(&RawMsrp::ack(&alice, &invite, &answer).bytes()).await;
        let bye = alice.expect("BYE", |it| it.method() == Some(Method::Bye)).await;
        alice.respond(&bye, 200).await;
        world.until_no_session().await;
        assert_eq!(trap.heard(), None);
        assert!(forbidden(world) > 0);
    });
}

#[test]
fn what_a_core_passes_on_goes_no_further_than_is_allowed() {
    allowing(&[]).tell(async |world| {
        let (trap, mut core) = (Trap::new(), world.udp().await);
        for place in places(world, &trap).into_iter().take(3) {
            let before = forbidden(world);
            let served = core.request("MESSAGE", &format!("sip:carol@{place}")).text("passed on");
            let served = served.with("P-Served-User", "<sip:alice@example.org>;sescase=orig;regstate=reg");
            assert_eq!(core.ask(&served).await.status(), Some(404), "{place}");
            assert_eq!(forbidden(world), before + 1, "{place}");
        }
        assert_eq!(trap.heard(), None);
    });
}

#[test]
fn a_client_of_its_own_is_reached_where_it_was_seen_all_the_same() {
    allowing(&[]).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        alice.send_message(PageMessage::text(bob.address(), "as ever")).await;
        assert_eq!(bob.texts(1).await, ["as ever"]);
        world.until_settled().await;
        assert!(!bob.unread().iter().any(|event| matches!(event, ClientEvent::Received(_))));
    });
}
