//! Streams into frames: any segmentation, any bytes, every limit.

use bytes::Bytes;
use proptest::prelude::*;
use restante_msrp::framing::{
    ContinuationFlag, FailureReport, Frame, Framer, FramingError, FramingLimits, HeadError, Header, Method, Peek,
    ReportStatus, RequestHead, Response, TransactionId, end_line, peek_to_path,
};
use restante_msrp::status::Status;

const ALICE: &str = "msrp://alicepc.example.com:7777/iau39soe2843z;tcp";
const BOB: &str = "msrp://bob.example.com:8888/9di4eae923wzd;tcp";

/// Frames of a stream pushed in pieces of `piece` bytes, neighbouring content joined.
fn frames_in_pieces(stream: &[u8], piece: usize, limits: &FramingLimits) -> Result<Vec<Frame>, FramingError> {
    frames_of(stream.chunks(piece.max(1)), limits)
}

fn frames_of<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &FramingLimits,
) -> Result<Vec<Frame>, FramingError> {
    let mut framer = Framer::new(limits.clone());
    let mut frames: Vec<Frame> = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = framer.next_frame()? {
            match (frames.last_mut(), frame) {
                (Some(Frame::Content(before)), Frame::Content(after)) => {
                    assert!(!after.is_empty());
                    *before = Bytes::from([before.as_ref(), after.as_ref()].concat());
                }
                (_, frame) => frames.push(frame),
            }
        }
    }
    Ok(frames)
}

fn frames(stream: &str) -> Result<Vec<Frame>, FramingError> {
    frames_in_pieces(stream.as_bytes(), usize::MAX, &FramingLimits::default())
}

fn head(frame: &Frame) -> &RequestHead {
    match frame {
        Frame::Request(head) => head,
        other => panic!("{other:?}"),
    }
}

fn content(text: &str) -> Frame {
    Frame::Content(Bytes::copy_from_slice(text.as_bytes()))
}

fn send(body_and_end: &str) -> String {
    format!(
        "MSRP d93kswow SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 12339sdqwer\r\n\
         Byte-Range: 1-16/16\r\nContent-Type: text/plain\r\n\r\n{body_and_end}"
    )
}

/// Every kind of request, response and end, one after the other.
fn conversation() -> String {
    let first = send("Hi, I'm Alice!\r\n\r\n-------d93kswow$\r\n");
    let answer = format!("MSRP d93kswow 200 OK\r\nTo-Path: {ALICE}\r\nFrom-Path: {BOB}\r\n-------d93kswow$\r\n");
    let interrupted = format!(
        "MSRP dkei38sd SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 4564dpWd\r\n\
         Byte-Range: 1-*/8\r\nContent-Type: text/plain\r\n\r\nabcd\r\n-------dkei38sd+\r\n\
         MSRP dkei38ia SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 4564dpWd\r\n\
         Byte-Range: 5-8/8\r\nContent-Disposition: inline\r\nContent-Type: text/plain\r\n\r\nEFGH\r\n-------dkei38ia$\r\n"
    );
    let report = format!(
        "MSRP dkei38sd REPORT\r\nTo-Path: {ALICE}\r\nFrom-Path: {BOB}\r\nMessage-ID: 12339sdqwer\r\n\
         Byte-Range: 1-106/106\r\nStatus: 000 200 OK\r\n-------dkei38sd$\r\n"
    );
    let abort = format!(
        "MSRP a786hjs2 SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 87652491\r\n\
         Byte-Range: 1-*/*\r\nContent-Type: text/plain\r\n\r\nHi\r\n-------a786hjs2#\r\n"
    );
    [first, answer, interrupted, report, abort].concat()
}

#[test]
fn a_stream_split_at_every_byte_gives_the_same() {
    let stream = conversation();
    let whole = frames(&stream).unwrap();
    assert_eq!(whole.len(), 15);
    let disposition = Header { name: "Content-Disposition".into(), value: "inline".into() };
    assert_eq!(head(&whole[7]).other_headers, [disposition]);
    assert_eq!(whole[14], Frame::End(ContinuationFlag::Abort));
    for at in 0..stream.len() {
        let (before, after) = stream.as_bytes().split_at(at);
        assert_eq!(frames_of([before, after], &FramingLimits::default()).unwrap(), whole, "split at {at}");
    }
    for piece in 1..60 {
        let split = frames_in_pieces(stream.as_bytes(), piece, &FramingLimits::default());
        assert_eq!(split.unwrap(), whole, "in pieces of {piece}");
    }
}

