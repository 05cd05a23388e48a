//! The torture messages of RFC 4475, sent to a server that runs.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use restante_sip::message::{MessageLimits, Method, Name, SipMessage, unfold};
use restante_tests::{RawSip, World, in_time, setting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What may be answered; nothing: not answered at all.
type Expected = (&'static str, &'static [u16]);

/// With the domains of the messages served here.
const TABLE: &[Expected] = &[
    // Of a dialog that is not here (it has a To-tag); its strange form is no reason to refuse it.
    ("wsinv", &[481]),
    ("intmeth", &[405, 501]),
    ("esc01", &[480]),
    ("escnull", &[200]),
    ("esc02", &[405, 501]),
    ("lwsdisp", &[200]),
    ("longreq", &[480]),
    ("dblreq", &[200]),
    ("semiuri", &[200]),
    ("transports", &[200]),
    ("mpart01", &[202]),
    ("unreason", &[]),
    ("noreason", &[]),
    ("badinv01", &[400]),
    ("clerr", &[400]),
    ("ncl", &[400]),
    ("scalar02", &[400]),
    ("scalarlg", &[]),
    ("quotbal", &[400]),
    ("ltgtruri", &[400]),
    ("lwsruri", &[400]),
    ("lwsstart", &[400]),
    ("trws", &[400, 200]),
    ("escruri", &[400]),
    ("baddate", &[400, 480]),
    ("regbadct", &[400]),
    ("badaspec", &[400]),
    ("baddn", &[400, 200]),
    ("badvers", &[505]),
    ("mismatch01", &[400]),
    ("mismatch02", &[400, 501]),
    ("bigcode", &[]),
    ("badbranch", &[400, 200]),
    ("insuf", &[]),
    ("unkscm", &[416]),
    ("novelsc", &[416]),
    ("unksm2", &[404, 400]),
    ("bext01", &[420]),
    ("invut", &[415]),
    ("regaut01", &[200]),
    ("multi01", &[400]),
    ("mcl01", &[400]),
    ("bcast", &[]),
    ("zeromf", &[200]),
    ("cparam01", &[200]),
    ("cparam02", &[200]),
    ("regescrt", &[200]),
    ("sdp01", &[406]),
    ("inv2543", &[480]),
    // It has no Via: there is no address to send the 400 to.
    ("test", &[]),
];

/// What comes of it over TCP, where the end of what comes is not the end of a message.
enum OnAStream {
    /// So many answers, in any order.
    Answers(&'static [u16]),
    /// The same, and the connection is closed.
    AnswersAndCloses(&'static [u16]),
    /// Nothing; the connection is used on.
    Silence,
    /// Nothing; the connection is closed.
    Closed,
    /// Nothing until the rest of it is there, and then this.
    Waits(&'static [u16]),
}

/// Those that meet something else than over UDP, and those that are not answered there.
const ON_A_STREAM: &[(&str, OnAStream)] = &[
    ("clerr", OnAStream::Waits(&[400, 480])),
    // Its second request says that it has less than it has, and what is left over is no message: the stream ends when both
    // are answered.
    ("dblreq", OnAStream::AnswersAndCloses(&[200, 480])),
    ("unreason", OnAStream::Silence),
    ("noreason", OnAStream::Silence),
    ("scalarlg", OnAStream::Silence),
    // No status of SIP begins with it: no start line, no message, and no next one.
    ("bigcode", OnAStream::Closed),
    ("bcast", OnAStream::Silence),
    ("insuf", OnAStream::Silence),
    // RFC 2543 let a stream do without Content-Length, by closing it.
    ("inv2543", OnAStream::AnswersAndCloses(&[400])),
    // Whoever is connected can be answered without a Via.
    ("test", OnAStream::Answers(&[400])),
];

/// A machine of its own on loopback, so that answers to the ports that the messages name come here.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 44, 75));
/// Another one, where nothing comes that repeats what was said to an INVITE.
const APART: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 44, 79));
/// How often a connection is made on which answers come too late where a machine stands still.
const TRIES: usize = 5;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/rfc4475");
    if folder.is_dir() {
        return Some(folder);
    }
    // Past the test harness, which would keep it back.
    let _ = writeln!(std::io::stderr(), "SKIPPED rfc4475-vectors: {} is not there", folder.display());
    None
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(format!("{name}.dat"))).expect("a message")
}

