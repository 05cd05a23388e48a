//! URIs, byte ranges, reassembly, statuses.

use proptest::prelude::*;
use restante_msrp::byte_range::{ByteRange, ByteRangeError};
use restante_msrp::reassembly::{Reassembly, ReassemblyError, ReceivedRanges};
use restante_msrp::status::Status;
use restante_msrp::uri::{Host, MAX_PATH_URIS, MsrpPath, MsrpUri, UriError};

fn uri(text: &str) -> MsrpUri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn uris_are_written_as_they_were_read() {
    for text in [
        "msrp://atlanta.example.com:7654/jshA7weztas;tcp",
        "msrps://alice@[2001:db8::7]:9000/a.b+c=d/e;tcp;x=y;z",
        "msrp://192.0.2.1/%41;tcp",
        "msrp://relay.example;tcp",
    ] {
        assert_eq!(uri(text).to_string(), text);
    }
}

#[test]
fn equivalence_is_that_of_the_rfc() {
    let base = "msrp://host.example.com:8493/asfd34;tcp";
    for (other, same) in [
        ("MSRP://host.example.com:8493/asfd34;tcp", true),
        ("msrp://HOST.example.com:8493/asfd34;TCP", true),
        ("msrp://user@host.example.com:8493/asfd34;tcp", true),
        ("msrp://host.example.com:8493/asfd34;tcp;parameter=1", true),
        ("msrps://host.example.com:8493/asfd34;tcp", false),
        ("msrp://other.example.com:8493/asfd34;tcp", false),
        ("msrp://host.example.com:8494/asfd34;tcp", false),
        ("msrp://host.example.com/asfd34;tcp", false),
        ("msrp://host.example.com:8493/ASFD34;tcp", false),
        ("msrp://host.example.com:8493;tcp", false),
        ("msrp://host.example.com:8493/asfd34;sctp", false),
    ] {
        assert_eq!(uri(base).same_as(&uri(other)), same, "{other}");
    }
    assert!(uri("msrp://[2001:DB8::1]:1/a;tcp").same_as(&uri("msrp://[2001:db8:0::1]:1/a;tcp")));
}

#[test]
fn what_is_no_uri_says_why() {
    for (text, error) in [
        ("", UriError::Scheme),
        ("msrp:host/a;tcp", UriError::Scheme),
        ("sip://host/a;tcp", UriError::Scheme),
        ("msrp://host/a", UriError::Transport),
        ("msrp://host/a;", UriError::Transport),
        ("msrp://host/a;t=p", UriError::Transport),
        ("msrp://host/;tcp", UriError::SessionId),
        ("msrp://host/a b;tcp", UriError::SessionId),
        ("msrp:///a;tcp", UriError::Host),
        ("msrp://ho st/a;tcp", UriError::Host),
        ("msrp://[::g]/a;tcp", UriError::Host),
        ("msrp://::1/a;tcp", UriError::Host),
        ("msrp://host:/a;tcp", UriError::Port),
        ("msrp://host:+1/a;tcp", UriError::Port),
        ("msrp://host:65536/a;tcp", UriError::Port),
        ("msrp://host/a;tcp;", UriError::Parameter),
        ("msrp://host/a;tcp;x=", UriError::Parameter),
    ] {
        assert_eq!(text.parse::<MsrpUri>(), Err(error), "{text}");
    }
}

#[test]
fn an_address_to_connect_to() {
    assert_eq!(uri("msrp://[::1]/a;tcp").socket_address(), Some("[::1]:2855".parse().unwrap()));
    assert_eq!(uri("msrp://192.0.2.1:99/a;tcp").socket_address(), Some("192.0.2.1:99".parse().unwrap()));
    assert_eq!(uri("msrp://host/a;tcp").socket_address(), None);
    assert_eq!(MsrpUri::new(false, Host::Name("h".into()), 1, "a".into()).to_string(), "msrp://h:1/a;tcp");
}

#[test]
fn a_path_is_several_uris() {
    let text = "msrps://relay.example:1/x;tcp msrp://host.example:2/y;tcp";
    let path: MsrpPath = text.parse().unwrap();
    assert_eq!(path.to_string(), text);
    assert_eq!(path.first().session_id.as_deref(), Some("x"));
    assert_eq!(path.last().session_id.as_deref(), Some("y"));
    assert!(path.has_relays());
    assert_eq!("  ".parse::<MsrpPath>(), Err(UriError::PathLength));
    let most = vec!["msrp://h/a;tcp"; MAX_PATH_URIS];
    assert!(most.join(" ").parse::<MsrpPath>().is_ok());
    assert_eq!([most, vec!["msrp://h/a;tcp"]].concat().join(" ").parse::<MsrpPath>(), Err(UriError::PathLength));
}

