//! Digest: the published examples, what is read and written, nonces and their counts.

use std::collections::HashSet;

use proptest::prelude::*;
use restante_sip::authentication::*;
use restante_sip::header::HeaderError;
use restante_sip::message::Method;

fn auth(cnonce: &str, nonce_count: &str) -> Protection {
    let quality = QualityOfProtection::Auth;
    Protection { quality, cnonce: cnonce.to_owned(), nonce_count: nonce_count.to_owned() }
}

/// RFC 7616 §3.9.1 and RFC 8760 speak of the same request.
#[test]
fn the_example_of_rfc_7616() {
    let protection = auth("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "00000001");
    for (algorithm, expected) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let hash = HashOfA1::new(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let computed = response(&hash, &Method::from_text("GET"), "/dir/index.html", nonce, Some(&protection));
        assert_eq!(computed, expected, "{algorithm}");
        assert!(is_response(&computed, &expected.to_uppercase()) && !is_response(&computed, &expected[1..]));
    }
}

#[test]
fn the_example_of_rfc_2617_and_the_same_without_qop() {
    let hash = HashOfA1::new(Algorithm::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(hash.to_hexadecimal(), "939e7578ed9e3c518a452acee763bce9");
    let of = |protection: Option<&Protection>| {
        response(&hash, &Method::from_text("GET"), "/dir/index.html", "dcd98b7102dd2f0e8b11d0f600bfb0c093", protection)
    };
    assert_eq!(of(Some(&auth("0a4f113b", "00000001"))), "6629fae49393a05397450978507c4ef1");
    assert_eq!(of(None), "670fd8c2df070c60b045671b8b24ff02");
}

/// RFC 8760 §2: a challenge for each algorithm, preferred first, as separate fields or in one list.
#[test]
fn several_challenges_are_read_in_order_and_unknown_ones_left_out() {
    let value = "Digest realm=\"a, b\\\"c\", qop=\"auth,auth-int\", algorithm=SHA-256, nonce=\"n1\", opaque=\"o\", x=y,\r\n \
                 Negotiate abc==, Digest realm=\"r\", nonce=\"n3\", algorithm=SHA3-512, Basic realm=\"r\" , \
                 digest Realm = \"r\", nonce=\"n2\", stale=TRUE, charset=UTF-8";
    let found = Challenge::parse_list(value).unwrap();
    let [first, second] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.realm.as_str(), first.nonce.as_str(), first.algorithm), ("a, b\"c", "n1", Algorithm::Sha256));
    assert!(first.offers_auth() && !first.stale);
    assert_eq!((second.nonce.as_str(), second.algorithm, second.stale), ("n2", Algorithm::Md5, true));
    assert!(!second.offers_auth());
}

#[test]
fn credentials_are_read_as_clients_write_them() {
    // RFC 3261 §20.7.
    let value = "Digest username=\"Alice\", realm=\"atlanta.com\", nonce=\"84a4cc6f3082121f32b42a2187831a9e\", \
                 uri=\"sip:bob@b\", response=\"7587245234b3434cc3412213e5f113a5432\"";
    let read = Credentials::parse(value).unwrap().unwrap();
    assert_eq!((read.username.as_str(), read.algorithm(), read.protection), ("Alice", Some(Algorithm::Md5), None));
    let before_any = "Digest username=\"a@b\",realm=\"b\",uri=\"sip:b\",nonce=\"\",response=\"\"";
    assert_eq!(Credentials::parse(before_any), Ok(None));
    assert_eq!(Credentials::parse("Bearer abc.def"), Ok(None));
    let full = |further: &str| format!("{value}{further}");
    for (further, error) in [
        (", qop=auth, cnonce=\"c\", nc=1", HeaderError::Number),
        (", qop=auth, cnonce=\"c\", nc=0000000g", HeaderError::Number),
        (", qop=auth, nc=00000001", HeaderError::Missing),
        (", qop=auth-conf, cnonce=\"c\", nc=00000001", HeaderError::Syntax),
        (", username=\"Bob\"", HeaderError::Syntax),
        (", opaque=\"never ends", HeaderError::Syntax),
        (", Digest username=\"Bob\"", HeaderError::Syntax),
        (", loose token", HeaderError::Syntax),
    ] {
        assert_eq!(Credentials::parse(&full(further)), Err(error), "{further}");
    }
    assert_eq!(Credentials::parse("Digest response=\"1\""), Err(HeaderError::Missing));
    assert_eq!(Credentials::parse(""), Err(HeaderError::Syntax));
    let many: String = (0..40).map(|number| format!(", x{number}=1")).collect();
    assert_eq!(Credentials::parse(&full(&many)), Err(HeaderError::Syntax));
    let unknown = Credentials::parse(&full(", algorithm=MD5-sess")).unwrap().unwrap();
    assert_eq!(unknown.algorithm(), None);
}

#[test]
fn a_hash_is_never_shown() {
    let hash = HashOfA1::new(Algorithm::Sha256, "a", "b", "c");
    assert_eq!(format!("{hash:?}"), "HashOfA1(SHA-256)");
    assert_eq!(HashOfA1::from_hexadecimal(Algorithm::Sha256, &hash.to_hexadecimal()), Some(hash));
    assert_eq!(HashOfA1::from_hexadecimal(Algorithm::Sha256, "ab"), None);
    assert_eq!(HashOfA1::from_hexadecimal(Algorithm::Md5, "é"), None);
}

