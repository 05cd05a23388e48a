//! Digest over the wire, as honest clients and others use it.

use restante_client::ClientCredentials;
use restante_sip::authentication::{Algorithm, QualityOfProtection, Variant};
use restante_sip::message::SipMessage;
use restante_tests::{Digest, OUTSIDE, RawMsrp, RawSip, Request, World, challenges, setting};

const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";

fn register(socket: &RawSip, from: &str, to: &str) -> Request {
    socket
        .request("REGISTER", "sip:example.org")
        .set("From", &format!("<{from}>;tag=1"))
        .set("To", &format!("<{to}>"))
        .with("Contact", &format!("<sip:x@{}>", socket.local()))
}

fn subscribe(socket: &RawSip, to: &str) -> Request {
    socket
        .request("SUBSCRIBE", to)
        .with("Contact", &format!("<sip:x@{}>", socket.local()))
        .with("Event", "message-summary")
        .with("Expires", "600")
}

fn is_stale(answer: &SipMessage) -> bool {
    assert_eq!(answer.status(), Some(401), "{:?}", answer.bytes());
    challenges(answer).iter().all(|challenge| challenge.stale)
}

/// A challenge for Alice, who has a password.
async fn challenged(world: &World, socket: &mut RawSip) -> Digest {
    world.give_password("alice").await;
    let request = socket.request("MESSAGE", BOB).text("x");
    Digest::of(&socket.ask(&request).await, "alice")
}

#[test]
fn without_credentials_everything_that_begins_something_is_challenged() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let pull = RawMsrp::invitation(&socket, "sip:deferred@example.org");
        let (of_alice, of_bob) = (register(&socket, ALICE, ALICE), subscribe(&socket, BOB));
        let message = socket.request("MESSAGE", BOB).text("x");
        let large = RawMsrp::invitation(&socket, BOB);
        for request in [of_alice, message, large, pull, of_bob] {
            let answer = socket.ask(&request).await;
            let found = challenges(&answer);
            let algorithms: Vec<Variant> = found.iter().map(|challenge| challenge.algorithm).collect();
            assert_eq!(answer.status(), Some(401), "{}", request.line);
            assert_eq!(algorithms, [Algorithm::Sha256, Algorithm::Md5], "{}", request.line);
            assert!(found.iter().all(|it| it.realm == "example.org" && it.offers_auth() && !it.stale));
            // Before any challenge some clients send credentials that are empty.
            let empty =
                "Digest username=\"alice\", realm=\"example.org\", uri=\"sip:example.org\", nonce=\"\", response=\"\"";
            let again = request.new_transaction().set("Call-ID", "again").with("Authorization", empty);
            assert_eq!(socket.ask(&again).await.status(), Some(401));
        }
        assert_eq!(world.queue().len(), 0);
        assert_eq!(world.authentications("challenged"), 10);
    });
}

#[test]
fn ack_and_cancel_are_never_challenged_and_bye_follows_its_dialog() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let invite = digest.authorize(&RawMsrp::invitation(&socket, BOB), 1);
        let answer = socket.ask(&invite).await;
        assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
        socket.send(&RawMsrp::ack(&socket, &invite, &answer).bytes()).await;
        let bye = RawMsrp::bye(&socket, &invite, &answer);
        assert_eq!(socket.ask(&bye).await.status(), Some(200));
        // Its transaction is over: what a CANCEL finds is nothing, and that is what it is told.
        let cancel = invite.clone().without("Authorization").without("Content-Type").body("text/plain", "");
        let cancel = cancel.line_of("CANCEL", BOB).set("CSeq", "1 CANCEL").new_transaction();
        assert_eq!(socket.ask(&cancel).await.status(), Some(481));
        world.until_no_session().await;
        assert_eq!(world.authentications("challenged"), 1, "the one that was asked for");
    });
}

