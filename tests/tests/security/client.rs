//! What the client does with challenges.

use std::net::{Ipv4Addr, UdpSocket};

use restante_client::{ClientCredentials, PageMessage};
use restante_sip::authentication::{Algorithm, Credentials};
use restante_sip::message::{Name, SipMessage};
use restante_tests::{RawSip, story};

const STALE: [&str; 1] = ["Digest realm=\"p\", nonce=\"two\", stale=true, algorithm=MD5, qop=\"auth\""];

/// Takes a request and refuses it with these challenges of a proxy.
async fn refuse(proxy: &mut RawSip, challenges: &[&str]) -> SipMessage {
    let request = proxy.expect("a request", |it| it.is_request()).await;
    let fields: Vec<(&str, &str)> = challenges.iter().map(|value| ("Proxy-Authenticate", *value)).collect();
    proxy.respond_with(&request, 407, &fields).await;
    request
}

#[test]
fn the_topmost_challenge_that_it_knows_is_answered_and_a_stale_nonce_once() {
    story(async |world| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let place = socket.local_addr().expect("a bound socket");
        let credentials = ClientCredentials { username: "alice".to_owned(), password: "secret".to_owned() };
        let alice = world.person_with("alice", |it| (it.server, it.credentials) = (place, Some(credentials))).await;
        let mut proxy = RawSip::udp_on(socket, alice.client.sip_address());
        let first = [
            "Digest realm=\"p\", nonce=\"one\", algorithm=SHA3-512, qop=\"auth\"",
            "Digest realm=\"p\", nonce=\"one\", algorithm=MD5, qop=\"auth,auth-int\", opaque=\"o\"",
            "Digest realm=\"p\", nonce=\"one\", algorithm=SHA-256, qop=\"auth\"",
        ];
        let script = async {
            let first = refuse(&mut proxy, &first).await;
            [first, refuse(&mut proxy, &STALE).await, refuse(&mut proxy, &STALE).await]
        };
        let (outcome, seen) = tokio::join!(alice.try_send(PageMessage::text("sip:bob@example.org", "x")), script);
        assert_eq!(outcome.answer.status, 407, "nobody is asked for ever");
        let shown = seen.each_ref().map(|request| {
            let value = request.header(Name::ProxyAuthorization)?;
            let it = Credentials::parse(value).expect("credentials").expect("of Digest");
            let count = it.protection.as_ref().and_then(|protection| protection.count());
            Some((it.algorithm(), it.nonce, it.opaque, count))
        });
        let answered = |nonce: &str, opaque: Option<&str>| {
            Some((Some(Algorithm::Md5.into()), nonce.to_owned(), opaque.map(str::to_owned), Some(1)))
        };
        assert_eq!(shown, [None, answered("one", Some("o")), answered("two", None)]);
        let numbers = seen.each_ref().map(|request| request.cseq().expect("CSeq").number);
        assert_eq!(numbers, [1, 2, 3]);
        let call_ids = seen.each_ref().map(|request| request.call_id().map(str::to_owned));
        assert!(call_ids.iter().all(|call_id| *call_id == call_ids[0]));
    });
}
