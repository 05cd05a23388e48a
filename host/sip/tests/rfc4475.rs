//! The torture messages of RFC 4475, as far as grammar decides them.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use restante_sip::message::{
    MalformedRequest, MessageLimits, Name, SipMessage, unfold, validate_request, validate_response,
};
use restante_sip::registration::{Bindings, RegisterRequest, Registrant, RegistrarLimits};
use restante_sip::uri::Uri;
use restante_sip::writer::Builder;

#[derive(Debug, PartialEq)]
enum Verdict {
    /// May be processed.
    Process,
    /// Refused with this status.
    Refuse(u16),
    /// Not answered.
    Drop,
}

fn judge(bytes: &[u8]) -> Verdict {
    let Ok(message) = SipMessage::from_datagram(Bytes::copy_from_slice(bytes), &MessageLimits::default()) else {
        return Verdict::Drop;
    };
    if !message.is_request() {
        return if validate_response(&message) { Verdict::Process } else { Verdict::Drop };
    }
    match validate_request(&message) {
        Ok(()) => match message.request_uri().map(Uri::parse) {
            Some(Ok(Uri::Sip(_) | Uri::Tel(_))) => Verdict::Process,
            _ => Verdict::Refuse(416),
        },
        Err(MalformedRequest::Unanswerable) => Verdict::Drop,
        Err(malformed) => malformed.status().map_or(Verdict::Drop, Verdict::Refuse),
    }
}

/// What needs the server's own state (405, 415, 420, 406, 404) is `Process` here; the server's tests go on from there.
const TABLE: &[(&str, Verdict)] = &[
    ("wsinv", Verdict::Process),
    ("intmeth", Verdict::Process),
    ("esc01", Verdict::Process),
    ("escnull", Verdict::Process),
    ("esc02", Verdict::Process),
    ("lwsdisp", Verdict::Process),
    ("longreq", Verdict::Process),
    ("dblreq", Verdict::Process),
    ("semiuri", Verdict::Process),
    ("transports", Verdict::Process),
    ("mpart01", Verdict::Process),
    ("unreason", Verdict::Process),
    ("noreason", Verdict::Process),
    ("badinv01", Verdict::Refuse(400)),
    ("clerr", Verdict::Refuse(400)),
    ("ncl", Verdict::Refuse(400)),
    ("scalar02", Verdict::Refuse(400)),
    ("scalarlg", Verdict::Drop),
    ("quotbal", Verdict::Refuse(400)),
    ("ltgtruri", Verdict::Refuse(400)),
    ("lwsruri", Verdict::Refuse(400)),
    ("lwsstart", Verdict::Refuse(400)),
    ("trws", Verdict::Refuse(400)),
    ("escruri", Verdict::Refuse(400)),
    ("baddate", Verdict::Process),
    ("regbadct", Verdict::Refuse(400)),
    ("badaspec", Verdict::Refuse(400)),
    ("baddn", Verdict::Process),
    ("badvers", Verdict::Refuse(505)),
    ("mismatch01", Verdict::Refuse(400)),
    ("mismatch02", Verdict::Refuse(400)),
    ("bigcode", Verdict::Drop),
    ("badbranch", Verdict::Process),
    ("insuf", Verdict::Refuse(400)),
    ("unkscm", Verdict::Refuse(416)),
    ("novelsc", Verdict::Refuse(416)),
    ("unksm2", Verdict::Process),
    ("bext01", Verdict::Process),
    ("invut", Verdict::Process),
    ("regaut01", Verdict::Process),
    ("multi01", Verdict::Refuse(400)),
    ("mcl01", Verdict::Refuse(400)),
    ("bcast", Verdict::Process),
    ("zeromf", Verdict::Process),
    ("cparam01", Verdict::Process),
    ("cparam02", Verdict::Process),
    ("regescrt", Verdict::Process),
    ("sdp01", Verdict::Process),
    ("inv2543", Verdict::Process),
    // It has no Via: over UDP there is no address to send the 400 to.
    ("test", Verdict::Refuse(400)),
];