#[test]
fn only_the_whole_end_line_ends_the_content() {
    for inside in [
        "-------d93kswow$",
        "\r\n-------d93kswow",
        "\r\n-------d93kswow\r\n",
        "\r\n-------d93kswow*\r\n",
        "\r\n-------d93kswow$x",
        "\r\n-------d93kswow$\r-------d93kswow$",
        "\r\n-------d93kswowx$\r\n",
        "\r\n------d93kswow$\r\n",
        "\n-------d93kswow$\r\n",
        "\r\r\n\r\n-------other$\r\n",
        "\r\n-------\r\n-------d93ksw",
    ] {
        let stream = send(&format!("before{inside}after\r\n-------d93kswow+\r\n"));
        for piece in [1, 2, 3, 7, 20, usize::MAX] {
            let frames = frames_in_pieces(stream.as_bytes(), piece, &FramingLimits::default()).unwrap();
            let expected = [content(&format!("before{inside}after")), Frame::End(ContinuationFlag::More)];
            assert_eq!(frames[1..], expected, "{inside:?} in pieces of {piece}");
        }
    }
}

#[test]
fn content_may_be_empty_in_three_ways() {
    let bare = format!("MSRP abcd SEND\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\nMessage-ID: 1\r\n-------abcd$\r\n");
    let no_line = bare.replace("1\r\n----", "1\r\n\r\n----");
    let own_line = bare.replace("1\r\n----", "1\r\n\r\n\r\n----");
    for stream in [bare, no_line, own_line] {
        for piece in [1, 3, usize::MAX] {
            let frames = frames_in_pieces(stream.as_bytes(), piece, &FramingLimits::default()).unwrap();
            assert_eq!(frames.len(), 2, "{stream}");
            assert_eq!(frames[1], Frame::End(ContinuationFlag::Complete));
        }
    }
}

#[test]
fn empty_lines_between_requests_keep_the_connection_alive() {
    let stream = format!("\r\n\r\n{}\r\n{}\r\n", send("a\r\n-------d93kswow$\r\n"), send("b\r\n-------d93kswow$\r\n"));
    assert_eq!(frames(&stream).unwrap().len(), 6);
}

#[test]
fn lenient_where_clients_are() {
    let stream = format!(
        "MSRP a_b SEND\r\nto-path:{BOB}\r\nFROM-PATH:   {ALICE}  \r\nmessage-id:{}\r\nfailure-report: Partial\r\n\
         -------a_b$\r\n",
        "6fa459ea-ee8a-3ca4-894e-db77e160355e"
    );
    let frames = frames(&stream).unwrap();
    assert_eq!(head(&frames[0]).failure_report, FailureReport::Partial);
    assert_eq!(head(&frames[0]).message_id.as_deref(), Some("6fa459ea-ee8a-3ca4-894e-db77e160355e"));
}

#[test]
fn a_wrong_head_is_refused_and_its_content_skipped() {
    let line = |line: &str| send("x\r\n-------d93kswow$\r\n").replacen("Byte-Range: 1-16/16", line, 1);
    let without = |name: &str| {
        send("x\r\n-------d93kswow$\r\n")
            .lines()
            .filter(|line| !line.starts_with(name))
            .collect::<Vec<_>>()
            .join("\r\n")
            + "\r\n"
    };
    let cases = [
        (line("Byte-Range: 1-2"), 400),
        (line("Byte-Range: a-2/3"), 400),
        (line("Byte-Range: 0-2/3"), 423),
        (line("Byte-Range: 3-1/3"), 423),
        (line("Byte-Range: 1-4/3"), 423),
        (line("Byte-Range: 99999999999999999999-*/*"), 423),
        (line("Success-Report: perhaps"), 400),
        (line("Failure-Report: perhaps"), 400),
        (line("Status: 0 200"), 400),
        (line("Message-ID: other"), 400),
        (line("no header"), 400),
        (line("na me: x"), 400),
        (line(&format!("To-Path: {BOB}")), 400),
        (without("To-Path"), 400),
        (without("From-Path"), 400),
        (send("x\r\n-------d93kswow$\r\n").replacen(BOB, "http://bob", 1), 400),
    ];
    for (stream, status) in cases {
        let stream = stream + &send("next\r\n-------d93kswow$\r\n");
        let frames = frames(&stream).unwrap();
        let Frame::BadRequest(bad) = &frames[0] else { panic!("{stream}") };
        assert_eq!(bad.error.status().code(), status, "{stream}");
        assert_eq!(frames[2..], [content("next"), Frame::End(ContinuationFlag::Complete)], "{stream}");
    }
}

