//! What deliveries say, and when they are tried again.

use restante_sip::header::write_date;
use restante_sip::message::{Method, Name, SipMessage};

use super::{House, PEER};

const BOB: &str = "sip:bob@example.org";
const FROM: &str = "From: <sip:alice@example.org>;tag=1\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n";

impl House {
    fn register_bob(&mut self) {
        self.register(BOB, &format!("<sip:bob@{PEER}>"));
        self.pass(1_000);
    }

    /// The MESSAGEs and INVITEs that were sent and not looked at.
    fn deliveries(&mut self) -> Vec<SipMessage> {
        let is_it = |it: &SipMessage| it.is_request() && matches!(it.method(), Some(Method::Message | Method::Invite));
        let (deliveries, rest) = self.sent.drain(..).partition(is_it);
        self.sent = rest;
        deliveries
    }
}

#[test]
fn a_delivery_says_what_is_left_of_the_messages_life_and_not_how_long_it_was() {
    let mut house = House::new();
    house.send("MESSAGE", BOB, None, &format!("{FROM}Expires: 600\r\n"), "ten minutes");
    house.pass(100_000);
    let registered_at = house.now().wall.0 / 1000;
    house.register_bob();
    let [delivery] = &house.deliveries()[..] else { panic!("one MESSAGE") };
    // It waits for a moment after the registration.
    let said = (delivery.header(Name::Date), delivery.header(Name::Expires));
    assert_eq!(said, (Some(write_date(registered_at).as_str()), Some("499")));
}

/// A change of mode changes the service (RFC 3841: what is asked for twice nobody has).
#[test]
fn a_delivery_asks_for_the_service_of_its_own_mode_alone() {
    let service = |name: &str| format!("*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.{name}\"");
    for named in ["msg", "largemsg", "deferred"] {
        let mut house = House::new();
        let fields = format!("Accept-Contact: {}\r\nAccept-Contact: *;+g.oma.sip-im\r\n", service(named));
        house.send("MESSAGE", BOB, None, &format!("{FROM}{fields}"), "hello");
        house.register_bob();
        let [delivery] = &house.deliveries()[..] else { panic!("one MESSAGE") };
        let asked: Vec<&str> = delivery.headers(Name::AcceptContact).collect();
        assert_eq!(asked, ["*;+g.oma.sip-im", &service("msg")], "{named}");
    }
}

#[test]
fn nobody_is_tried_again_before_the_time_that_it_named() {
    // More than a few go in a session.
    for texts in [&["1"][..], &["1", "2", "3", "4"]] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut house = House::new();
            texts.iter().for_each(|text| _ = house.message(BOB, text));
            house.register_bob();
            let [delivery] = &house.deliveries()[..] else { panic!("one request") };
            house.respond_to(delivery, 480, &[("Retry-After", "300")], "");
            house.pass(295_000);
            let early = house.deliveries();
            assert!(early.is_empty(), "{} requests for {texts:?}", early.len());
            house.pass(10_000);
            assert!(!house.deliveries().is_empty(), "{texts:?}");
        });
    }
}