fn with_their_domains() -> restante_tests::Setting {
    setting().tenant(|tenant| {
        let further = ["example.com", "example.net", "chair-dnrc.example.com", "company.com", "host5.example.com"];
        tenant.domains.extend(further.map(str::to_owned));
    })
}

/// Where the message says that answers go.
fn named_port(bytes: &[u8]) -> u16 {
    let message = SipMessage::from_datagram(bytes.to_vec().into(), &MessageLimits::default());
    let via = message.ok().and_then(|message| message.top_via().ok());
    via.and_then(|via| via.port).unwrap_or(5060)
}

/// Its final answer, and not one to an INVITE before it, which is repeated until somebody acknowledges it.
async fn answer_to(socket: &mut RawSip, name: &str, bytes: &[u8]) -> SipMessage {
    let message = SipMessage::from_datagram(bytes.to_vec().into(), &MessageLimits::default());
    let (call_id, method) = message.map_or((None, None), |it| (it.call_id().map(str::to_owned), it.method()));
    let is_it = |message: &SipMessage| {
        let is_final = message.status().is_some_and(|status| status >= 200);
        let is_to_an_invite = message.header_by_text("CSeq").is_some_and(|cseq| cseq.ends_with("INVITE"));
        let is_to_it = message.call_id().map(str::to_owned) == call_id;
        // Two of the others share a transaction.
        is_final && (is_to_it || method.is_none() || !is_to_an_invite)
    };
    socket.expect(name, is_it).await
}

/// A refusal says what would have been taken (RFC 3261 §8.2.1, §8.2.2.3, §8.2.3).
fn says_what_is_taken(name: &str, answer: &SipMessage) {
    let field = match answer.status() {
        Some(420) => "Unsupported",
        Some(415) => "Accept",
        Some(405 | 501) => "Allow",
        _ => return,
    };
    assert!(answer.header_by_text(field).is_some(), "{name}: no {field}");
}

async fn is_alive(world: &World) {
    let mut socket = world.udp().await;
    // One recipient for each shard at least.
    for name in 0..16 {
        let request = socket.request("OPTIONS", &format!("sip:user{name}@example.org"));
        assert_eq!(socket.ask(&request).await.status(), Some(200));
    }
}

