//! Large messages in: what peers may do on an MSRP connection and what comes of it.

use std::time::{Duration, Instant};

use restante_client::{Content, Mode};
use restante_msrp::uri::MsrpUri;
use restante_sip::message::{Method, SipMessage};
use restante_tests::{Chunk, Cpim, MsrpReply, RawMsrp, RawSip, Request, World, pattern, setting, story, until_equal};

const BOB: &str = "sip:bob@example.org";
/// So long what a BYE overtook may still come.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it is tried to be there by then: a machine may stand still for longer.
const TRIES: usize = 5;

fn cpim(content_type: &str, content: &[u8]) -> Vec<u8> {
    Cpim { id: Some("raw"), content_type, ..Cpim::default() }.with(content)
}

/// A session of Alice's that stands.
struct Standing {
    sip: RawSip,
    msrp: RawMsrp,
    invite: Request,
    answer: SipMessage,
}

async fn standing(world: &World) -> Standing {
    let mut sip = world.udp().await;
    let (msrp, invite, answer) = RawMsrp::establish(&mut sip, BOB).await;
    Standing { sip, msrp, invite, answer }
}

impl Standing {
    async fn bye(&mut self) {
        let bye = RawMsrp::bye(&self.sip, &self.invite, &self.answer);
        assert_eq!(self.sip.ask(&bye).await.status(), Some(200));
    }

    /// Ends it as one should: BYE, then the connection is closed.
    async fn end(mut self) {
        self.bye().await;
    }

    /// The server ends the session.
    async fn until_ended(&mut self) {
        let bye = self.sip.expect("BYE", |it| it.method() == Some(Method::Bye)).await;
        self.sip.respond(&bye, 200).await;
    }
}

fn dropped(world: &World, reason: &str) -> u64 {
    world.metric("restante_dropped_total", &[&format!("reason=\"{reason}\"")])
}

async fn nothing_is_left(world: &World) {
    world.until_no_session().await;
    until_equal("body files", 0, || world.spooled()).await;
    assert_eq!(world.queue().len(), 0);
}

#[test]
fn a_connection_for_no_session_gets_481_and_is_closed() {
    story(async |world| {
        let place = world.server().msrp()[0].1;
        for path in [format!("msrp://{place}/unknown;tcp"), format!("msrp://{place}/00unknownunknown;tcp")] {
            let mut msrp = RawMsrp::connect_to(place, &path).await;
            let transaction = msrp.send_chunk(Chunk::whole("m", b"x")).await;
            assert_eq!(msrp.next().await, MsrpReply::Response(transaction, 481));
            assert_eq!(msrp.next().await, MsrpReply::Closed);
        }
        assert_eq!(dropped(world, "no-such-session"), 2);
        nothing_is_left(world).await;
    });
}

/// The 128 random bits in the URIs of so many sessions.
async fn random_bits(world: &World, sessions: usize) -> Vec<u128> {
    let mut bits = Vec::new();
    for _ in 0..sessions {
        let mut session = standing(world).await;
        let path: MsrpUri = session.msrp.to_path.parse().expect("a path of one URI");
        let id = path.session_id.expect("a session's id");
        let digits = id.rsplit('-').next().expect("digits");
        assert_eq!(digits.len(), 32, "{id}");
        bits.push(u128::from_str_radix(digits, 16).expect("hexadecimal digits"));
        session.bye().await;
    }
    bits
}

#[test]
fn the_uris_of_sessions_say_nothing_of_each_other() {
    let mut bits = Vec::new();
    // The second server makes its first URIs, too.
    for _ in 0..2 {
        story(async |world| bits.extend(random_bits(world, 5).await));
    }
    for (index, one) in bits.iter().enumerate() {
        for other in bits.iter().skip(index + 1) {
            let differing = (one ^ other).count_ones();
            assert!(differing > 24, "{one:032x} and {other:032x} differ in {differing} bits of 128");
        }
    }
}

#[test]
fn bytes_that_are_no_msrp_close_the_connection() {
    story(async |world| {
        let place = world.server().msrp()[0].1;
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\r\n", &[b'x'; 70_000]] {
            let mut msrp = RawMsrp::connect_to(place, "msrp://nobody").await;
            msrp.send_anyway(bytes).await;
            assert_eq!(msrp.next().await, MsrpReply::Closed);
        }
        let mut session = standing(world).await;
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        session.msrp.send_anyway(b"this is no request line\r\n\r\n").await;
        session.until_ended().await;
        nothing_is_left(world).await;
    });
}