#[test]
fn every_algorithm_that_is_offered_is_taken_and_no_other() {
    let place = setting().demands_passwords().tenant(|tenant| {
        tenant.digest = toml::from_str("algorithms = [\"SHA-512-256\", \"SHA-256\"]").expect("a table");
    });
    place.tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        assert_eq!(digest.challenge.algorithm, Algorithm::Sha512Of256);
        for (count, algorithm) in (1..).zip(Algorithm::ALL) {
            let message = digest.clone().with_algorithm(algorithm).authorize(&socket.request("MESSAGE", BOB), count);
            let expected = if algorithm == Algorithm::Md5 { 401 } else { 202 };
            assert_eq!(socket.ask(&message.text("x")).await.status(), Some(expected), "{algorithm}");
        }
        assert_eq!(world.queue().len(), 2);
    });
}

#[test]
fn a_replayed_authorization_is_stale() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let message = digest.authorize(&socket.request("MESSAGE", BOB).text("once"), 1);
        assert_eq!(socket.ask(&message).await.status(), Some(202));
        // As it was: the transaction answers. In a new one, from here and from elsewhere: it was used.
        assert_eq!(socket.ask(&message).await.status(), Some(202));
        let replayed = message.new_transaction().set("Call-ID", "replayed").text("twice");
        assert!(is_stale(&socket.ask(&replayed).await));
        let mut thief = RawSip::udp("127.0.0.3".parse().unwrap(), world.sip()).await;
        let replayed = replayed.new_transaction().set("Via", thief.request("MESSAGE", BOB).field("Via"));
        assert!(is_stale(&thief.ask(&replayed).await));
        // Requests may overtake each other, though.
        for count in [9, 3, 2] {
            let message = digest.authorize(&socket.request("MESSAGE", BOB).text("more"), count);
            assert_eq!(socket.ask(&message).await.status(), Some(202), "{count}");
        }
        assert_eq!((world.queue().len(), world.authentications("repeated")), (4, 2));
    });
}

#[test]
fn an_authorization_is_for_its_own_method_and_target() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let to_bob = digest.credentials(&socket.request("MESSAGE", BOB), 1).to_string();
        let elsewhere = socket.request("MESSAGE", "sip:carol@example.org").text("x").with("Authorization", &to_bob);
        assert_eq!(socket.ask(&elsewhere).await.status(), Some(400));
        let otherwise = RawMsrp::invitation(&socket, BOB).with("Authorization", &to_bob);
        assert!(!is_stale(&socket.ask(&otherwise).await));
        // The same target, written otherwise, is the same.
        let request = socket.request("MESSAGE", "sip:bob@EXAMPLE.org;transport=udp").text("x");
        assert_eq!(socket.ask(&request.with("Authorization", &to_bob)).await.status(), Some(202));
        assert_eq!((world.authentications("malformed"), world.authentications("wrong")), (1, 1));
    });
}

#[test]
fn what_could_be_repeated_unnoticed_is_not_taken() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let request = socket.request("MESSAGE", BOB).text("x");
        let right = digest.credentials(&request, 1);
        let mut as_in_2069 = right.clone();
        as_in_2069.protection = None;
        let mut with_body = right.clone();
        with_body.protection.as_mut().unwrap().quality = QualityOfProtection::AuthInt;
        for credentials in [as_in_2069, with_body] {
            let request = request.clone().new_transaction().set("Authorization", &credentials.to_string());
            assert!(!is_stale(&socket.ask(&request).await));
        }
        assert_eq!((world.authentications("unprotected"), world.queue().len()), (2, 0));
        let mut other_realm = right;
        other_realm.realm = "elsewhere.example".to_owned();
        let request = request.new_transaction().set("Authorization", &other_realm.to_string());
        assert!(!is_stale(&socket.ask(&request).await));
    });
}

#[test]
fn credentials_that_cannot_be_read_are_400() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let right = digest.credentials(&socket.request("MESSAGE", BOB), 1).to_string();
        let long = format!("{right}, x=\"{}\"", "y".repeat(5_000));
        for wrong in [
            "Digest",
            "Digest username=\"alice",
            &right.replace("nc=00000001", "nc=1"),
            &right.replace("cnonce=\"story\", ", ""),
            &right.replace("Digest ", "Digest username=\"bob\", "),
            &long,
        ] {
            let request = socket.request("MESSAGE", BOB).text("x").with("Authorization", wrong);
            assert_eq!(socket.ask(&request).await.status(), Some(400), "{wrong}");
        }
        let request = socket.request("MESSAGE", BOB).text("x").with("Authorization", "Bearer something");
        assert_eq!(socket.ask(&request).await.status(), Some(401));
    });
}