#[test]
fn each_torture_message_over_udp_gets_what_it_deserves_and_the_server_lives() {
    let Some(folder) = folder() else { return };
    assert_eq!(TABLE.len(), std::fs::read_dir(&folder).expect("a folder").count());
    with_their_domains().tell(async |world| {
        let mut wrong = Vec::new();
        for (name, expected) in TABLE {
            let bytes = read(&folder, name);
            // Refusals of INVITEs are repeated for half a minute. Where no answer is to come, or nothing would tell it
            // from those, they may not come.
            let message = SipMessage::from_datagram(bytes.clone().into(), &MessageLimits::default());
            let is_told_apart = !expected.is_empty() && message.is_ok_and(|message| message.method().is_some());
            let place = SocketAddr::new(if is_told_apart { HERE } else { APART }, named_port(&bytes));
            let mut socket = RawSip::udp_at(place, world.sip()).await;
            socket.send(&bytes).await;
            let answered = if expected.is_empty() {
                // Whatever would have been said has been said before this is answered.
                let options = socket.request("OPTIONS", "sip:user@example.org");
                socket.ask(&options).await;
                socket.unread()
            } else {
                let answer = answer_to(&mut socket, name, &bytes).await;
                let status = answer.status().unwrap_or(0);
                says_what_is_taken(name, &answer);
                if expected.contains(&status) { Vec::new() } else { vec![status.to_string()] }
            };
            if !answered.is_empty() {
                wrong.push(format!("{name}: {answered:?} instead of {expected:?}"));
            }
            is_alive(world).await;
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        // One of them is a message.
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}

/// The final answers to what was sent, as many as are awaited.
async fn answers(socket: &mut RawSip, name: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        let answer = socket.expect(name, |message| message.status().is_some_and(|status| status >= 200)).await;
        statuses.extend(answer.status());
    }
    statuses.sort_unstable();
    statuses
}

/// The final answers on a connection until the server closes it. It does so a second after what cannot be read: what is
/// answered later, by a machine that stood still, is lost, and asked for again.
async fn answers_until_closed(world: &World, bytes: &[u8], expected: &[u16]) -> Vec<u16> {
    let mut said = answered_until_closed(world, bytes).await;
    for number in 1..TRIES {
        let is_late = said.len() < expected.len() && said.iter().all(|status| expected.contains(status));
        if !is_late {
            break;
        }
        said = answered_until_closed(world, &anew(bytes, number)).await;
    }
    said
}

async fn answered_until_closed(world: &World, bytes: &[u8]) -> Vec<u16> {
    let mut stream = in_time("a connection", TcpStream::connect(world.sip())).await.expect("a connection");
    stream.write_all(bytes).await.expect("bytes leave");
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = in_time("the server closes the stream", stream.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    let statuses = said.lines().filter_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse::<u16>().ok());
    let mut statuses: Vec<u16> = statuses.filter(|status| *status >= 200).collect();
    statuses.sort_unstable();
    statuses
}

/// `dblreq` under other names, of the same length: it repeats nothing.
fn anew(bytes: &[u8], number: usize) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let text = text.replace("0ha0isnda", &format!("{number}ha0isnda"));
    text.replace("z9hG4bKkdjuw", &format!("z9hG4bK{number}djuw")).into_bytes()
}

/// Nothing came until the next request on the same connection was answered.
async fn is_silent(socket: &mut RawSip) -> Vec<String> {
    let options = socket.request("OPTIONS", "sip:user@example.org");
    assert_eq!(socket.ask(&options).await.status(), Some(200));
    socket.unread()
}

#[test]
fn each_torture_message_over_tcp_gets_what_it_deserves_and_the_server_lives() {
    let Some(folder) = folder() else { return };
    with_their_domains().tell(async |world| {
        let mut wrong = Vec::new();
        for (name, expected) in TABLE {
            let mut socket = world.tcp().await;
            let bytes = read(&folder, name);
            let met = ON_A_STREAM.iter().find(|(known, _)| known == name).map(|(_, met)| met);
            if !matches!(met, Some(OnAStream::AnswersAndCloses(_))) {
                socket.send(&bytes).await;
            }
            match met {
                None => {
                    let answer = answer_to(&mut socket, name, &bytes).await;
                    says_what_is_taken(name, &answer);
                    if !answer.status().is_some_and(|status| expected.contains(&status)) {
                        wrong.push(format!("{name}: {:?} instead of {expected:?}", answer.status()));
                    }
                }
                Some(OnAStream::Answers(expected)) => {
                    let said = answers(&mut socket, name, expected.len()).await;
                    if said != *expected {
                        wrong.push(format!("{name}: {said:?} instead of {expected:?}"));
                    }
                    if let said @ [_, ..] = is_silent(&mut socket).await.as_slice() {
                        wrong.push(format!("{name}: also {said:?}"));
                    }
                }
                Some(OnAStream::AnswersAndCloses(expected)) => {
                    let said = answers_until_closed(world, &bytes, expected).await;
                    if said != *expected {
                        wrong.push(format!("{name}: {said:?} instead of {expected:?}"));
                    }
                }
                Some(OnAStream::Silence) => {
                    if let said @ [_, ..] = is_silent(&mut socket).await.as_slice() {
                        wrong.push(format!("{name}: {said:?} instead of nothing"));
                    }
                }
                Some(OnAStream::Closed) => socket.until_closed().await,
                Some(OnAStream::Waits(expected)) => {
                    is_alive(world).await;
                    let message =
                        SipMessage::from_datagram(bytes.into(), &MessageLimits::default()).expect("a message");
                    let length = message.content_length().expect("a number").expect("Content-Length");
                    socket.send(&vec![b'x'; length - message.body().len()]).await;
                    let said = answers(&mut socket, name, 1).await;
                    let mut further = is_silent(&mut socket).await;
                    further.retain(|line| !line.contains("SIP/2.0 100"));
                    if !said.iter().all(|status| expected.contains(status)) || !further.is_empty() {
                        wrong.push(format!("{name}: {said:?} and {further:?} instead of {expected:?} in the end"));
                    }
                }
            }
            is_alive(world).await;
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        world.until_waiting(1).await;
        world.until_no_session().await;
    });
}

/// A device that takes calls for an address.
async fn device_of(world: &World, address: &str) -> RawSip {
    let mut socket = world.udp().await;
    let domain = address.rsplit('@').next().expect("a domain");
    let register = socket.request("REGISTER", &format!("sip:{domain}")).set("To", &format!("<{address}>"));
    let register = register.set("From", &format!("<{address}>;tag=device"));
    let contact = format!("<sip:device@{}>", socket.local());
    assert_eq!(socket.ask(&register.with("Contact", &contact)).await.status(), Some(200), "{address}");
    socket
}

/// The next call of a device.
async fn called(device: &mut RawSip) -> SipMessage {
    device.expect("INVITE", |it| it.method() == Some(Method::Invite)).await
}

#[test]
fn an_escaped_name_is_the_one_that_it_stands_for_and_goes_on_as_it_came() {
    let Some(folder) = folder() else { return };
    with_their_domains().tell(async |world| {
        // Characters that need no escape are the same without, hexadecimal digits in either case (RFC 3261 §19.1.4).
        let mut user = device_of(world, "sip:user@example.com").await;
        let mut escaped = device_of(world, "sip:sips%3auser%40example.com@example.net").await;
        let bytes = read(&folder, "esc01");
        let message = SipMessage::from_datagram(bytes.clone().into(), &MessageLimits::default()).expect("a message");
        let mut socket = RawSip::udp_at("127.0.44.77:5060".parse().expect("an address"), world.sip()).await;
        socket.send(&bytes).await;
        let call = called(&mut escaped).await;
        assert_eq!((call.call_id(), call.header(Name::To)), (message.call_id(), message.header(Name::To)));
        assert_eq!(call.header(Name::To), Some("sip:%75se%72@example.com"));
        assert_eq!(call.header(Name::Contact).map(unfold), message.header(Name::Contact).map(unfold));
        escaped.respond(&call, 486).await;
        assert_eq!(answer_to(&mut socket, "esc01", &bytes).await.status(), Some(486));
        // Whom To names in another form is the same user.
        let text = String::from_utf8(bytes).expect("text");
        let to_user = text.replacen("sip:sips%3Auser%40example.com@example.net", "sip:%75se%72@example.com", 1);
        let to_user = to_user.replace("esc01.", "esc01-to.").replace("z9hG4bKkdjuw", "z9hG4bKto");
        socket.send(to_user.as_bytes()).await;
        let call = called(&mut user).await;
        assert_eq!(call.header(Name::To), Some("sip:%75se%72@example.com"));
        user.respond(&call, 486).await;
        assert_eq!(answer_to(&mut socket, "esc01", to_user.as_bytes()).await.status(), Some(486));
    });
}

#[test]
fn what_follows_a_request_in_its_datagram_is_no_request() {
    let Some(folder) = folder() else { return };
    with_their_domains().tell(async |world| {
        let mut joe = device_of(world, "sip:joe@example.com").await;
        let bytes = read(&folder, "dblreq");
        let mut socket = RawSip::udp_at("127.0.44.78:5060".parse().expect("an address"), world.sip()).await;
        socket.send(&bytes).await;
        assert_eq!(answer_to(&mut socket, "dblreq", &bytes).await.status(), Some(200));
        // Its INVITE would have gone the way of this one, before it.
        let second = socket.request("INVITE", "sip:joe@example.com").with("Contact", "<sip:caller@127.0.44.78>");
        let second = second.body(
            "application/sdp",
            "v=0\r\no=- 1 1 IN IP4 127.0.44.78\r\ns=-\r\nc=IN IP4 127.0.44.78\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 0\r\n",
        );
        socket.send(&second.bytes()).await;
        let call = called(&mut joe).await;
        assert_eq!(call.call_id(), Some(second.field("Call-ID")));
        joe.respond(&call, 486).await;
        assert_eq!(socket.answer_to(&second).await.status(), Some(486));
        let unasked: Vec<String> = socket.unread().into_iter().filter(|line| !line.contains(" 100 ")).collect();
        assert_eq!(unasked, [""; 0]);
    });
}

#[test]
fn an_authorization_that_nobody_knows_is_as_none_where_one_is_asked_for() {
    let Some(folder) = folder() else { return };
    with_their_domains().demands_passwords().tell(async |world| {
        let bytes = read(&folder, "regaut01");
        let place = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 44, 76)), named_port(&bytes));
        let mut socket = RawSip::udp_at(place, world.sip()).await;
        socket.send(&bytes).await;
        let answer = answer_to(&mut socket, "regaut01", &bytes).await;
        assert_eq!(answer.status(), Some(401));
        let challenge = answer.header_by_text("WWW-Authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Digest "), "{challenge}");
    });
}

