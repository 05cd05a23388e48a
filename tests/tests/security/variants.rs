//! Digest in its rarer forms, for those who asked for them: `-sess`, `auth-int`, `userhash`, Authentication-Info.

use std::net::UdpSocket;

use restante::configuration::Tenant;
use restante_client::{ClientCredentials, PageMessage};
use restante_sip::authentication::{
    Algorithm, AuthenticationInfo, HashOfA1, Protection, QualityOfProtection, Subject, Variant,
};
use restante_tests::{Digest, RawSip, Setting, challenges, setting};

const BOB: &str = "sip:bob@example.org";
const SESSION: Variant = Variant { algorithm: Algorithm::Sha256, is_session: true };

fn digest(table: &'static str) -> Setting {
    let change = move |tenant: &mut Tenant| tenant.digest = toml::from_str(table).expect("a table");
    setting().demands_passwords().tenant(change)
}

#[test]
fn sessions_bodies_and_hashed_usernames_are_taken_where_they_are_offered() {
    let place = digest("algorithms = [\"SHA-256-sess\", \"SHA-256\"]\nqop = [\"auth-int\", \"auth\"]\nuserhash = true");
    place.tell(async |world| {
        world.give_password("alice").await;
        let mut socket = world.outside().await;
        let request = socket.request("MESSAGE", BOB).text("as it was");
        let challenge = socket.ask(&request).await;
        let offered = challenges(&challenge);
        assert_eq!(offered.iter().map(|it| it.algorithm).collect::<Vec<_>>(), [SESSION, Algorithm::Sha256.into()]);
        let all = [QualityOfProtection::AuthInt, QualityOfProtection::Auth];
        assert!(offered.iter().all(|it| it.takes_user_hash && all.into_iter().all(|quality| it.offers(quality))));
        let digest = Digest::of(&challenge, "alice");
        let mut count = 0;
        for (variant, quality) in
            all.into_iter().flat_map(|quality| [(SESSION, quality), (Algorithm::Sha256.into(), quality)])
        {
            let digest = digest.clone().with_algorithm(variant).with_quality(quality);
            count += 1;
            let as_asked = digest.authorize(&socket.request("MESSAGE", BOB).text("as it was"), count);
            assert_eq!(socket.ask(&as_asked).await.status(), Some(202), "{variant} {quality:?}");
            count += 1;
            // Who changes the body on the way is found out where the body is in the hash.
            let changed = digest.authorize(&socket.request("MESSAGE", BOB).text("as it was"), count).text("another");
            let expected = if quality == QualityOfProtection::AuthInt { 401 } else { 202 };
            assert_eq!(socket.ask(&changed).await.status(), Some(expected), "{variant} {quality:?}");
        }
        let stranger = Digest::of(&challenge, "stranger").authorize(&socket.request("MESSAGE", BOB).text("x"), 100);
        assert_eq!(socket.ask(&stranger).await.status(), Some(401), "the hash of a name that nobody has");
        assert_eq!(world.authentications("wrong"), 3);
    });
}

#[test]
fn nothing_of_it_is_taken_where_it_is_not_offered() {
    setting().demands_passwords().tell(async |world| {
        world.give_password("alice").await;
        let mut socket = world.outside().await;
        let request = socket.request("MESSAGE", BOB).text("x");
        let challenge = socket.ask(&request).await;
        assert!(
            challenges(&challenge).iter().all(|it| !it.takes_user_hash && !it.offers(QualityOfProtection::AuthInt))
        );
        let digest = Digest::of(&challenge, "alice");
        let session = digest.clone().with_algorithm(SESSION).authorize(&request, 1);
        let hashed = digest.clone().with_user_hash().authorize(&request, 2);
        let with_body = digest.clone().with_quality(QualityOfProtection::AuthInt).authorize(&request, 3);
        for request in [session, hashed, with_body] {
            assert_eq!(socket.ask(&request).await.status(), Some(401));
        }
        let as_asked = socket.ask(&digest.authorize(&request, 4)).await;
        assert_eq!((as_asked.status(), as_asked.header_by_text("Authentication-Info")), (Some(202), None));
        assert_eq!((world.authentications("wrong"), world.queue().len()), (0, 1));
    });
}

#[test]
fn a_server_that_is_told_to_shows_that_it_knows_the_password() {
    digest("authentication_info = true").tell(async |world| {
        world.give_password("alice").await;
        let mut socket = world.outside().await;
        let request = socket.request("MESSAGE", BOB).text("x");
        let challenge = socket.ask(&request).await;
        assert_eq!(challenge.header_by_text("Authentication-Info"), None);
        let digest = Digest::of(&challenge, "alice");
        let answer = socket.ask(&digest.authorize(&request, 7)).await;
        let info = answer.header_by_text("Authentication-Info").expect("a 2xx that shows it");
        let info = AuthenticationInfo::parse(info).expect("Authentication-Info");
        assert_eq!(info.next_nonce, None, "the nonce is new");
        let credentials = digest.credentials(&request, 7);
        let subject = Subject { method: "", uri: BOB, nonce: &credentials.nonce, is_session: false, body: &[] };
        let used: Protection = credentials.protection.clone().expect("a protection");
        let hash = |password: &str| HashOfA1::new(Algorithm::Sha256, "alice", "example.org", password);
        assert_eq!(info.is_right(&hash("ecila"), &subject, &used), Some(true));
        assert_eq!(info.is_right(&hash("guess"), &subject, &used), Some(false));
        let guess = digest.with_password("guess").authorize(&socket.request("MESSAGE", BOB).text("x"), 8);
        let refused = socket.ask(&guess).await;
        assert_eq!((refused.status(), refused.header_by_text("Authentication-Info")), (Some(401), None));
    });
}

