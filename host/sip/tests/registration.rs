//! What a registrar makes of REGISTER requests.

use bytes::Bytes;
use proptest::prelude::*;
use restante_sip::message::{MessageLimits, SipMessage, validate_request};
use restante_sip::registration::{
    BindingKind, Bindings, ChangeKind, RegisterError, RegisterRequest, Registrant, RegistrarLimits, RegistrationOutcome,
};
use restante_sip::writer::Builder;

const BOB: &str = "sip:bob@example.org";

fn message(from: &str, cseq: u32, fields: &[&str], body: &str) -> SipMessage {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{cseq}\r\nFrom: <{from}>;tag=1\r\n\
         To: <{BOB}>\r\nCall-ID: c1\r\nCSeq: {cseq} REGISTER\r\n{fields}\r\n{body}"
    );
    let message = SipMessage::parse(Bytes::from(text), &MessageLimits::default()).expect("a message");
    validate_request(&message).expect("a valid message");
    message
}

fn request(cseq: u32, fields: &[&str]) -> Result<RegisterRequest, RegisterError> {
    RegisterRequest::parse(&message(BOB, cseq, fields, ""))
}

/// A registrar with one address-of-record and a clock in seconds.
#[derive(Default)]
struct Registrar {
    bindings: Bindings,
    limits: RegistrarLimits,
    seconds: u64,
    cseq: u32,
}

impl Registrar {
    fn now(&self) -> u64 {
        self.seconds * 1000
    }

    fn register(&mut self, fields: &[&str]) -> Result<RegistrationOutcome, RegisterError> {
        self.cseq += 1;
        self.apply(&request(self.cseq, fields)?)
    }

    fn apply(&mut self, request: &RegisterRequest) -> Result<RegistrationOutcome, RegisterError> {
        self.bindings.apply(self.now(), request, request.likely_registrant(), &self.limits)
    }

    fn kinds(&mut self, fields: &[&str]) -> Vec<ChangeKind> {
        self.register(fields).expect("accepted").changes.iter().map(|change| change.kind).collect()
    }

    fn bound(&self) -> Vec<(&str, u64)> {
        let left = |at: u64| at.saturating_sub(self.now()) / 1000;
        self.bindings.bindings.iter().map(|binding| (binding.contact_uri.as_str(), left(binding.expires_at))).collect()
    }

    fn answer(&self, fields: &[&str], associated: &[String]) -> String {
        let message = message(BOB, 99, fields, "");
        let request = RegisterRequest::parse(&message).expect("a request");
        let fields = self.bindings.answer(self.now(), &request, request.likely_registrant(), associated);
        let builder = Builder::response(&message, 200, "OK", None, Some("t"));
        let bytes = fields.iter().fold(builder, |builder, field| builder.header(field)).finish().expect("written");
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        text.split_once("CSeq: 99 REGISTER\r\n").expect("cseq").1.replace("\r\n", "\n")
    }
}

const ADDED: ChangeKind = ChangeKind::Added;
const REFRESHED: ChangeKind = ChangeKind::Refreshed { moved: false };
const MOVED: ChangeKind = ChangeKind::Refreshed { moved: true };

#[test]
fn each_contact_has_its_own_expiry_else_the_requests_else_the_default() {
    let mut registrar = Registrar::default();
    let kinds = registrar.kinds(&[
        "Contact: <sip:a@h1>;expires=60, <sip:a@h2>;q=0.5",
        "Contact: sip:a@h3;expires=x",
        "Expires: 120",
    ]);
    assert_eq!(kinds, [ADDED; 3]);
    assert_eq!(registrar.bound(), [("sip:a@h1", 60), ("sip:a@h2", 120), ("sip:a@h3", 120)]);
    assert_eq!(registrar.bindings.bindings[1].q_permille(), 500);
    let mut registrar = Registrar::default();
    registrar.kinds(&["Contact: <sip:a@h1>", "Contact: <sip:a@h2>;expires=4000000000"]);
    assert_eq!(registrar.bound(), [("sip:a@h1", 3600), ("sip:a@h2", 86_400)]);
}

