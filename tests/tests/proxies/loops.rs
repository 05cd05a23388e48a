//! What Restante delivers is not deferred again, whoever brings it back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use restante_client::{Behaviour, Mode, PageMessage, Scripted};
use restante_tests::RawSip;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::behind::{behind, behind_with};
use crate::kamailio::{Configuration, IN_FRONT, REGISTRAR};

const BOB: &str = "sip:bob@example.org";
const STORED: &str = "restante_messages_stored_total";
const FAILED: &str = "restante_attempts_failed_total";

#[test]
fn a_delivery_that_the_device_refuses_comes_back_as_an_answer_and_not_as_a_message() {
    behind(Configuration::of(REGISTRAR), "", async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        // Once to Alice's message, then to each of Restante's deliveries of it: it may hear twice that Bob is there.
        let behaviour = Behaviour { every_message: Some(Scripted::Status(480)), ..Behaviour::default() };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        alice.send(BOB, "again, please").await;
        world.until_metric(FAILED, &["attempt=\"page\"", "status=\"480\"", "origin=\"core\""], 1).await;
        assert_eq!((world.queue().await.len(), world.metric(STORED, &[]).await), (1, 1));
        bob.client.set_behaviour(Behaviour::default()).await.expect("a client that runs");
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["again, please"]);
        world.until_waiting("nothing", |waiting| waiting == 0).await;
        assert_eq!((world.metric(STORED, &[]).await, bob.unread_texts().len()), (1, 0));
    });
}

/// Deliveries go to Kamailio's other side by mistake, and without the Route that it would refuse there. It takes them for
/// anybody's, knows nobody, and hands them back: Restante knows its own, and passes them on.
#[test]
fn a_delivery_that_kamailio_hands_back_is_not_stored_again() {
    for (settings, attempt, mode) in [("", "page", Mode::Page), ("few = 0", "session", Mode::Push)] {
        behind(Configuration::of(REGISTRAR), settings, async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let detour = Detour::start(world.program.sip(), world.kamailio.clients()).await;
            world.restart_restante_towards(detour.place).await;
            bob.register().await;
            world.until_registered(BOB).await;
            // Kamailio knows nobody any more, Restante knows Bob.
            world.restart_kamailio();
            alice.send(BOB, "round and round").await;
            let attempt = format!("attempt=\"{attempt}\"");
            world.until_metric(FAILED, &[&attempt, "origin=\"core\""], 1).await;
            assert!(detour.came_back.load(Ordering::Relaxed) > 0, "{mode:?}: {}", world.state().await);
            assert_eq!((world.queue().await.len(), world.metric(STORED, &[]).await), (1, 1), "{mode:?}");
            bob.register().await;
            let received = bob.received().await;
            assert_eq!((received.text(), received.mode), (Some("round and round"), mode));
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            assert_eq!((world.metric(STORED, &[]).await, bob.unread_texts().len()), (1, 0));
        });
    }
}

/// A way from the server to where clients talk to Kamailio, on which deliveries lose their Route.
struct Detour {
    place: SocketAddr,
    /// Requests that came from the server and were not its own: somebody's Via is below its own.
    came_back: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Detour {
    async fn start(server: SocketAddr, kamailio: SocketAddr) -> Detour {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let place = socket.local_addr().expect("a bound socket");
        let came_back = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&came_back);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let is_request = !text.starts_with("SIP/2.0 ");
                let head = text.split("\r\n\r\n").next().unwrap_or_default();
                if from == server && is_request && head.matches("\r\nVia: ").count() > 1 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let to = if from == server { kamailio } else { server };
                let is_delivery = text.starts_with("MESSAGE ") || text.starts_with("INVITE ");
                let lines = text.split_inclusive("\r\n").filter(|line| !(is_delivery && line.starts_with("Route: ")));
                let _ = socket.send_to(lines.collect::<String>().as_bytes(), to).await;
            }
        });
        Detour { place, came_back, task }
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where Restante is the registrar and somebody registered past Kamailio, a delivery has no Path to follow. That Kamailio says
/// so is no word of the device's, and nothing is handed back.
#[test]
fn a_delivery_without_a_path_is_refused_by_kamailio_and_waits() {
    for (is_at_its_domain, status) in [(true, 480), (false, 404)] {
        behind(Configuration::of(IN_FRONT), "", async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let mut past = RawSip::udp([127, 0, 0, 1].into(), world.program.sip()).await;
            let contact = if is_at_its_domain { format!("<{BOB}>") } else { format!("<sip:bob@{}>", past.local()) };
            let register = past.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=past"));
            let register = register.set("To", &format!("<{BOB}>")).with("Contact", &contact);
            assert_eq!(past.ask(&register).await.status(), Some(200));
            alice.send(BOB, "by the way").await;
            let status = format!("status=\"{status}\"");
            world.until_metric(FAILED, &["attempt=\"page\"", &status, "origin=\"core\""], 1).await;
            assert_eq!((world.queue().await.len(), world.metric(STORED, &[]).await), (1, 1));
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["by the way"]);
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            assert_eq!((world.metric(STORED, &[]).await, past.unread_by_now().await), (1, Vec::<String>::new()));
        });
    }
}

/// As in the story `outbound-proxy` of the demonstration: sent to a number, kept for its user, delivered once to where the
/// user registered by name.
#[test]
fn a_message_to_a_number_is_delivered_once_to_the_user_whose_name_it_is() {
    for name in [REGISTRAR, IN_FRONT] {
        let further = |_: &_| format!("[tenants.example.aliases]\n\"tel:+15550123\" = \"{BOB}\"\n");
        behind_with(Configuration::of(name), "", further, async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let numbers = ["tel:+1-555-0123", "sip:+15550123@example.org;user=phone"];
            for number in numbers {
                alice.send_message(PageMessage::text(number, number)).await;
            }
            assert_eq!(world.queue().await.len(), 2, "{name}");
            bob.register().await;
            assert_eq!(bob.texts(2).await, numbers, "{name}");
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            assert_eq!((world.metric(STORED, &[]).await, bob.unread_texts().len()), (2, 0), "{name}");
        });
    }
}