#[test]
fn a_wrong_password_and_an_unknown_user_meet_the_same() {
    setting().demands_passwords().tell(async |world| {
        world.give_password("alice").await;
        for name in ["alice", "nobody"] {
            let wrong = ClientCredentials { username: name.to_owned(), password: "wrong".to_owned() };
            let person = world.outsider_with(name, |it| it.credentials = Some(wrong)).await;
            let answer = person.client.register(600).await.unwrap();
            assert_eq!((answer.status, answer.reason.as_str()), (401, "Unauthorized"));
        }
        assert_eq!((world.authentications("challenged"), world.authentications("wrong")), (2, 2));
    });
}

#[test]
fn whoever_guesses_too_often_is_refused_for_a_while_and_nobody_else() {
    let place = setting().demands_passwords().configure(|it| it.limits.max_failed_authentications = 3);
    place.tell(async |world| {
        let mut guesser = world.outside().await;
        let digest = challenged(world, &mut guesser).await;
        let guess = |socket: &RawSip, count: u32| {
            let digest = digest.clone().with_password(&format!("guess {count}"));
            digest.authorize(&socket.request("MESSAGE", BOB).text("x"), count)
        };
        // Wherever it sends guesses from, they are charged to where it got its nonce.
        let mut accomplice = RawSip::udp("127.0.0.3".parse().unwrap(), world.sip()).await;
        let guesses = [guess(&guesser, 1), guess(&accomplice, 2), guess(&guesser, 3)];
        for (at, guess) in guesses.iter().enumerate() {
            let socket = if at == 1 { &mut accomplice } else { &mut guesser };
            assert_eq!(socket.ask(guess).await.status(), Some(401));
        }
        let right = digest.authorize(&guesser.request("MESSAGE", BOB).text("x"), 4);
        let refused = guesser.ask(&right).await;
        assert_eq!(refused.status(), Some(480));
        let seconds: u64 = refused.header_by_text("Retry-After").unwrap().parse().unwrap();
        assert!((1..=300).contains(&seconds));
        let guess = guess(&accomplice, 5);
        assert_eq!(accomplice.ask(&guess).await.status(), Some(480), "with that nonce");
        let fresh = Digest::of(&accomplice.ask(&accomplice.request("MESSAGE", BOB).text("x")).await, "alice");
        let own = fresh.authorize(&accomplice.request("MESSAGE", BOB).text("x"), 1);
        assert_eq!(accomplice.ask(&own).await.status(), Some(202), "it did not fail itself");
        assert_eq!((world.authentications("wrong"), world.authentications("slowed-down")), (3, 2));
    });
}

#[test]
fn a_subscription_moves_to_another_address_only_with_credentials() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let digest = challenged(world, &mut socket).await;
        let request = digest.authorize(&subscribe(&socket, ALICE), 1);
        let answer = socket.ask(&request).await;
        assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
        let to = answer.header_by_text("To").unwrap().to_owned();
        let refresh = |socket: &RawSip, cseq: u32| {
            let via = socket.request("SUBSCRIBE", ALICE).field("Via").to_owned();
            let refresh = request.clone().without("Authorization").set("Via", &via).set("To", &to);
            refresh.set("CSeq", &format!("{cseq} SUBSCRIBE"))
        };
        let from_there = refresh(&socket, 2);
        assert_eq!(socket.ask(&from_there).await.status(), Some(200));
        let mut elsewhere = RawSip::udp("127.0.0.3".parse().unwrap(), world.sip()).await;
        let from_elsewhere = refresh(&elsewhere, 3);
        let challenge = elsewhere.ask(&from_elsewhere).await;
        assert_eq!(challenge.status(), Some(401));
        let with_credentials = Digest::of(&challenge, "alice").authorize(&refresh(&elsewhere, 4), 1);
        assert_eq!(elsewhere.ask(&with_credentials).await.status(), Some(200));
        assert_ne!(socket.local().ip(), elsewhere.local().ip());
        assert_eq!(socket.local().ip(), OUTSIDE);
    });
}