fn folder() -> Option<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/rfc4475");
    if folder.is_dir() {
        return Some(folder);
    }
    // Past the test harness, which would keep it back.
    let _ = writeln!(std::io::stderr(), "SKIPPED rfc4475-vectors: {} is not there", folder.display());
    None
}

#[test]
fn every_torture_message_gets_its_verdict() {
    let Some(folder) = folder() else { return };
    let wrong: Vec<String> = TABLE
        .iter()
        .filter_map(|(name, expected)| {
            let bytes = std::fs::read(folder.join(format!("{name}.dat"))).expect("vector");
            let verdict = judge(&bytes);
            (verdict != *expected).then(|| format!("{name}: {verdict:?} instead of {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(TABLE.len(), std::fs::read_dir(&folder).expect("folder").count());
}

#[test]
fn every_torture_request_that_names_its_transaction_can_be_answered() {
    let Some(folder) = folder() else { return };
    for (name, verdict) in TABLE.iter().filter(|(_, verdict)| *verdict != Verdict::Drop) {
        let bytes = std::fs::read(folder.join(format!("{name}.dat"))).expect("vector");
        let message = SipMessage::from_datagram(bytes.into(), &MessageLimits::default()).expect("a message");
        if !message.is_request() {
            continue;
        }
        let answer = Builder::response(&message, 400, "Bad Request", None, Some("ours")).finish();
        // Those that lack To, From and Call-ID, or CSeq, have nothing to be answered with.
        assert_eq!(answer.is_ok(), !matches!(*name, "insuf" | "test"), "{name} {verdict:?}");
        let Ok(answer) = answer else { continue };
        let answer = SipMessage::from_datagram(answer, &MessageLimits::default()).expect("an answer");
        assert_eq!(answer.list(Name::Via).count(), message.list(Name::Via).count(), "{name}");
        let value = |message: &SipMessage, name| unfold(message.header(name).unwrap_or(""));
        for field in [Name::From, Name::CallId, Name::CSeq] {
            assert_eq!(value(&answer, field), value(&message, field), "{name}");
        }
        assert_eq!(value(&answer, Name::To).to_ascii_lowercase().matches("tag").count(), 1, "{name}");
    }
}

#[test]
fn bodies_and_escapes_come_through_as_they_are() {
    let Some(folder) = folder() else { return };
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(format!("{name}.dat"))).expect("vector");
        SipMessage::from_datagram(bytes.into(), &MessageLimits::default()).expect("a message")
    };
    let multipart = read("mpart01");
    assert_eq!(Some(multipart.body().len()), multipart.content_length().expect("a number"));
    let double = read("dblreq");
    assert_eq!(double.body().len(), 0);
    assert!(double.bytes().len() > double.body_end());
    for (file, expected) in [
        ("escnull", "sip:%00@host5.example.com"),
        ("cparam01", "sip:+19725552222@gw1.example.net"),
        ("cparam02", "sip:+19725552222@gw1.example.net;unknownparam"),
        ("regescrt", "sip:user@example.com?Route=%3Csip:sip.example.com%3E"),
    ] {
        let request = RegisterRequest::parse(&read(file)).expect("a registration");
        let mut bindings = Bindings::default();
        bindings.apply(0, &request, Registrant::Device, &RegistrarLimits::default()).expect("accepted");
        assert_eq!(bindings.bindings[0].contact_uri, expected, "{file}");
        assert_eq!(bindings.bindings[0].contact_parameters == ";unknownparam", file == "cparam01", "{file}");
    }
    let unknown_user = RegisterRequest::parse(&read("unksm2")).expect_err("nobody of ours");
    assert_eq!(unknown_user.status(), 404);
    let semicolons = Uri::parse(read("semiuri").request_uri().expect("a request")).expect("a URI");
    assert_eq!(semicolons.as_sip().and_then(|uri| uri.user.as_deref()), Some("user;par=u%40example.net"));
    assert_eq!(semicolons.parameter("par"), None);
}
