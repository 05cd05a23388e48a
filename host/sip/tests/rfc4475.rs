//! The torture messages of RFC 4475, as far as grammar decides them.

use std::path::Path;

use bytes::Bytes;
use restante_sip::message::{MalformedRequest, MessageLimits, SipMessage, validate_request, validate_response};
use restante_sip::uri::Uri;

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
    ("test", Verdict::Drop),
];

#[test]
fn every_torture_message_gets_its_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/rfc4475");
    if !folder.is_dir() {
        println!("SKIPPED rfc4475-vectors: {} is not there", folder.display());
        return;
    }
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