#[test]
fn a_binary_multipart_body_is_delivered_byte_for_byte() {
    let Some(folder) = folder() else { return };
    with_their_domains().tell(async |world| {
        let bytes = read(&folder, "mpart01");
        let message = SipMessage::from_datagram(bytes.clone().into(), &MessageLimits::default()).expect("a message");
        let mut socket = world.udp().await;
        socket.send(&bytes).await;
        let answer = socket.expect("202", |message| message.status().is_some()).await;
        assert_eq!(answer.status(), Some(202));
        let mut kumiko = world.person("kumiko").await;
        kumiko.register().await;
        let received = kumiko.received().await;
        assert_eq!(received.content, restante_client::Content::Memory(message.body()));
        assert_eq!(Some(received.content_type.as_str()), message.header_by_text("Content-Type"));
        world.until_settled().await;
    });
}

#[test]
fn odd_contacts_are_kept_as_they_are() {
    let Some(folder) = folder() else { return };
    with_their_domains().tell(async |world| {
        for (name, expected) in [
            ("escnull", "sip:%00@host5.example.com"),
            ("cparam01", "sip:+19725552222@gw1.example.net"),
            ("cparam02", "sip:+19725552222@gw1.example.net;unknownparam"),
            ("regescrt", "sip:user@example.com?Route=%3Csip:sip.example.com%3E"),
        ] {
            let bytes = read(&folder, name);
            let mut socket = RawSip::udp_at(SocketAddr::new(HERE, named_port(&bytes) + 100), world.sip()).await;
            // An answer that reaches a socket beside those of the other test.
            let text = String::from_utf8(bytes).expect("text");
            let (head, rest) = text.split_once("\r\nVia: ").expect("a Via");
            let (_, rest) = rest.split_once("\r\n").expect("a line");
            let via = format!("SIP/2.0/UDP {};branch=z9hG4bK{name};rport", socket.local());
            socket.send(format!("{head}\r\nVia: {via}\r\n{rest}").as_bytes()).await;
            let answer = socket.expect(name, |message| message.status().is_some()).await;
            assert_eq!(answer.status(), Some(200), "{name}");
            let contacts = String::from_utf8_lossy(answer.bytes()).into_owned();
            assert!(contacts.contains(&format!("<{expected}>")), "{name}: {contacts}");
            assert_eq!(contacts.contains(">;unknownparam"), name == "cparam01", "{name}: {contacts}");
        }
    });
}