#[test]
fn byte_ranges() {
    for text in ["1-16/16", "1-*/16", "1-*/*", "5-8/*", "1-0/0", "17-16/16"] {
        assert_eq!(text.parse::<ByteRange>().unwrap().to_string(), text);
    }
    for text in ["", "1", "1-2", "1/2", "*-1/2", "1-+2/3", "-1-2/3", "1--/3", "1-2/3/4"] {
        assert_eq!(text.parse::<ByteRange>(), Err(ByteRangeError::Malformed), "{text}");
    }
    for text in ["0-1/2", "3-1/5", "1-5/4", "6-*/4", "18446744073709551616-*/*"] {
        assert_eq!(text.parse::<ByteRange>(), Err(ByteRangeError::OutOfBounds), "{text}");
    }
    assert_eq!("7-*/*".parse::<ByteRange>().unwrap().offset(), 6);
}

#[test]
fn statuses_name_themselves() {
    for code in [200, 400, 403, 408, 413, 415, 423, 481, 501, 506] {
        assert!(!Status::new(code).unwrap().comment().is_empty());
    }
    assert!(Status::new(99).is_none() && Status::new(1000).is_none());
    let ending: Vec<_> = (100..1000).filter(|&code| Status::new(code).unwrap().ends_session()).collect();
    assert_eq!(ending, [408, 481, 506]);
}

#[test]
fn totals_that_contradict_are_refused() {
    let mut reassembly = Reassembly::new(100, 4);
    reassembly.insert(10, 20).unwrap();
    assert_eq!(reassembly.note_total(19), Err(ReassemblyError::TotalMismatch));
    assert_eq!(reassembly.note_total(101), Err(ReassemblyError::TooLarge));
    reassembly.note_total(20).unwrap();
    assert_eq!(reassembly.note_total(21), Err(ReassemblyError::TotalMismatch));
    assert_eq!(reassembly.check_end(21), Err(ReassemblyError::BeyondTotal));
    assert!(!reassembly.is_complete());
    reassembly.insert(0, 12).unwrap();
    assert!(reassembly.is_complete());
    assert_eq!(Reassembly::new(100, 4).check_end(101), Err(ReassemblyError::TooLarge));
    let statuses = [
        (ReassemblyError::TotalMismatch, 400),
        (ReassemblyError::BeyondTotal, 423),
        (ReassemblyError::TooLarge, 413),
        (ReassemblyError::TooManyRanges, 413),
    ];
    for (error, status) in statuses {
        assert_eq!(error.status().code(), status);
    }
}

#[test]
fn the_number_of_pieces_is_bounded() {
    let mut ranges = ReceivedRanges::default();
    for piece in 0..4 {
        ranges.insert(piece * 10, piece * 10 + 1, 4).unwrap();
    }
    assert_eq!(ranges.insert(90, 91, 4), Err(ReassemblyError::TooManyRanges));
    // One that joins others is always taken.
    ranges.insert(1, 10, 4).unwrap();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges.contiguous_bytes(), 11);
}

proptest! {
    #[test]
    fn ranges_are_what_a_set_of_bytes_is(
        inserts in prop::collection::vec((0..60u64, 0..20u64), 0..30),
        seen in (0..60u64, 0..40u64),
    ) {
        let mut ranges = ReceivedRanges::default();
        let mut bytes = [false; 100];
        for (start, length) in inserts {
            ranges.insert(start, start + length, usize::MAX).unwrap();
            (start..start + length).for_each(|byte| bytes[byte as usize] = true);
        }
        let runs = (0..100).filter(|&byte| bytes[byte] && (byte == 0 || !bytes[byte - 1])).count();
        let contiguous = bytes.iter().take_while(|&&byte| byte).count();
        prop_assert_eq!(ranges.len(), runs);
        prop_assert_eq!(ranges.contiguous_bytes(), contiguous as u64);
        prop_assert_eq!(ranges.end(), bytes.iter().rposition(|&byte| byte).map_or(0, |last| last as u64 + 1));
        for total in 0..100 {
            prop_assert_eq!(ranges.covers(total as u64), contiguous >= total);
        }
        for (start, end) in [(0, 100), (seen.0, seen.0 + seen.1), (30, 30), (40, 20)] {
            let missing = (start..end).filter(|&byte| !bytes[byte as usize]).count();
            prop_assert_eq!(ranges.missing(start, end), missing as u64);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", other in "msrps?://[\\PC]{0,30}[:;/@\\[\\]]{0,6}") {
        for text in [&text, &other] {
            if let Ok(uri) = text.parse::<MsrpUri>() {
                prop_assert_eq!(uri.to_string().parse::<MsrpUri>().unwrap(), uri);
            }
            let _ = text.parse::<MsrpPath>();
            let _ = text.parse::<ByteRange>();
        }
    }
}
