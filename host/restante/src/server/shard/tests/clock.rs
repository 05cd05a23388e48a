//! A wall clock that is set while the server runs.

use restante_sip::authentication::{
    Algorithm, Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, response,
};
use restante_store::UserCredentials;

use super::*;
use crate::configuration::AuthenticationMethod;

const BOB: &str = "sip:bob@example.org";
const PHONE: &str = "<sip:bob@127.0.0.1:6000>;expires=6000";

#[test]
fn a_retry_comes_at_its_time_though_the_clock_was_set_back() {
    let mut house = House::new();
    house.register(BOB, PHONE);
    house.pass(500);
    house.message(BOB, "text");
    house.pass(500);
    assert_eq!(house.delivered(503), ["text"]);
    house.clock.fetch_sub(6 * 3_600_000, Ordering::Relaxed);
    house.run();
    house.pass(60_000);
    assert_eq!(house.delivered(200), ["text"]);
    assert!(house.stored().is_empty());
}

/// Bob sends, is asked for his password and shows it. What the answer says.
fn status_with_password(house: &mut House) -> Vec<u16> {
    const ALICE: &str = "sip:alice@example.org";
    let fields = format!("From: <{BOB}>;tag=1\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n");
    let asked = house.send("MESSAGE", ALICE, None, &fields, "text");
    let challenges = house.answer(&asked).header(Name::WwwAuthenticate).expect("a challenge");
    let Challenge { realm, nonce, .. } = Challenge::parse_list(challenges).unwrap().remove(0);
    let hash = HashOfA1::new(Algorithm::Sha256, "bob", &realm, "secret");
    let protection =
        Protection { quality: QualityOfProtection::Auth, cnonce: "c".to_owned(), nonce_count: "00000001".to_owned() };
    let subject = Subject { method: "MESSAGE", uri: ALICE, nonce: &nonce, is_session: false, body: &[] };
    let credentials = Credentials {
        username: "bob".to_owned(),
        is_user_hash: false,
        realm,
        uri: ALICE.to_owned(),
        response: response(&hash, &subject, Some(&protection)),
        nonce,
        algorithm: Some("SHA-256".to_owned()),
        opaque: None,
        protection: Some(protection),
    };
    let shown = house.send("MESSAGE", ALICE, None, &format!("{fields}Authorization: {credentials}\r\n"), "text");
    house.statuses(&shown)
}

#[test]
fn who_shows_a_password_is_believed_though_the_clock_was_set_back() {
    let mut house = House::configured(|configuration| {
        let tenant = configuration.tenants.get_mut("example").unwrap();
        (tenant.authentication, tenant.trust) = (AuthenticationMethod::Digest, Vec::new());
    });
    let hash = HashOfA1::new(Algorithm::Sha256, "bob", "example.org", "secret");
    let credentials = UserCredentials {
        username: "bob".to_owned(),
        realm: "example.org".to_owned(),
        hashes: vec![("SHA-256".to_owned(), hash.bytes().to_vec())],
    };
    house.shared.authentication.users.set(&user(BOB), Some(&credentials)).unwrap();
    // In every part of what is remembered of nonces one is forgotten because it is old.
    for _ in 0..40 {
        assert_eq!(status_with_password(&mut house), [202]);
        house.clock.fetch_add(61_000, Ordering::Relaxed);
    }
    house.clock.fetch_sub(6 * 3_600_000, Ordering::Relaxed);
    for _ in 0..20 {
        assert_eq!(status_with_password(&mut house), [202]);
    }
}