#[test]
fn a_bad_request_says_what_can_be_answered() {
    let stream = send("x\r\n-------d93kswow$\r\n").replacen("From-Path", "Form-Path", 1);
    let Frame::BadRequest(bad) = frames(&stream).unwrap().remove(0) else { panic!() };
    assert_eq!(bad.error, HeadError::Missing("From-Path"));
    assert_eq!(bad.from_path, None);
    assert_eq!(bad.to_path.unwrap().to_string(), BOB);
}

#[test]
fn what_cannot_be_followed_ends_the_stream() {
    let response = format!("MSRP abcd 200 OK\r\nTo-Path: {BOB}\r\nFrom-Path: {ALICE}\r\n");
    for (stream, error) in [
        ("GET / HTTP/1.1\r\n".to_owned(), FramingError::StartLine),
        ("MSRP abcd send\r\n".to_owned(), FramingError::StartLine),
        ("MSRP ab/d SEND\r\n".to_owned(), FramingError::StartLine),
        ("MSRP abcd 099\r\n".to_owned(), FramingError::StartLine),
        ("MSRP abcd SEND\n".to_owned(), FramingError::Line),
        ("MSRP abcd SEND\r\nTo-Path: a\0b\r\n".to_owned(), FramingError::Line),
        ("MSRP abcd SEND\r\n-------abce$\r\n".to_owned(), FramingError::EndLine),
        ("MSRP abcd SEND\r\n-------abcd!\r\n".to_owned(), FramingError::EndLine),
        (format!("{response}\r\n"), FramingError::Response),
        ("MSRP abcd 200 OK\r\n-------abcd$\r\n".to_owned(), FramingError::Response),
    ] {
        assert_eq!(frames(&stream), Err(error), "{stream}");
    }
}

#[test]
fn every_limit_holds() {
    let limits = FramingLimits { max_line_bytes: 200, max_headers: 8, max_head_bytes: 400, max_chunk_bytes: 10 };
    let run = |stream: &str| frames_in_pieces(stream.as_bytes(), 50, &limits).map(|frames| frames.len());
    let long = "x".repeat(300);
    assert_eq!(run(&send("0123456789\r\n-------d93kswow$\r\n")), Ok(3));
    assert_eq!(run(&send("01234567890\r\n-------d93kswow$\r\n")), Err(FramingError::ChunkTooLarge));
    assert_eq!(run(&format!("MSRP abcd SEND\r\nX: {long}")), Err(FramingError::LineTooLong));
    assert_eq!(run(&format!("MSRP abcd SEND\r\nX: {long}\r\n")), Err(FramingError::LineTooLong));
    assert_eq!(run(&format!("MSRP abcd SEND\r\n{}", "X: y\r\n".repeat(9))), Err(FramingError::TooManyHeaders));
    let large = format!("MSRP abcd SEND\r\n{}", format!("X: {}\r\n", "x".repeat(100)).repeat(4));
    assert_eq!(run(&large), Err(FramingError::HeadTooLarge));
}

#[test]
fn a_huge_chunk_is_never_held() {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(Bytes::from(send("")));
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Request(_)))));
    // The worst content: it looks like an end-line all the time.
    let piece = Bytes::from("\r\n-------d93kswow\r\n-------d93ksw".repeat(100));
    let mut given = 0;
    for _ in 0..1000 {
        framer.push(piece.clone());
        while let Some(frame) = framer.next_frame().unwrap() {
            let Frame::Content(bytes) = frame else { panic!("{frame:?}") };
            given += bytes.len();
        }
        assert!(framer.held_bytes() <= 64);
    }
    assert!(given + 64 >= 1000 * piece.len());
}