const LIFETIME: u64 = 1_000;

fn nonce(issued_at: u64, number: u64) -> Nonce {
    Nonce { issued_at, origin: Origin(7), number }
}

#[test]
fn a_nonce_is_known_by_its_key_and_realm_for_its_time() {
    let key = NonceKey::new(&[1; 32]);
    let issued = nonce(5_000, 9);
    let text = key.write("example.org", &issued);
    assert_eq!(key.read("example.org", &text, 6_000, LIFETIME), Ok(issued));
    assert_eq!(key.read("example.org", &text.to_uppercase(), 5_000, LIFETIME), Ok(issued));
    assert_eq!(key.read("example.org", &text, 6_001, LIFETIME), Err(NonceError::Expired));
    assert_eq!(key.read("example.org", &text, 3_999, LIFETIME), Err(NonceError::Expired));
    assert_eq!(key.read("example.com", &text, 5_000, LIFETIME), Err(NonceError::Foreign));
    assert_eq!(NonceKey::new(&[2; 32]).read("example.org", &text, 5_000, LIFETIME), Err(NonceError::Foreign));
    for at in 0..text.len() {
        let mut other = text.clone().into_bytes();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(key.read("example.org", &other, 5_000, LIFETIME), Err(NonceError::Foreign), "{at}");
    }
    for wrong in ["", "zz", &text[2..], "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"] {
        assert_eq!(key.read("example.org", wrong, 5_000, LIFETIME), Err(NonceError::Foreign));
    }
    let origin = |text: &str| key.origin(text.parse().unwrap());
    assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff"));
    assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
    assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
    assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
}

#[test]
fn a_full_memory_forgets_the_oldest_and_takes_none_of_them_again() {
    let mut counts = NonceCounts::new(2);
    let mut note = |issued_at, count| counts.note(&nonce(issued_at, 0), count, 100, LIFETIME);
    assert_eq!(note(10, 1), Ok(()));
    assert_eq!(note(30, 1), Ok(()));
    assert_eq!(note(20, 1), Ok(()));
    assert_eq!(note(10, 2), Err(CountError::Forgotten), "it made room for another");
    assert_eq!(note(5, 1), Err(CountError::Forgotten), "nobody knows whether it was used");
    assert_eq!(note(30, 1), Err(CountError::Repeated));
    assert_eq!(note(30, 2), Ok(()));
    assert_eq!(counts.len(), 2);
    assert_eq!(counts.note(&nonce(2_000, 0), 1, 2_000, LIFETIME), Ok(()));
    assert_eq!(counts.len(), 1, "what is too old is not remembered");
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~äø]{0,24}").unwrap()
}

fn token() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[A-Za-z0-9.-]{1,12}").unwrap()
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    proptest::sample::select(Algorithm::ALL.to_vec())
}

proptest! {
    #[test]
    fn challenges_come_back_as_they_were_written(
        list in proptest::collection::vec(
            (text(), text(), proptest::option::of(text()), any::<bool>(), algorithm(), proptest::collection::vec(token(), 0..3)),
            1..4,
        )
    ) {
        let challenges: Vec<Challenge> = list.into_iter().map(
            |(realm, nonce, opaque, stale, algorithm, quality_of_protection)| Challenge {
                realm, nonce, opaque, stale, algorithm, quality_of_protection,
            },
        ).collect();
        let written: Vec<String> = challenges.iter().map(ToString::to_string).collect();
        prop_assert_eq!(Challenge::parse_list(&written.join(", ")), Ok(challenges));
    }

    #[test]
    fn credentials_come_back_as_they_were_written(
        (username, realm, nonce, uri) in (text(), text(), text(), text()),
        response in "[0-9a-f]{1,64}",
        algorithm in proptest::option::of(token()),
        opaque in proptest::option::of(text()),
        protection in proptest::option::of((text(), "[0-9a-fA-F]{8}")),
    ) {
        let protection = protection.map(|(cnonce, count)| auth(&cnonce, &count));
        let credentials = Credentials { username, realm, nonce, uri, response, algorithm, opaque, protection };
        prop_assert_eq!(Credentials::parse(&credentials.to_string()), Ok(Some(credentials)));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}", tail in "(Digest|,| |=|\"|\\\\|nc|qop|response|<|>|é){0,20}") {
        for value in [text.clone(), format!("Digest {text}"), tail.clone(), format!("Digest {tail}")] {
            let _ = (Challenge::parse_list(&value), Credentials::parse(&value));
            let _ = NonceKey::new(&[0; 32]).read("r", &value, 0, 1);
        }
    }

    /// Whatever comes in whatever order, no count of a nonce is taken twice, and what rises is always taken while there is room.
    #[test]
    fn no_count_is_taken_twice(uses in proptest::collection::vec((0u64..4, 0u32..200), 0..300), room in 1usize..5) {
        let mut counts = NonceCounts::new(room);
        let mut taken = HashSet::new();
        for (which, count) in uses {
            if counts.note(&nonce(which, which), count, 0, LIFETIME).is_ok() {
                prop_assert!(count > 0 && taken.insert((which, count)));
            }
        }
        prop_assert!(counts.len() <= room);
        let mut counts = NonceCounts::new(1);
        for count in 1..100 {
            prop_assert_eq!(counts.note(&nonce(1, 1), count, 0, LIFETIME), Ok(()));
        }
    }
}
