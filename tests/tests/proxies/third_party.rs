//! How Kamailio tells Restante who is there, with a bare socket in Restante's place.

use std::net::Ipv4Addr;
use std::time::Duration;

use restante_client::{Client, ClientConfiguration};
use restante_sip::framing::{Frame, StreamFramer};
use restante_sip::message::{MessageLimits, SipMessage};
use restante_sip::writer::{Builder, reason};
use restante_tests::in_time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::kamailio::{Configuration, Kamailio, REGISTRAR};

/// Longer than Kamailio's timer for what is to be told again.
const TWICE_TOLD: Duration = Duration::from_secs(8);

/// Restante's end of Kamailio's connection.
struct Told {
    stream: TcpStream,
    framer: StreamFramer,
}

impl Told {
    async fn next(&mut self) -> SipMessage {
        let next = async {
            loop {
                if let Some(Frame::Message(message)) = self.framer.next().expect("a SIP stream") {
                    return message;
                }
                let mut buffer = vec![0; 65_536];
                let length = self.stream.read(&mut buffer).await.expect("a stream that goes on");
                assert!(length > 0, "Kamailio closed it");
                self.framer.push(buffer.get(..length).unwrap_or_default());
            }
        };
        in_time("a third-party REGISTER", next).await
    }

    async fn answer(&mut self, request: &SipMessage, status: u16) {
        let answer = Builder::response(request, status, reason(status), None, Some("restante")).finish();
        self.stream.write_all(&answer.expect("an answer")).await.expect("bytes leave");
    }

    /// What was taken is not told again, but for what was on its way before Kamailio heard that: on a busy machine once
    /// of each user.
    async fn is_over(&mut self, users: usize) {
        for _ in 0..users {
            let Ok(late) = timeout(TWICE_TOLD, self.next()).await else { return };
            self.answer(&late, 200).await;
        }
        assert!(timeout(TWICE_TOLD, self.next()).await.is_err(), "what was taken is not told again");
    }
}

/// CSeq of the client's own REGISTER, which is the body.
fn own_cseq(told: &SipMessage) -> u32 {
    let own = SipMessage::from_datagram(told.body(), &MessageLimits::default()).expect("a REGISTER as body");
    own.cseq().expect("CSeq").number
}

#[tokio::test]
async fn the_answer_to_an_earlier_change_does_not_settle_a_later_one() {
    let Some(configuration) = Configuration::of(REGISTRAR) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let restante = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let place = restante.local_addr().expect("a bound socket");
    let kamailio = Kamailio::start(configuration, place, directory.path()).expect("Kamailio starts");
    let bob = ClientConfiguration::new("sip:bob@example.org", kamailio.clients());
    let (bob, _events) = Client::start(bob).await.expect("sockets for a client");
    for _ in 0..2 {
        let answer = in_time("an answer to REGISTER", bob.register(3_600)).await.expect("an answer to REGISTER");
        assert_eq!(answer.status, 200);
    }
    let (stream, _) = in_time("Kamailio's connection", restante.accept()).await.expect("a connection");
    let mut told = Told { stream, framer: StreamFramer::new(MessageLimits::default()) };
    // Kamailio may have begun to repeat itself.
    let first = told.next().await;
    let mut second = told.next().await;
    while own_cseq(&second) == own_cseq(&first) {
        second = told.next().await;
    }
    let (first, second) = if own_cseq(&first) < own_cseq(&second) { (first, second) } else { (second, first) };
    // The second is refused for now, and the first was taken.
    told.answer(&second, 503).await;
    told.answer(&first, 200).await;
    let again = told.next().await;
    assert_eq!(own_cseq(&again), own_cseq(&second), "the later change is told again");
    told.answer(&again, 200).await;
    told.is_over(1).await;
    bob.stop().await;
}

#[tokio::test]
async fn everybody_who_was_not_told_of_is_told_of_again() {
    let Some(configuration) = Configuration::of(REGISTRAR) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let restante = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let place = restante.local_addr().expect("a bound socket");
    let kamailio = Kamailio::start(configuration, place, directory.path()).expect("Kamailio starts");
    let users = ["sip:ann@example.org", "sip:bob@example.org", "sip:cy@example.org"];
    let mut clients = Vec::new();
    for user in users {
        let (client, events) =
            Client::start(ClientConfiguration::new(user, kamailio.clients())).await.expect("sockets");
        let answer = in_time("an answer to REGISTER", client.register(3_600)).await.expect("an answer to REGISTER");
        assert_eq!(answer.status, 200);
        clients.push((client, events));
    }
    let (stream, _) = in_time("Kamailio's connection", restante.accept()).await.expect("a connection");
    let mut told = Told { stream, framer: StreamFramer::new(MessageLimits::default()) };
    let mut seen: Vec<(String, u32)> = users.iter().map(|user| ((*user).to_owned(), 0)).collect();
    // Each once with its own REGISTER, which is refused, and once again.
    while seen.iter().any(|(_, count)| *count < 2) {
        let request = told.next().await;
        let user = request.to().expect("To").uri.to_string();
        let (_, count) = seen.iter_mut().find(|(known, _)| *known == user).expect("a user of these");
        *count += 1;
        told.answer(&request, if *count < 2 { 503 } else { 200 }).await;
    }
    told.is_over(users.len()).await;
    for (client, _events) in clients {
        client.stop().await;
    }
}
