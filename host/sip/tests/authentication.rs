//! Digest: the published examples, what is read and written, nonces and their counts.

use std::collections::HashSet;

use proptest::prelude::*;
use restante_sip::authentication::*;
use restante_sip::header::HeaderError;

fn auth(cnonce: &str, nonce_count: &str) -> Protection {
    let quality = QualityOfProtection::Auth;
    Protection { quality, cnonce: cnonce.to_owned(), nonce_count: nonce_count.to_owned() }
}

fn get<'a>(uri: &'a str, nonce: &'a str) -> Subject<'a> {
    Subject { method: "GET", uri, nonce, is_session: false, body: &[] }
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
        let computed = response(&hash, &get("/dir/index.html", nonce), Some(&protection));
        assert_eq!(computed, expected, "{algorithm}");
        assert!(is_response(&computed, &expected.to_uppercase()) && !is_response(&computed, &expected[1..]));
    }
}

#[test]
fn the_example_of_rfc_2617_and_the_same_without_qop() {
    let hash = HashOfA1::new(Algorithm::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(hash.to_hexadecimal(), "939e7578ed9e3c518a452acee763bce9");
    let of = |protection: Option<&Protection>| {
        response(&hash, &get("/dir/index.html", "dcd98b7102dd2f0e8b11d0f600bfb0c093"), protection)
    };
    assert_eq!(of(Some(&auth("0a4f113b", "00000001"))), "6629fae49393a05397450978507c4ef1");
    assert_eq!(of(None), "670fd8c2df070c60b045671b8b24ff02");
}

/// RFC 7616 §3.9.2, with erratum 4897: what is printed there was made with the first half of SHA-512, which is another
/// function than SHA-512/256. The values here were computed apart from this crate.
#[test]
fn the_example_with_a_hashed_username() {
    let (realm, username) = ("api@example.org", "J\u{e4}s\u{f8}n Doe");
    let hashed = user_hash(Algorithm::Sha512Of256, username, realm);
    assert_eq!(hashed, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
    let hash = HashOfA1::new(Algorithm::Sha512Of256, username, realm, "Secret, or not?");
    let protection = auth("NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", "00000001");
    let computed =
        response(&hash, &get("/doe.json", "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK"), Some(&protection));
    assert_eq!(computed, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
}

/// Computed apart from this crate.
#[test]
fn a_session_and_a_body_go_into_the_hash() {
    let hash = HashOfA1::new(Algorithm::Sha256, "alice", "example.org", "secret");
    let subject = |is_session: bool, body: &'static [u8]| Subject {
        method: "MESSAGE",
        uri: "sip:bob@example.org",
        nonce: "n",
        is_session,
        body,
    };
    let with_body = Protection { quality: QualityOfProtection::AuthInt, ..auth("c", "00000001") };
    for (subject, protection, expected) in [
        (
            subject(true, b"hello"),
            auth("c", "00000001"),
            "9a0ff7e337f3faa83e49bbd49f361f867596a7628e4a98e2ead57242703ce652",
        ),
        (
            subject(false, b"hello"),
            with_body.clone(),
            "654dea0a11dbcfcac8257fb2f999912da5f3af974b91f2729a9b6f77aa58fbf6",
        ),
        (subject(false, b""), with_body.clone(), "2d5c4f15417e242ad5c45ca5e8a6d09922b6b463eb2c811031190c8750602a84"),
        (
            subject(true, b"hello"),
            with_body.clone(),
            "8b1fedef922e593d191ab758145701345cf397e76c152322b5e7c058d0a584a1",
        ),
    ] {
        assert_eq!(response(&hash, &subject, Some(&protection)), expected, "{subject:?}");
    }
    assert_ne!(
        response(&hash, &subject(false, b"hello"), Some(&with_body)),
        response(&hash, &subject(false, b"hellO"), Some(&with_body))
    );
}

#[test]
fn a_server_that_knows_the_password_shows_it_and_no_other_does() {
    let subject = Subject { method: "MESSAGE", uri: "sip:bob@b", nonce: "n", is_session: false, body: b"x" };
    let hash = |password: &str| HashOfA1::new(Algorithm::Sha256, "alice", "example.org", password);
    let used = auth("c", "0000000a");
    let (shown, protection) = AuthenticationInfo::shown(&hash("secret"), &Subject { body: &[], ..subject }, &used);
    assert_eq!(shown, "820284516dfdfb9b423894ae9e5d97712c76cf5f9a21f3fa573a978b4af24166");
    let info = AuthenticationInfo { next_nonce: None, shown: Some((shown, protection)) };
    let of_answer = Subject { body: &[], ..subject };
    assert_eq!(info.is_right(&hash("secret"), &of_answer, &used), Some(true));
    assert_eq!(info.is_right(&hash("other"), &of_answer, &used), Some(false));
    assert_eq!(info.is_right(&hash("secret"), &of_answer, &auth("c", "0000000b")), Some(false));
    assert_eq!(info.is_right(&hash("secret"), &of_answer, &auth("d", "0000000a")), Some(false));
    assert_eq!(AuthenticationInfo::default().is_right(&hash("secret"), &of_answer, &used), None);
}

/// RFC 8760 §2: a challenge for each algorithm, preferred first, as separate fields or in one list.
#[test]
fn several_challenges_are_read_in_order_and_unknown_ones_left_out() {
    let value = "Digest realm=\"a, b\\\"c\", qop=\"auth,auth-int\", algorithm=SHA-256, nonce=\"n1\", opaque=\"o\", x=y,\r\n \
                 Negotiate abc==, Digest realm=\"r\", nonce=\"n3\", algorithm=SHA3-512, Basic realm=\"r\" , \
                 digest Realm = \"r\", nonce=\"n2\", stale=TRUE, charset=UTF-8";
    let found = Challenge::parse_list(value).unwrap();
    let [first, second] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (first.realm.as_str(), first.nonce.as_str(), first.algorithm),
        ("a, b\"c", "n1", Algorithm::Sha256.into())
    );
    assert!(first.offers_auth() && !first.stale);
    assert_eq!((second.nonce.as_str(), second.algorithm, second.stale), ("n2", Algorithm::Md5.into(), true));
    assert!(!second.offers_auth());
}

#[test]
fn credentials_are_read_as_clients_write_them() {
    // RFC 3261 §20.7.
    let value = "Digest username=\"Alice\", realm=\"atlanta.com\", nonce=\"84a4cc6f3082121f32b42a2187831a9e\", \
                 uri=\"sip:bob@b\", response=\"7587245234b3434cc3412213e5f113a5432\"";
    let read = Credentials::parse(value).unwrap().unwrap();
    assert_eq!((read.username.as_str(), read.algorithm()), ("Alice", Some(Algorithm::Md5.into())));
    assert_eq!((read.protection, read.is_user_hash), (None, false));
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
    let without = full("").replace("uri=", "uris=");
    assert_eq!(Credentials::parse(&without), Err(HeaderError::Missing));
    assert_eq!(Credentials::parse_for(&without, Some("msrp:x")).unwrap().unwrap().uri, "msrp:x");
    assert_ne!(Credentials::parse_for(&full(""), Some("msrp:x")).unwrap().unwrap().uri, "msrp:x");
    assert_eq!(Credentials::parse("Digest response=\"1\""), Err(HeaderError::Missing));
    assert_eq!(Credentials::parse(""), Err(HeaderError::Syntax));
    let many: String = (0..40).map(|number| format!(", x{number}=1")).collect();
    assert_eq!(Credentials::parse(&full(&many)), Err(HeaderError::Syntax));
    for (name, expected) in [
        ("MD5-sess", Some(Variant { algorithm: Algorithm::Md5, is_session: true })),
        ("sha-512-256-SESS", Some(Variant { algorithm: Algorithm::Sha512Of256, is_session: true })),
        ("SHA-256-session", None),
        ("-sess", None),
    ] {
        let read = Credentials::parse(&full(&format!(", algorithm={name}, userhash=TRUE"))).unwrap().unwrap();
        assert_eq!((read.algorithm(), read.is_user_hash), (expected, true), "{name}");
    }
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

fn algorithm() -> impl Strategy<Value = Variant> {
    let algorithm = proptest::sample::select(Algorithm::ALL.to_vec());
    (algorithm, any::<bool>()).prop_map(|(algorithm, is_session)| Variant { algorithm, is_session })
}

proptest! {
    #[test]
    fn challenges_come_back_as_they_were_written(
        list in proptest::collection::vec(
            (
                text(),
                text(),
                proptest::option::of(text()),
                any::<bool>(),
                algorithm(),
                proptest::collection::vec(token(), 0..3),
                any::<bool>(),
            ),
            1..4,
        )
    ) {
        let challenges: Vec<Challenge> = list.into_iter().map(
            |(realm, nonce, opaque, stale, algorithm, quality_of_protection, takes_user_hash)| Challenge {
                realm, nonce, opaque, stale, algorithm, quality_of_protection, takes_user_hash,
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
        is_user_hash in any::<bool>(),
    ) {
        let protection = protection.map(|(cnonce, count)| auth(&cnonce, &count));
        let credentials = Credentials { username, is_user_hash, realm, nonce, uri, response, algorithm, opaque, protection };
        prop_assert_eq!(Credentials::parse(&credentials.to_string()), Ok(Some(credentials)));
    }

    #[test]
    fn what_a_server_says_in_return_comes_back_as_it_was_written(
        next_nonce in proptest::option::of(text()),
        shown in proptest::option::of(("[0-9a-f]{1,64}", text(), "[0-9a-fA-F]{8}")),
    ) {
        let shown = shown.map(|(shown, cnonce, count)| (shown, auth(&cnonce, &count)));
        let info = AuthenticationInfo { next_nonce, shown };
        // Nothing at all is no value.
        prop_assume!(info != AuthenticationInfo::default());
        prop_assert_eq!(AuthenticationInfo::parse(&info.to_string()), Ok(info));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}", tail in "(Digest|,| |=|\"|\\\\|nc|qop|response|<|>|é){0,20}") {
        for value in [text.clone(), format!("Digest {text}"), tail.clone(), format!("Digest {tail}")] {
            let _ = (Challenge::parse_list(&value), Credentials::parse(&value), AuthenticationInfo::parse(&value));
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