#[test]
fn a_refresh_is_told_from_a_new_binding() {
    let mut registrar = Registrar::default();
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h1:5060>"]), [ADDED]);
    assert_eq!(registrar.kinds(&["Contact: <sip:%61@H1:5060>;q=0.1"]), [MOVED]);
    assert_eq!(registrar.kinds(&["Contact: <sip:%61@H1:5060>"]), [REFRESHED]);
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h1>"]), [ADDED]);
    assert_eq!(registrar.kinds(&[]), []);
    assert_eq!(registrar.bindings.bindings.iter().map(|binding| binding.id.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn expiry_zero_ends_one_binding_and_a_star_all() {
    let mut registrar = Registrar::default();
    registrar.kinds(&["Contact: <sip:a@h1>, <sip:a@h2>, <sip:a@h3>"]);
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h2>;expires=0, <sip:unknown@h>;expires=0"]), [ChangeKind::Removed]);
    assert_eq!(registrar.bound().len(), 2);
    assert_eq!(registrar.kinds(&["Contact: *", "Expires: 0"]), [ChangeKind::Removed; 2]);
    assert!(registrar.bindings.is_empty());
    for wrong in [&["Contact: *"][..], &["Contact: *", "Expires: 1"], &["Contact: *, <sip:a@h>", "Expires: 0"]] {
        assert_eq!(registrar.register(wrong).expect_err("refused").status(), 400, "{wrong:?}");
    }
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h1>"]), [ADDED]);
    assert_eq!(registrar.bindings.bindings[0].id.0, 4, "numbers are not used again");
}

#[test]
fn what_is_too_brief_is_refused_and_nothing_changes() {
    let mut registrar = Registrar::default();
    registrar.limits.min_expires_seconds = 100;
    let error = registrar.register(&["Contact: <sip:a@h1>;expires=3600, <sip:a@h2>;expires=99"]).expect_err("brief");
    assert_eq!((error.status(), error.fields()[0].to_string().as_str()), (423, "Min-Expires: 100"));
    assert!(registrar.bindings.is_empty());
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h1>;expires=100"]), [ADDED]);
    registrar.limits.min_expires_seconds = 7200;
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h2>;expires=3600"]), [ADDED], "an hour is never too brief");
}

#[test]
fn bindings_end_by_time() {
    let mut registrar = Registrar::default();
    registrar.kinds(&["Contact: <sip:a@h1>;expires=60, <sip:a@h2>;expires=90"]);
    assert_eq!(registrar.bindings.next_expiry(), Some(60_000));
    registrar.seconds = 59;
    assert!(registrar.bindings.expire(registrar.now()).is_empty());
    registrar.seconds = 60;
    let ended = registrar.bindings.clone().expire(registrar.now());
    assert_eq!(ended.iter().map(|binding| binding.contact_uri.as_str()).collect::<Vec<_>>(), ["sip:a@h1"]);
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h1>"]), [ChangeKind::Expired, ADDED]);
}

#[test]
fn an_older_request_of_the_same_call_is_refused_and_a_repetition_changes_nothing() {
    let mut registrar = Registrar::default();
    registrar.apply(&request(5, &["Contact: <sip:a@h1>;expires=60"]).expect("read")).expect("accepted");
    let again = registrar.apply(&request(5, &["Contact: <sip:a@h1>;expires=0"]).expect("read")).expect("accepted");
    assert!(again.changes.is_empty());
    for fields in [&["Contact: <sip:a@h2>, <sip:a@h1>;expires=0"][..], &["Contact: *", "Expires: 0"]] {
        let older = request(4, fields).expect("read");
        assert_eq!(registrar.apply(&older), Err(RegisterError::OutOfOrder));
    }
    assert_eq!(registrar.bound(), [("sip:a@h1", 60)]);
    let mut other_call = request(1, &["Contact: <sip:a@h1>;expires=0"]).expect("read");
    other_call.call_id = "c2".to_owned();
    registrar.apply(&other_call).expect("another Call-ID is another sequence");
    assert!(registrar.bindings.is_empty());
}

#[test]
fn contacts_are_bounded() {
    let mut registrar = Registrar::default();
    registrar.limits.max_contacts = 2;
    registrar.kinds(&["Contact: <sip:a@h1>, <sip:a@h2>"]);
    assert_eq!(registrar.register(&["Contact: <sip:a@h3>"]), Err(RegisterError::TooManyContacts));
    assert_eq!(registrar.kinds(&["Contact: <sip:a@h3>, <sip:a@h1>;expires=0"]), [ADDED, ChangeKind::Removed]);
    registrar.limits.max_binding_bytes = 20;
    assert_eq!(registrar.register(&["Contact: <sip:a@h3>;much=more-than-that"]), Err(RegisterError::TooLarge));
    assert_eq!(registrar.register(&["Contact: <mailto:a@h3>"]).expect_err("no SIP URI").status(), 400);
}

#[test]
fn a_device_is_known_by_its_instance_and_its_flows_by_reg_id() {
    let outbound = "Supported: path, outbound";
    let mut registrar = Registrar::default();
    let one = "Contact: <sip:a@h1>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
    assert_eq!(registrar.kinds(&[outbound, one]), [ADDED]);
    let moved = "Contact: <sip:a@h2>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
    assert_eq!(registrar.kinds(&[outbound, moved]), [MOVED]);
    let second = "Contact: <sip:a@h2>;reg-id=2;+sip.instance=\"<urn:uuid:1>\"";
    assert_eq!(registrar.kinds(&[outbound, second]), [ADDED]);
    // Of an answer to what made or ends a flow, and of no other.
    let gone = "Contact: <sip:a@h2>;reg-id=2;+sip.instance=\"<urn:uuid:1>\";expires=0";
    for (contact, expected) in
        [(one, true), (gone, true), ("Contact: <sip:a@h9>", false), ("Subject: what is bound", false)]
    {
        let answer = registrar.answer(&[outbound, contact], &[]);
        assert_eq!(answer.contains("\nRequire: outbound\n"), expected, "{contact}");
    }
    // Without outbound the instance alone says which device came back.
    let mut registrar = Registrar::default();
    assert_eq!(registrar.kinds(&[one]), [ADDED]);
    assert_eq!(registrar.kinds(&[second]), [MOVED]);
    let two = "Contact: <sip:a@h3>;+sip.instance=\"<urn:uuid:1>\", <sip:a@h4>;+sip.instance=\"<urn:uuid:1>\"";
    assert_eq!(registrar.kinds(&[two]), [MOVED, ADDED], "two contacts of one request are two");
    assert!(!registrar.answer(&[outbound], &[]).contains("Require"));
}

#[test]
fn outbound_needs_an_edge_that_takes_part() {
    for (path, expected) in [
        ("Path: <sip:edge;lr;ob>", true),
        ("Path: <sip:core;lr>, <sip:edge;lr;ob>", true),
        ("Path: <sip:core;lr;ob>, <sip:edge;lr>", false),
        ("Via: SIP/2.0/UDP edge", false),
        ("X: y", true),
    ] {
        assert_eq!(request(1, &["Supported: outbound", path]).expect("read").is_outbound, expected, "{path}");
    }
}

#[test]
fn the_answer_names_every_binding_with_its_expiry() {
    let mut registrar = Registrar::default();
    registrar.kinds(&[
        "Contact: sip:a@h1;unknownparam;expires=61",
        "Contact: \"A\" <sip:a@h2;unknownparam>;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3Aa,urn%3Aurn-7%3Ab\";methods=\"MESSAGE\";q=0.20",
        "Supported: path",
        "Path: <sip:p1;lr>,<sip:p2;lr>",
    ]);
    registrar.seconds = 60;
    let fields = ["Supported: path", "Path: <sip:p1;lr>"];
    insta::assert_snapshot!(registrar.answer(&fields, &["sip:bob@example.org".into(), "tel:+15551234567".into()]), @r#"
    Contact: <sip:a@h1>;unknownparam;expires=1
    Contact: <sip:a@h2;unknownparam>;+g.3gpp.icsi-ref="urn%3Aurn-7%3Aa,urn%3Aurn-7%3Ab";methods="MESSAGE";q=0.20;expires=3540
    Path: <sip:p1;lr>
    P-Associated-URI: <sip:bob@example.org>
    P-Associated-URI: <tel:+15551234567>
    Date: Thu, 01 Jan 1970 00:01:00 GMT
    Content-Length: 0
    "#);
}

#[test]
fn a_binding_says_where_requests_go_and_what_its_device_can_do() {
    let mut registrar = Registrar::default();
    registrar.kinds(&[
        "Contact: <sip:bob@h1;transport=tcp?Route=%3Csip:evil%3E>;+g.oma.sip-im;methods=\"MESSAGE, INVITE\";x=y",
        "Path: <sip:p1;lr>, <sip:p2;lr>",
    ]);
    let binding = &registrar.bindings.bindings[0];
    let target = binding.target(BOB);
    assert_eq!(target.request_uri, "sip:bob@h1;transport=tcp");
    assert_eq!(target.routes, ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!(binding.methods(), ["INVITE", "MESSAGE"]);
    assert!(binding.contact_uri.contains("?Route="), "kept as registered");
    assert!(binding.feature_tags().iter().any(|(name, value)| name == "+g.oma.sip-im" && value.is_none()));
    registrar.kinds(&["Contact: <sip:bob@h2>", "Allow: MESSAGE, BYE"]);
    assert_eq!(registrar.bindings.bindings[1].methods(), ["BYE", "MESSAGE"]);
}

const CORE: &str = "sip:scscf.example.org:6060";

fn third_party(cseq: u32, expires: u32, fields: &[&str], body: &str) -> RegisterRequest {
    let contact = format!("Contact: <{CORE}>");
    let expires = format!("Expires: {expires}");
    let fields: Vec<&str> = [contact.as_str(), expires.as_str()].into_iter().chain(fields.iter().copied()).collect();
    RegisterRequest::parse(&message(CORE, cseq, &fields, body)).expect("read")
}

fn client_register(host: &str, instance: &str, expires: u32) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP {host}\r\nFrom: <{BOB}>;tag=2\r\nTo: <{BOB}>\r\n\
         Call-ID: x\r\nCSeq: 1 REGISTER\r\nContact: <sip:bob@{host}>;+sip.instance=\"<{instance}>\";\
         +g.3gpp.icsi-ref=\"urn%3Aurn-7%3A{instance}\"\r\nExpires: {expires}\r\nAllow: MESSAGE\r\n\r\n"
    )
}

#[test]
fn a_third_party_registration_is_a_route_and_no_device() {
    let mut registrar = Registrar::default();
    let request = third_party(
        1,
        600_000,
        &["P-Associated-URI: <sip:bob@example.org>, <tel:+1-555-1>", "Path: <sip:pcscf;lr>"],
        "",
    );
    assert_eq!(request.likely_registrant(), Registrant::Core);
    assert_eq!(request.associated_addresses, [BOB, "tel:+15551"]);
    registrar.apply(&request).expect("accepted");
    let binding = &registrar.bindings.bindings[0];
    assert_eq!(binding.kind, BindingKind::Core);
    let target = binding.target(BOB);
    assert_eq!((target.request_uri.as_str(), target.routes), (BOB, vec!["<sip:scscf.example.org:6060;lr>".to_owned()]));
    assert_eq!(registrar.bound(), [(CORE, 600_120)]);
    let answer = registrar.bindings.answer(0, &request, Registrant::Core, &[]);
    assert_eq!(answer[0].to_string(), format!("Contact: <{CORE}>;expires=600120"));
}

#[test]
fn a_core_that_says_a_device_left_does_not_say_that_none_is_left() {
    let mut registrar = Registrar::default();
    registrar.apply(&third_party(1, 3600, &[], "")).expect("accepted");
    let left = third_party(2, 0, &[], "");
    let outcome = registrar.apply(&left).expect("accepted");
    assert_eq!(outcome.changes.iter().map(|change| change.kind).collect::<Vec<_>>(), [ChangeKind::Doubtful]);
    assert!(!outcome.makes_available());
    assert_eq!(registrar.bound(), [(CORE, 3720)]);
    let answer = registrar.bindings.answer(0, &left, Registrant::Core, &[]);
    assert_eq!(answer[0].to_string(), format!("Contact: <{CORE}>;expires=0"));
    registrar.apply(&third_party(1, 3600, &[], "")).expect("an older one is answered and changes nothing");
    assert!(registrar.bindings.bindings[0].doubtful);
    let outcome = registrar.apply(&third_party(3, 3600, &[], "")).expect("accepted");
    assert!(outcome.makes_available());
    assert!(!registrar.bindings.bindings[0].doubtful);
    let brief = registrar.apply(&third_party(4, 1, &[], "")).expect("a core is never told that it is too brief");
    assert!(brief.makes_available());
}

#[test]
fn devices_behind_a_core_are_known_from_what_it_embeds() {
    let mut registrar = Registrar::default();
    let plain = "Content-Type: message/sip";
    let mixed = "Content-Type: multipart/mixed;boundary=\"b 1\"";
    let in_parts = |inner: &str| {
        format!(
            "--b 1\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n<ims-3gpp/>\r\n--b 1\r\nContent-Type: message/sip\r\n\r\n{inner}\r\n--b 1--\r\n"
        )
    };
    let mut kinds = |cseq, content_type, body: &str| {
        let outcome = registrar.apply(&third_party(cseq, 3600, &[content_type], body)).expect("accepted");
        let tags = registrar.bindings.bindings[0].feature_tags();
        let tags = tags.into_iter().filter_map(|(_, value)| value).collect::<Vec<_>>().join(" ");
        (outcome.changes[0].kind, tags)
    };
    let (one, two) = ("urn%3Aurn-7%3Aurn:1".to_owned(), "urn%3Aurn-7%3Aurn:2");
    assert_eq!(kinds(1, plain, &client_register("h1", "urn:1", 60)), (ADDED, one.clone()));
    assert_eq!(kinds(2, plain, &client_register("h9", "urn:1", 60)), (REFRESHED, one.clone()));
    assert_eq!(kinds(3, mixed, &in_parts(&client_register("h2", "urn:2", 60))), (MOVED, format!("{one} {two}")));
    assert_eq!(kinds(4, plain, &client_register("h9", "urn:1", 0)), (REFRESHED, two.to_owned()));
    let answer = client_register("h1", "urn:1", 60).replace("REGISTER sip:example.org SIP/2.0", "SIP/2.0 200 OK");
    assert_eq!(kinds(5, plain, &answer), (MOVED, one.clone()));
    assert_eq!(kinds(6, plain, "rubbish"), (REFRESHED, one));
}

#[test]
fn other_names_are_told_in_the_embedded_answer_and_not_by_the_client() {
    let named = |text: &str, names: &str| text.replacen("CSeq: 1", &format!("P-Associated-URI: {names}\r\nCSeq: 1"), 1);
    let register = named(&client_register("h1", "urn:1", 60), "<tel:+1-555-1>, <sip:victim@example.org>");
    let answer = register.replacen("REGISTER sip:example.org SIP/2.0", "SIP/2.0 200 OK", 1);
    let refusal = register.replacen("REGISTER sip:example.org SIP/2.0", "SIP/2.0 403 Forbidden", 1);
    let names = |field: &str, body: &str| {
        let fields = [field, "P-Associated-URI: <sip:bob@example.org>, <tel:+15551>"];
        third_party(1, 3600, &fields, body).associated_addresses
    };
    let plain = "Content-Type: message/sip";
    assert_eq!(names(plain, &answer), [BOB, "tel:+15551", "sip:victim@example.org"], "each once");
    assert_eq!(names(plain, &register), [BOB, "tel:+15551"]);
    assert_eq!(names(plain, &refusal), [BOB, "tel:+15551"]);
    let parts = format!("--b\r\nContent-Type: message/sip\r\n\r\n{answer}\r\n--b--\r\n");
    let mixed = names("Content-Type: multipart/mixed;boundary=b", &parts);
    assert_eq!(mixed, [BOB, "tel:+15551", "sip:victim@example.org"]);
}

#[test]
fn numbers_of_contacts_are_not_used_again_after_everything_was_forgotten() {
    let mut registrar = Registrar { bindings: Bindings::new(1_000_000), seconds: 1_000, ..Registrar::default() };
    registrar.register(&["Contact: <sip:a@h>;expires=60", "Contact: <sip:b@h>;expires=60"]).expect("accepted");
    let ids = |registrar: &Registrar| registrar.bindings.bindings.iter().map(|it| it.id.0).collect::<Vec<_>>();
    assert_eq!(ids(&registrar), [1_000_001, 1_000_002]);
    registrar.register(&["Contact: *", "Expires: 0"]).expect("accepted");
    assert!(registrar.bindings.is_empty());
    registrar.seconds += 1;
    registrar.bindings = Bindings::new(registrar.now());
    registrar.register(&["Contact: <sip:c@h>;expires=60"]).expect("accepted");
    assert_eq!(ids(&registrar), [1_001_001]);
}

#[test]
fn bindings_of_another_name_are_taken_over_once() {
    let mut own = Registrar { bindings: Bindings::new(500), ..Registrar::default() };
    own.register(&["Contact: <sip:a@h>;+sip.instance=\"<urn:uuid:1>\"", "Contact: <sip:b@h>"]).expect("accepted");
    let mut other = Registrar { bindings: Bindings::new(500), ..Registrar::default() };
    other
        .register(&[
            "Contact: <sip:x@h>;+sip.instance=\"<urn:uuid:1>\"",
            "Contact: <sip:b@h>;q=0.5",
            "Contact: <sip:c@h>;+sip.instance=\"<urn:uuid:3>\"",
            "Contact: <sip:d@h>",
        ])
        .expect("accepted");
    assert!(own.bindings.inherit(other.bindings.bindings.clone(), 3));
    let names: Vec<(u64, &str)> =
        own.bindings.bindings.iter().map(|binding| (binding.id.0, binding.contact_uri.as_str())).collect();
    assert_eq!(names, [(501, "sip:a@h"), (502, "sip:b@h"), (503, "sip:c@h")], "three are allowed");
    assert!(!own.bindings.inherit(other.bindings.bindings, 3));

    let core = |own: &mut Registrar| own.apply(&third_party(1, 3600, &[], "")).map(|_| own.bindings.bindings.clone());
    let route = core(&mut Registrar::default()).expect("accepted");
    let mut behind_a_core = Registrar::default();
    core(&mut behind_a_core).expect("accepted");
    assert!(!behind_a_core.bindings.inherit(route.clone(), 9), "a user has one serving core");
    assert!(own.bindings.inherit(route, 9));
}

proptest! {
    #[test]
    fn no_request_panics_or_breaks_the_bounds(
        lines in proptest::collection::vec("(Contact|Path|Supported|Allow|Content-Type|Event): [ -~]{0,30}|Contact: <sip:[a-c]@h>(;expires=[0-9]{1,3})?(;reg-id=[0-9])?(;\\+sip.instance=\"<[a-c]>\")?", 0..6),
        body in "[ -~\r\n]{0,60}|--b\r\n\r\n--b(--)?[ -~]{0,9}",
        core in any::<bool>(),
        rounds in 1u32..4,
    ) {
        let limits = RegistrarLimits { max_contacts: 2, ..RegistrarLimits::default() };
        let mut bindings = Bindings::default();
        for cseq in 1..=rounds {
            let text = format!("REGISTER sip:h SIP/2.0\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: c\r\nCSeq: {cseq} REGISTER\r\n{}\r\n\r\n{body}", lines.join("\r\n"));
            let Ok(message) = SipMessage::parse(Bytes::from(text), &MessageLimits::default()) else { continue };
            let Ok(request) = RegisterRequest::parse(&message) else { continue };
            let registrant = if core { Registrant::Core } else { Registrant::Device };
            let before = bindings.clone();
            if bindings.apply(u64::from(cseq), &request, registrant, &limits).is_err() {
                prop_assert_eq!(&before, &bindings);
            }
            prop_assert!(bindings.bindings.len() <= 2);
            for binding in &bindings.bindings {
                prop_assert!(binding.contact().is_ok(), "{:?}", binding);
            }
            let _ = bindings.answer(0, &request, registrant, &[]);
        }
    }
}