#[test]
fn a_session_has_one_connection() {
    story(async |world| {
        let mut session = standing(world).await;
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        let mut second = RawMsrp::connect(&session.answer).await;
        let transaction = second.send_empty().await;
        assert_eq!(second.next().await, MsrpReply::Response(transaction, 506));
        assert_eq!(second.next().await, MsrpReply::Closed);
        assert_eq!((dropped(world, "second-msrp-connection"), dropped(world, "no-such-session")), (1, 0));
        // The first is none the worse for it.
        let message = cpim("text/plain", b"still here");
        let transaction = session.msrp.send_chunk(Chunk::whole("m", &message)).await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        world.until_waiting(1).await;
        session.end().await;
        world.until_no_session().await;
    });
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_reason_and_leaves_nothing() {
    let place = setting().configure(|it| it.limits.max_large_body_bytes = 100_000);
    place.tell(async |world| {
        let (typing, none) = (cpim("application/im-iscomposing+xml", b"<x/>"), b"no CPIM at all".to_vec());
        let (large, long) = (cpim("text/plain", &[b'x'; 1_000]), cpim("text/plain", &[b'x'; 100_001]));
        let cases = [
            ("typing", Chunk::whole("m", &typing), 415),
            ("no CPIM", Chunk::whole("m", &none), 400),
            ("said to be too large", Chunk { total: 200_000, flag: '+', ..Chunk::whole("m", &large) }, 413),
            ("too large", Chunk::whole("m", &long), 413),
        ];
        for (name, chunk, expected) in cases {
            let mut session = standing(world).await;
            let transaction = session.msrp.send_chunk(chunk).await;
            assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, expected), "{name}");
            session.end().await;
            nothing_is_left(world).await;
        }
    });
}

#[test]
fn a_method_that_nobody_knows_is_501_and_the_session_goes_on() {
    story(async |world| {
        let mut session = standing(world).await;
        let path = session.msrp.to_path.clone();
        let request = format!(
            "MSRP frob0001 FROB\r\nTo-Path: {path}\r\nFrom-Path: msrp://127.0.0.1:9/storyteller;tcp\r\n-------frob0001$\r\n"
        );
        session.msrp.send(request.as_bytes()).await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response("frob0001".to_owned(), 501));
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        session.end().await;
        nothing_is_left(world).await;
    });
}

#[test]
fn chunks_in_any_order_make_the_message() {
    story(async |world| {
        let mut bob = world.person("bob").await;
        let content = pattern(300_000);
        let message = cpim("application/zip", &content);
        let mut session = standing(world).await;
        let third = message.len() / 3;
        let pieces = [(third, 2 * third, '+'), (2 * third, message.len(), '$'), (0, third, '+')];
        for (from, to, flag) in pieces {
            let chunk = Chunk { first: from + 1, total: message.len(), flag, ..Chunk::whole("m", &message[from..to]) };
            let transaction = session.msrp.send_chunk(chunk).await;
            assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        }
        world.until_waiting(1).await;
        session.end().await;
        bob.register().await;
        let received = bob.received().await;
        assert_eq!((received.content, received.mode), (Content::Memory(content), Mode::Push));
        world.until_settled().await;
    });
}

#[test]
fn several_messages_in_one_session_are_each_stored() {
    story(async |world| {
        let mut session = standing(world).await;
        for number in 0..3 {
            let message = format!("{number}");
            let message = String::from_utf8(cpim("text/plain", message.as_bytes())).unwrap();
            let message = message.replace("Message-ID: raw", &format!("Message-ID: raw{number}"));
            let id = format!("m{number}");
            let transaction = session.msrp.send_chunk(Chunk::whole(&id, message.as_bytes())).await;
            assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        }
        session.end().await;
        world.until_waiting(3).await;
        world.until_no_session().await;
    });
}

#[test]
fn what_its_sender_gives_up_is_not_stored() {
    story(async |world| {
        let message = cpim("application/zip", &pattern(200_000));
        for flag in ['#', '+'] {
            let mut session = standing(world).await;
            let half = Chunk { total: message.len(), flag, ..Chunk::whole("m", &message[..100_000]) };
            session.msrp.send_chunk(half).await;
            let MsrpReply::Response(..) = session.msrp.next().await else { panic!("no answer to half a message") };
            session.end().await;
            nothing_is_left(world).await;
        }
    });
}

