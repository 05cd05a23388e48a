//! What is said among those who trust each other: clients cannot say it, and devices are not told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use restante_sip::message::{Name, SipMessage};
use restante_tests::RawSip;
use tempfile::TempDir;

use crate::kamailio::{Configuration, IN_FRONT, Kamailio, REGISTRAR};

const BOB: &str = "sip:bob@example.org";
/// What is believed, but for P-Asserted-Identity.
const BELIEVED: [(&str, &str); 5] = [
    ("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"),
    ("P-Charging-Vector", "icid-value=forged"),
    ("P-Charging-Function-Addresses", "ccf=192.0.2.9"),
    ("P-Called-Party-ID", "<sip:somebody@example.org>"),
    ("P-Served-User", "<sip:carol@example.org>;sescase=term;regstate=reg"),
];

/// Kamailio, a socket in Restante's place, one of Bob's device and one of Alice's.
struct Stage {
    restante: RawSip,
    device: RawSip,
    alice: RawSip,
    _kamailio: Kamailio,
    _directory: TempDir,
}

impl Stage {
    async fn new(name: &'static str) -> Option<Stage> {
        let configuration = Configuration::of(name)?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let restante = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let place = restante.local_addr().expect("a bound socket");
        let kamailio = Kamailio::start(configuration, place, directory.path()).expect("Kamailio starts");
        let at: SocketAddr = kamailio.clients();
        Some(Stage {
            restante: RawSip::udp_on(restante, kamailio.inside()),
            device: RawSip::udp(at.ip(), at).await,
            alice: RawSip::udp(at.ip(), at).await,
            _kamailio: kamailio,
            _directory: directory,
        })
    }

    /// Bob's device registers; the way to it, where Restante is the registrar.
    async fn registers(&mut self, name: &str) -> Vec<String> {
        let contact = format!("<sip:bob@{}>", self.device.local());
        let request = self.device.request("REGISTER", "sip:example.org");
        let request = request.set("From", &format!("<{BOB}>;tag=b")).set("To", &format!("<{BOB}>"));
        let request = request.with("Contact", &contact).with("Expires", "600");
        if name == REGISTRAR {
            assert_eq!(self.device.ask(&request).await.status(), Some(200));
            return Vec::new();
        }
        self.device.send(&request.bytes()).await;
        let register = self.came("REGISTER").await;
        self.restante.respond_with(&register, 200, &[("Contact", &contact)]).await;
        assert_eq!(self.device.answer_to(&request).await.status(), Some(200));
        register.list(Name::Path).map(str::to_owned).collect()
    }

    /// The next request at Restante's place.
    async fn came(&mut self, method: &str) -> SipMessage {
        self.restante.expect(method, |it| is(it, method)).await
    }

    async fn at_the_device(&mut self) -> SipMessage {
        self.device.expect("a MESSAGE", |it| is(it, "MESSAGE")).await
    }
}

fn is(message: &SipMessage, method: &str) -> bool {
    message.is_request() && message.method().is_some_and(|known| known.as_str() == method)
}

fn asserted(message: &SipMessage) -> Vec<&str> {
    message.headers(Name::PAssertedIdentity).collect()
}

#[tokio::test]
async fn restante_is_told_nothing_by_clients_that_only_cores_may_say() {
    for name in [REGISTRAR, IN_FRONT] {
        let Some(mut stage) = Stage::new(name).await else { return };
        let forged = stage.alice.request("MESSAGE", BOB).with("P-Asserted-Identity", "<sip:carol@example.org>");
        let forged = BELIEVED.iter().fold(forged.text("hello"), |it, (field, value)| it.with(field, value));
        stage.alice.send(&forged.bytes()).await;
        let came = stage.came("MESSAGE").await;
        for (field, _) in BELIEVED {
            assert_eq!(came.header_by_text(field), None, "{name}: {field}");
        }
        assert_eq!(asserted(&came), ["<sip:alice@example.org>"], "{name}");
        stage.restante.respond(&came, 202).await;
        assert_eq!(stage.alice.answer_to(&forged).await.status(), Some(202), "{name}");
    }
}

#[tokio::test]
async fn a_device_is_told_nothing_that_stays_among_those_who_trust_each_other() {
    for name in [REGISTRAR, IN_FRONT] {
        let Some(mut stage) = Stage::new(name).await else { return };
        let routes = stage.registers(name).await;
        let uri = if routes.is_empty() { BOB.to_owned() } else { format!("sip:bob@{}", stage.device.local()) };
        for privacy in ["none", "header;id"] {
            let delivery = stage.restante.request("MESSAGE", &uri).text("hello").with("Privacy", privacy);
            let delivery = delivery.with("P-Asserted-Identity", "<sip:alice@example.org>");
            let delivery = delivery.with("Referred-By", "<sip:alice@example.org>");
            let delivery = BELIEVED.iter().fold(delivery, |it, (field, value)| it.with(field, value));
            let delivery = routes.iter().fold(delivery, |it, route| it.with("Route", route));
            stage.restante.send(&delivery.bytes()).await;
            let came = stage.at_the_device().await;
            for (field, value) in BELIEVED {
                // That one is for the device.
                let expected = (field == "P-Called-Party-ID").then_some(value);
                assert_eq!(came.header_by_text(field), expected, "{name}, {privacy}: {field}");
            }
            let told = usize::from(privacy == "none");
            assert_eq!(asserted(&came).len(), told, "{name}, {privacy}");
            assert_eq!(came.header_by_text("Referred-By").is_some(), privacy == "none", "{name}, {privacy}");
            stage.device.respond(&came, 200).await;
            assert_eq!(stage.restante.answer_to(&delivery).await.status(), Some(200), "{name}, {privacy}");
        }
    }
}

#[tokio::test]
async fn who_wants_privacy_is_named_to_restante_and_not_to_the_device() {
    let Some(mut stage) = Stage::new(REGISTRAR).await else { return };
    stage.registers(REGISTRAR).await;
    for privacy in ["none", "id"] {
        let message = stage.alice.request("MESSAGE", BOB).text("hello").with("Privacy", privacy);
        let message = message.with("Referred-By", "<sip:alice@example.org>");
        stage.alice.send(&message.bytes()).await;
        let came = stage.at_the_device().await;
        let told = usize::from(privacy == "none");
        assert_eq!(asserted(&came).len(), told, "{privacy}");
        assert_eq!(came.header_by_text("Referred-By").is_some(), privacy == "none", "{privacy}");
        stage.device.respond(&came, 480).await;
        let deferred = stage.came("MESSAGE").await;
        assert_eq!(asserted(&deferred), ["<sip:alice@example.org>"], "{privacy}");
        assert!(deferred.header_by_text("Referred-By").is_some(), "{privacy}");
        stage.restante.respond(&deferred, 202).await;
        assert_eq!(stage.alice.answer_to(&message).await.status(), Some(202), "{privacy}");
    }
}