#[test]
fn a_failed_stream_stays_failed() {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(Bytes::from_static(b"nonsense\r\n"));
    assert_eq!(framer.next_frame(), Err(FramingError::StartLine));
    framer.push(Bytes::from(send("x\r\n-------d93kswow$\r\n")));
    assert_eq!(framer.next_frame(), Err(FramingError::StartLine));
}

#[test]
fn the_first_bytes_name_the_session() {
    let limits = FramingLimits::default();
    let stream = format!("\r\n{}", send("x\r\n-------d93kswow$\r\n"));
    let needed = stream.find("Message-ID").unwrap();
    for length in 0..stream.len() {
        let peek = peek_to_path(&stream.as_bytes()[..length], &limits);
        match peek {
            Peek::NeedMore => assert!(length < needed, "{length}"),
            Peek::Found(request) => {
                assert!(length >= needed, "{length}");
                assert_eq!(request.session_id(), Some("9di4eae923wzd"));
                assert_eq!(request.from_path.to_string(), ALICE);
            }
            Peek::Invalid => panic!("{length}"),
        }
    }
    let small = FramingLimits { max_line_bytes: 30, ..limits.clone() };
    for invalid in
        ["GET / HTTP", "MSRX", "MSRP a 200 OK\r\n", "MSRP abcd SEND\r\n\r\n", "MSRP abcd SEND\r\nTo-Path: x\r\n"]
    {
        assert_eq!(peek_to_path(invalid.as_bytes(), &limits), Peek::Invalid, "{invalid}");
    }
    assert_eq!(peek_to_path(stream.as_bytes(), &small), Peek::Invalid);
    assert_eq!(peek_to_path(&[b'M'; 40], &small), Peek::Invalid);
}

#[test]
fn an_acceptor_refuses_by_what_it_peeked() {
    let stream = send("");
    let Peek::Found(request) = peek_to_path(stream.as_bytes(), &FramingLimits::default()) else { panic!() };
    let refusal = request.refusal(Status::BOUND_TO_ANOTHER_CONNECTION).unwrap();
    let expected = format!(
        "MSRP d93kswow 506 Bound To Another Connection\r\nTo-Path: {ALICE}\r\nFrom-Path: {BOB}\r\n-------d93kswow$\r\n"
    );
    assert_eq!(refusal, expected.as_bytes());
    let report = stream.replacen("SEND", "REPORT", 1);
    let Peek::Found(request) = peek_to_path(report.as_bytes(), &FramingLimits::default()) else { panic!() };
    assert_eq!(request.refusal(Status::NO_SUCH_SESSION), None);
}

fn uri() -> impl Strategy<Value = String> {
    let host = prop_oneof!["[a-z]{1,8}\\.example", Just("192.0.2.7".to_owned()), Just("[2001:db8::1]".to_owned())];
    (
        any::<bool>(),
        "([a-z]{1,4}@)?",
        host,
        "(:[1-9][0-9]{0,3})?",
        "(/[A-Za-z0-9+=._/-]{1,20})?",
        "(;[a-z]{1,4}(=[a-z]{1,3})?)?",
    )
        .prop_map(|(secure, user, host, port, session, parameter)| {
            format!("msrp{}://{user}{host}{port}{session};tcp{parameter}", if secure { "s" } else { "" })
        })
}

fn path() -> impl Strategy<Value = restante_msrp::uri::MsrpPath> {
    prop::collection::vec(uri(), 1..4).prop_map(|uris| uris.join(" ").parse().unwrap())
}

fn byte_range() -> impl Strategy<Value = restante_msrp::byte_range::ByteRange> {
    (1..1000u64, prop::option::of(0..1000u64), prop::option::of(0..1000u64)).prop_map(|(start, length, rest)| {
        let end = length.map(|length| start - 1 + length);
        let total = rest.map(|rest| end.unwrap_or(start) + rest);
        restante_msrp::byte_range::ByteRange { start, end, total }
    })
}