#[test]
fn reports_come_as_they_were_asked_for() {
    story(async |world| {
        let message = |number: u32| {
            let text = String::from_utf8(cpim("text/plain", b"x")).unwrap();
            text.replace("Message-ID: raw", &format!("Message-ID: raw{number}")).into_bytes()
        };
        let mut session = standing(world).await;
        let report = |id: &str| MsrpReply::Request("REPORT".to_owned(), Some(id.to_owned()));
        // Success and answer, success alone, answer alone; then neither, which the next answer shows.
        let body = message(1);
        let fields = "Success-Report: yes\r\n";
        let transaction = session.msrp.send_chunk(Chunk { fields, ..Chunk::whole("both", &body) }).await;
        let mut said = vec![session.msrp.next().await, session.msrp.next().await];
        said.sort_by_key(|it| matches!(it, MsrpReply::Request(..)));
        assert_eq!(said, [MsrpReply::Response(transaction, 200), report("both")]);
        for (number, failure) in [(2, "no"), (3, "partial")] {
            let (body, id) = (message(number), format!("m{number}"));
            let fields = format!("Success-Report: yes\r\nFailure-Report: {failure}\r\n");
            session.msrp.send_chunk(Chunk { fields: &fields, ..Chunk::whole(&id, &body) }).await;
            assert_eq!(session.msrp.next().await, report(&id), "Failure-Report: {failure}");
        }
        let body = message(4);
        session.msrp.send_chunk(Chunk { fields: "Failure-Report: no\r\n", ..Chunk::whole("m4", &body) }).await;
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        world.until_waiting(4).await;
        session.end().await;
        world.until_no_session().await;
    });
}

#[test]
fn a_session_whose_connection_never_comes_is_ended() {
    setting().configure(|it| it.limits.max_session_setup_seconds = 1).tell(async |world| {
        let mut sip = world.udp().await;
        let invite = RawMsrp::invitation(&sip, BOB);
        let answer = sip.ask(&invite).await;
        assert_eq!(answer.status(), Some(200));
        sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
        let bye = sip.expect("BYE", |it| it.method() == Some(Method::Bye)).await;
        sip.respond(&bye, 200).await;
        nothing_is_left(world).await;
    });
}

#[test]
fn a_session_in_which_nothing_is_said_is_ended() {
    setting().configure(|it| it.limits.max_session_idle_seconds = 1).tell(async |world| {
        let mut session = standing(world).await;
        session.msrp.send_empty().await;
        session.until_ended().await;
        nothing_is_left(world).await;
    });
}