#[test]
fn what_nobody_has_to_show_a_password_for_says_nothing_of_passwords() {
    let place = digest("authentication_info = true").configure(|it| {
        let other = Tenant { domains: vec!["other.example".to_owned()], ..Tenant::example() };
        it.tenants.insert("other".to_owned(), other);
    });
    place.tell(async |world| {
        world.give_password("alice").await;
        let mut socket = world.outside().await;
        let challenge = socket.ask(&socket.request("MESSAGE", BOB).text("x")).await;
        let digest = Digest::of(&challenge, "alice");
        // Nor a request that is taken for whom another tenant trusts its sender.
        for (guess, count) in [("ecila", 11), ("guess", 12)] {
            let request = socket.request("MESSAGE", BOB).with("P-Served-User", "<sip:erin@other.example>").text("x");
            let answer = socket.ask(&digest.clone().with_password(guess).authorize(&request, count)).await;
            assert_eq!((answer.status(), answer.header_by_text("Authentication-Info")), (Some(202), None), "{guess}");
        }
        for (guess, count) in [("ecila", 1), ("guess", 2)] {
            let options = socket.request("OPTIONS", "sip:example.org");
            let request = digest.clone().with_password(guess).authorize(&options, count);
            let answer = socket.ask(&request).await;
            assert_eq!((answer.status(), answer.header_by_text("Authentication-Info")), (Some(200), None), "{guess}");
        }
        // Nor does a trusted peer bring an answer to somebody else's guess.
        let mut peer = world.udp().await;
        let request = digest.authorize(&peer.request("MESSAGE", BOB).text("x"), 3);
        let answer = peer.ask(&request).await;
        assert_eq!((answer.status(), answer.header_by_text("Authentication-Info")), (Some(202), None));
        let taken = socket.ask(&digest.authorize(&socket.request("MESSAGE", BOB).text("x"), 4)).await;
        assert_eq!((taken.status(), taken.header_by_text("Authentication-Info").is_some()), (Some(202), true));
    });
}

#[test]
fn the_client_does_all_of_it() {
    let place = digest(
        "algorithms = [\"SHA-512-256-sess\"]\nqop = [\"auth-int\"]\nuserhash = true\nauthentication_info = true",
    );
    place.tell(async |world| {
        let (alice, mut bob) = (world.outsider("alice").await, world.outsider("bob").await);
        bob.register().await;
        for text in ["one", "two"] {
            alice.send(BOB, text).await;
        }
        assert_eq!(bob.texts(2).await, ["one", "two"]);
        bob.unregister().await;
        assert_eq!((world.authentications("wrong"), world.authentications("stale")), (0, 0));
        assert_eq!(world.authentications("challenged"), 2, "one each");
    });
}

#[test]
fn the_client_goes_on_with_the_next_nonce_and_objects_to_who_does_not_know_its_password() {
    setting().allow_objections().tell(async |world| {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        let place = socket.local_addr().expect("a bound socket");
        let credentials = ClientCredentials { username: "alice".to_owned(), password: "secret".to_owned() };
        let alice = world.person_with("alice", |it| (it.server, it.credentials) = (place, Some(credentials))).await;
        let mut server = RawSip::udp_on(socket, alice.client.sip_address());
        let challenge = "Digest realm=\"r\", nonce=\"one\", algorithm=SHA-256, qop=\"auth\"";
        let invented = format!("qop=auth, rspauth=\"{}\", cnonce=\"{}\", nc=00000002", "0".repeat(64), "c");
        let answers = [
            (401, "WWW-Authenticate", challenge),
            (202, "Authentication-Info", "nextnonce=\"two\""),
            (202, "Authentication-Info", invented.as_str()),
        ];
        let script = async {
            let mut seen = Vec::new();
            for (status, name, value) in answers {
                let request = server.expect("a request", |it| it.is_request()).await;
                server.respond_with(&request, status, &[(name, value)]).await;
                seen.push(request.header_by_text("Authorization").unwrap_or_default().to_owned());
            }
            seen
        };
        let sending = async {
            for _ in 0..2 {
                alice.try_send(PageMessage::text(BOB, "x")).await;
            }
        };
        let (seen, ()) = tokio::join!(script, sending);
        assert!(seen[1].contains("nonce=\"one\"") && seen[2].contains("nonce=\"two\""), "{seen:#?}");
        assert!(seen[2].contains("nc=00000001"), "{seen:#?}");
        let objections = alice.client.violations();
        assert!(objections.iter().any(|it| it.contains("does not know the password")), "{objections:?}");
    });
}