prop_compose! {
    fn any_head()(
        id in "[A-Za-z0-9][A-Za-z0-9.+%=-]{3,31}",
        method in prop_oneof![Just(Method::Send), Just(Method::Report), "[A-Z]{4,6}".prop_filter_map("known", |name| {
            (name != "SEND" && name != "REPORT").then_some(Method::Other(name))
        })],
        paths in (path(), path()),
        message_id in prop::option::of("[A-Za-z0-9.=%+-]{4,40}"),
        byte_range in prop::option::of(byte_range()),
        reports in (any::<bool>(), prop_oneof![Just(FailureReport::Yes), Just(FailureReport::Partial), Just(FailureReport::No)]),
        status in prop::option::of((0..1000u16, 100..1000u16)),
        content_type in prop::option::of("[a-z]{1,8}/[a-z]{1,8}(;[a-z]=[a-z])?"),
        others in prop::collection::vec(("X-[A-Za-z]{1,8}", "[!-~]([ -~]{0,20}[!-~])?"), 0..4),
    ) -> RequestHead {
        RequestHead {
            transaction_id: TransactionId::new(&id).unwrap(),
            method,
            to_path: paths.0,
            from_path: paths.1,
            message_id,
            byte_range,
            success_report: reports.0,
            failure_report: reports.1,
            status: status.map(|(namespace, status)| ReportStatus { namespace, status: Status::new(status).unwrap() }),
            content_type,
            other_headers: others.into_iter().map(|(name, value)| Header { name, value }).collect(),
        }
    }
}

/// Bytes that look like the wire often enough to get far.
fn wire_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"MSRP abcd SEND\r\n".to_vec()),
        Just(b"MSRP abcd 200 OK\r\n".to_vec()),
        Just(b"MSRP abcd REPORT\r\n".to_vec()),
        Just(format!("To-Path: {BOB}\r\n").into_bytes()),
        Just(format!("From-Path: {ALICE}\r\n").into_bytes()),
        Just(b"Message-ID: m1\r\n".to_vec()),
        Just(b"Byte-Range: 1-*/18446744073709551615\r\n".to_vec()),
        Just(b"Content-Type: a/b\r\n\r\n".to_vec()),
        Just(b"\r\n-------abcd+\r\n".to_vec()),
        Just(b"-------abcd$\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_written_request_reads_the_same(head in any_head(), body in prop::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
        let mut stream = head.to_wire().into_bytes();
        let has_content = head.content_type.is_some();
        if has_content {
            stream.extend_from_slice(&body);
            stream.extend_from_slice(b"\r\n");
        }
        stream.extend_from_slice(end_line(&head.transaction_id, ContinuationFlag::More).as_bytes());
        let frames = frames_in_pieces(&stream, piece, &FramingLimits::default()).unwrap();
        let mut expected = vec![Frame::Request(Box::new(head))];
        if has_content && !body.is_empty() {
            expected.push(Frame::Content(Bytes::from(body)));
        }
        expected.push(Frame::End(ContinuationFlag::More));
        prop_assert_eq!(frames, expected);
    }

    #[test]
    fn a_written_response_reads_the_same(
        id in "[A-Za-z0-9]{4,32}", status in 100..1000u16, comment in "([!-~][ -~]{0,10}[!-~])?", paths in (path(), path()),
    ) {
        let transaction_id = TransactionId::new(&id).unwrap();
        let status = Status::new(status).unwrap();
        let other_headers = Vec::new();
        let response = Response { transaction_id, status, comment, to_path: paths.0, from_path: paths.1, other_headers };
        let frames = frames_in_pieces(&response.to_wire(), 9, &FramingLimits::default()).unwrap();
        prop_assert_eq!(frames, vec![Frame::Response(Box::new(response))]);
    }

    #[test]
    fn no_bytes_panic_and_segmentation_never_matters(bytes in wire_like(), piece in 1..40usize) {
        let whole = frames_in_pieces(&bytes, usize::MAX, &FramingLimits::default());
        let split = frames_in_pieces(&bytes, piece, &FramingLimits::default());
        prop_assert_eq!(whole, split);
        let _ = peek_to_path(&bytes, &FramingLimits::default());
    }
}