#[test]
fn a_message_that_only_drips_in_is_not_waited_for() {
    let place = setting().configure(|it| it.limits.slow_msrp_seconds = 1);
    place.tell(async |world| {
        let mut session = standing(world).await;
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        let path = session.msrp.to_path.clone();
        let head = format!(
            "MSRP slow0001 SEND\r\nTo-Path: {path}\r\nFrom-Path: msrp://127.0.0.1:9/storyteller;tcp\r\n\
             Message-ID: slow\r\nByte-Range: 1-*/90000\r\nContent-Type: message/cpim\r\n\r\nFrom: <sip:"
        );
        session.msrp.send(head.as_bytes()).await;
        let Standing { sip, msrp, .. } = &mut session;
        let drip = async {
            loop {
                msrp.send_anyway(b"x").await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let ended = async {
            let bye = sip.expect("BYE", |it| it.method() == Some(Method::Bye)).await;
            sip.respond(&bye, 200).await;
        };
        tokio::select! { () = ended => {}, () = drip => {} }
        assert_eq!(dropped(world, "slow-msrp"), 1);
        nothing_is_left(world).await;
    });
}

#[test]
fn what_has_come_of_a_message_takes_its_tenants_room_until_it_is_whole_or_given_up() {
    let message = cpim("application/zip", &pattern(1_000_000));
    let most = message.len() as u64;
    let place = setting().tenant(move |tenant| tenant.limits.max_stored_bytes = Some(most));
    place.tell(async move |world| {
        let (mut one, mut other) = (standing(world).await, standing(world).await);
        let part =
            |message_id| Chunk { total: message.len(), flag: '+', ..Chunk::whole(message_id, &message[..900_000]) };
        let rest = |message_id, flag| {
            let content = &message[900_000..];
            Chunk { first: 900_001, total: message.len(), flag, ..Chunk::whole(message_id, content) }
        };
        for (chunk, status) in [(part("given-up"), 200), (rest("given-up", '#'), 200), (part("m"), 200)] {
            let transaction = one.msrp.send_chunk(chunk).await;
            assert_eq!(one.msrp.next().await, MsrpReply::Response(transaction, status), "{}", chunk.message_id);
        }
        for message_id in ["another", "yet-another"] {
            let transaction = other.msrp.send_chunk(part(message_id)).await;
            assert_eq!(other.msrp.next().await, MsrpReply::Response(transaction, 413));
        }
        let transaction = one.msrp.send_chunk(rest("m", '$')).await;
        assert_eq!(one.msrp.next().await, MsrpReply::Response(transaction, 200), "its room is its own");
        assert_eq!(world.queue().len(), 1);
        assert!(world.metric("restante_tenant_limits_total", &["limit=\"stored\""]) >= 2);
        one.end().await;
        other.end().await;
        world.until_no_session().await;
        until_equal("body files", 1, || world.spooled()).await;
    });
}

#[test]
fn more_header_fields_than_are_read_end_the_connection() {
    story(async |world| {
        let place = world.server().msrp()[0].1;
        let flood = |head: &str| format!("MSRP flood001 SEND\r\n{head}{}", "X: y\r\n".repeat(1_000));
        let mut unbound = RawMsrp::connect_to(place, "msrp://nobody").await;
        unbound.send_anyway(flood("").as_bytes()).await;
        assert_eq!(unbound.next().await, MsrpReply::Closed);
        let mut session = standing(world).await;
        let transaction = session.msrp.send_empty().await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        let head = format!("To-Path: {}\r\nFrom-Path: {}\r\n", session.msrp.to_path, session.msrp.from_path);
        session.msrp.send_anyway(flood(&head).as_bytes()).await;
        assert_eq!(session.msrp.next().await, MsrpReply::Closed);
        session.until_ended().await;
        nothing_is_left(world).await;
    });
}

#[test]
fn bytes_that_a_bye_overtook_still_count() {
    story(async |world| {
        let message = cpim("application/zip", &pattern(200_000));
        for number in 1.. {
            let mut session = standing(world).await;
            let first = Chunk { total: message.len(), flag: '+', ..Chunk::whole("m", &message[..100_000]) };
            let transaction = session.msrp.send_chunk(first).await;
            assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
            let head = format!(
                "MSRP late0001 SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: m\r\n\
                 Byte-Range: 100001-{total}/{total}\r\nContent-Type: message/cpim\r\n\r\n",
                session.msrp.to_path,
                session.msrp.from_path,
                total = message.len()
            );
            let rest = [head.as_bytes(), &message[100_000..], b"\r\n-------late0001$\r\n"].concat();
            let began = Instant::now();
            session.bye().await;
            session.msrp.send_anyway(&rest).await;
            let said = session.msrp.next().await;
            if said == MsrpReply::Response("late0001".to_owned(), 200) {
                break;
            }
            assert!(said == MsrpReply::Closed && began.elapsed() >= DRAIN && number < TRIES, "{said:?}");
        }
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}

#[test]
fn a_bye_that_overtook_the_connection_itself_loses_nothing() {
    story(async |world| {
        let mut sip = world.udp().await;
        let message = cpim("text/plain", b"late");
        for number in 1.. {
            let invite = RawMsrp::invitation(&sip, BOB);
            let answer = sip.ask(&invite).await;
            assert_eq!(answer.status(), Some(200));
            sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
            let began = Instant::now();
            assert_eq!(sip.ask(&RawMsrp::bye(&sip, &invite, &answer)).await.status(), Some(200));
            let mut msrp = RawMsrp::connect(&answer).await;
            let transaction = msrp.send_chunk(Chunk::whole("m", &message)).await;
            let said = msrp.next().await;
            if said == MsrpReply::Response(transaction, 200) {
                break;
            }
            assert!(began.elapsed() >= DRAIN && number < TRIES, "{said:?}");
        }
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}

#[test]
fn there_is_a_limit_to_sessions() {
    setting().configure(|it| it.limits.max_sessions = 1).tell(async |world| {
        let session = standing(world).await;
        let mut other = world.udp().await;
        let invite = RawMsrp::invitation(&other, BOB);
        let refused = other.ask(&invite).await;
        assert_eq!((refused.status(), refused.header_by_text("Retry-After").is_some()), (Some(503), true));
        session.end().await;
        world.until_no_session().await;
        let again = RawMsrp::invitation(&other, BOB);
        assert_eq!(other.ask(&again).await.status(), Some(200));
    });
}

#[test]
fn an_invite_inside_the_session_changes_nothing() {
    story(async |world| {
        let mut session = standing(world).await;
        let contact = session.answer.contacts().expect("a Contact").remove(0).address.uri.to_string();
        let inside = |method: &str, cseq: u32| {
            RawMsrp::bye(&session.sip, &session.invite, &session.answer)
                .set("CSeq", &format!("{cseq} {method}"))
                .line_of(method, &contact)
        };
        let (again, update, bye) = (inside("INVITE", 2), inside("UPDATE", 3), inside("BYE", 4));
        let again = again.with("Contact", session.invite.field("Contact"));
        assert_eq!(session.sip.ask(&again).await.status(), Some(200), "without an offer it gets ours");
        session.sip.send(&again.clone().set("CSeq", "2 ACK").line_of("ACK", &contact).bytes()).await;
        let update = update.with("Contact", session.invite.field("Contact"));
        assert_eq!(session.sip.ask(&update).await.status(), Some(200));
        let message = cpim("text/plain", b"goes on");
        let transaction = session.msrp.send_chunk(Chunk::whole("m", &message)).await;
        assert_eq!(session.msrp.next().await, MsrpReply::Response(transaction, 200));
        assert_eq!(session.sip.ask(&bye).await.status(), Some(200));
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}
