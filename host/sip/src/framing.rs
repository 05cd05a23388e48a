//! Messages out of a byte stream (RFC 3261 §18.3, RFC 5626 §3.5.1).

use bytes::{Buf, BytesMut};
use thiserror::Error;

use crate::message::{Defect, MessageLimits, ParseError, Parts, SipMessage, find_parts};

/// Why a stream cannot go on: where the next message begins is not known any more. The connection is closed, after what
/// came before was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The bytes are no message, or one over the limits.
    #[error("not SIP: {0}")]
    Message(#[from] ParseError),
    /// Content-Length is missing, malformed or given twice.
    #[error("a message on a stream needs one Content-Length")]
    ContentLength,
}

/// Something complete.
#[derive(Debug)]
pub enum Frame {
    /// A message. The last one of a stream that cannot go on has a [`Defect`] and no body: it can still be answered.
    Message(SipMessage),
    /// A double CRLF: answer with one CRLF.
    Ping,
}

/// Collects bytes until something is complete; holds at most one message's worth of the limits and what one
/// [`StreamFramer::push`] brought.
#[derive(Debug)]
pub struct StreamFramer {
    buffer: BytesMut,
    limits: MessageLimits,
    /// Already searched for the end of the header part.
    searched: usize,
    /// The message in the buffer and its length, once its header part is complete.
    expected: Option<(Parts, usize)>,
    failed: Option<FramingError>,
}

impl StreamFramer {
    /// An empty one.
    #[must_use]
    pub fn new(limits: MessageLimits) -> StreamFramer {
        StreamFramer { buffer: BytesMut::new(), limits, searched: 0, expected: None, failed: None }
    }

    /// Takes bytes in. Call [`StreamFramer::next`] until it gives nothing before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether part of a message waits for the rest. Half a keep-alive is none.
    #[must_use]
    pub fn is_amid_message(&self) -> bool {
        self.expected.is_some() || self.buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// The next complete thing.
    ///
    /// # Errors
    /// [`FramingError`]: nothing more can be read; every further call says the same.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.expected.is_none() {
            match self.skip_empty_lines() {
                Between::Ping => return Ok(Some(Frame::Ping)),
                Between::Nothing => return Ok(None),
                Between::Message => {}
            }
            if let Some(last) = self.find_end()? {
                return Ok(Some(Frame::Message(last)));
            }
        }
        if self.expected.as_ref().is_none_or(|(_, length)| self.buffer.len() < *length) {
            return Ok(None);
        }
        let Some((parts, length)) = self.expected.take() else { return Ok(None) };
        self.searched = 0;
        Ok(Some(Frame::Message(SipMessage::from_parts(parts, self.buffer.split_to(length).freeze()))))
    }

    /// Empty lines may stand between messages (RFC 3261 §7.5); two in a row are a ping (RFC 5626 §3.5.1).
    fn skip_empty_lines(&mut self) -> Between {
        const PING: &[u8] = b"\r\n\r\n";
        loop {
            if self.buffer.starts_with(PING) {
                self.buffer.advance(PING.len());
                return Between::Ping;
            }
            if PING.starts_with(&self.buffer) {
                return Between::Nothing;
            }
            match self.buffer.as_ref() {
                [b'\r', b'\n', ..] => self.buffer.advance(2),
                [b'\r' | b'\n', ..] => self.buffer.advance(1),
                _ => return Between::Message,
            }
        }
    }

    /// Looks for the end of the message that begins here. Gives the message that ends the stream, if it does.
    fn find_end(&mut self) -> Result<Option<SipMessage>, FramingError> {
        let from = self.searched.saturating_sub(3);
        let rest = self.buffer.get(from..).unwrap_or_default();
        let Some(end) = header_end(rest).map(|end| from.saturating_add(end)) else {
            self.searched = self.buffer.len();
            if self.buffer.len() <= self.limits.max_header_bytes {
                return Ok(None);
            }
            return self.fail(self.buffer.len(), ParseError::TooLarge.into(), Defect::HeaderTooLarge).map(Some);
        };
        let head = self.buffer.get(..end).unwrap_or_default();
        let parts = match find_parts(head, &self.limits) {
            Ok(parts) => parts,
            Err(error) => return Err(*self.failed.insert(error.into())),
        };
        if parts.is_header_too_large() {
            return self.fail(end, ParseError::TooLarge.into(), Defect::HeaderTooLarge).map(Some);
        }
        let Some(length) = parts.only_content_length(head) else {
            return self.fail(end, FramingError::ContentLength, Defect::Undelimited).map(Some);
        };
        if length > self.limits.max_body_bytes {
            return self.fail(end, ParseError::TooLarge.into(), Defect::BodyTooLarge).map(Some);
        }
        self.expected = Some((parts, end.saturating_add(length)));
        Ok(None)
    }

    /// Ends the stream with what can be read of its last message.
    fn fail(&mut self, length: usize, error: FramingError, defect: Defect) -> Result<SipMessage, FramingError> {
        self.failed = Some(error);
        let bytes = self.buffer.split_to(length.min(self.buffer.len())).freeze();
        self.buffer.clear();
        let mut message = SipMessage::parse(bytes, &self.limits)?;
        message.set_defect(defect);
        Ok(message)
    }
}

/// What stands where a message may begin.
enum Between {
    Ping,
    Nothing,
    Message,
}

/// Behind the first empty line.
fn header_end(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(offset) = data.get(at..)?.iter().position(|byte| *byte == b'\n') {
        let next = at + offset + 1;
        match data.get(next..)? {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Method, validate_request};

    const LIMITS: MessageLimits = MessageLimits { max_header_bytes: 400, max_header_fields: 10, max_body_bytes: 100 };

    /// What comes out of the pieces, and the error at the end.
    fn frames(pieces: &[&[u8]]) -> (Vec<String>, Option<FramingError>) {
        let mut framer = StreamFramer::new(LIMITS);
        let mut out = Vec::new();
        for piece in pieces {
            framer.push(piece);
            assert!(framer.buffer.len() <= 500 + piece.len(), "bounded memory");
            loop {
                match framer.next() {
                    Ok(None) => break,
                    Ok(Some(Frame::Ping)) => out.push("ping".to_owned()),
                    Ok(Some(Frame::Message(message))) => {
                        let body = String::from_utf8_lossy(&message.body()).into_owned();
                        let start = message.request_uri().unwrap_or("answer");
                        out.push(format!("{start} {body:?} {:?}", message.defect()));
                    }
                    Err(error) => return (out, Some(error)),
                }
            }
        }
        (out, None)
    }

    const STREAM: &[u8] =
        b"\r\n\r\nMESSAGE sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc\r\nSIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n\
        \r\n\n\r\n\r\nOPTIONS sip:a SIP/2.0\nContent-Length: 4\n\n\r\n\r\n\r\nBYE sip:b SIP/2.0\r\n\r\nnever read";

    fn pieces(stream: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
        cuts.iter_mut().for_each(|cut| *cut %= stream.len() + 1);
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_bytes_arrive(cuts in proptest::collection::vec(0usize..1000, 0..12)) {
            let (out, error) = frames(&pieces(STREAM, cuts));
            prop_assert_eq!(out, [
                "ping",
                "sip:a@b \"abc\" None",
                "answer \"\" None",
                "ping",
                "sip:a \"\\r\\n\\r\\n\" None",
                "sip:b \"\" Some(Undelimited)",
            ]);
            prop_assert_eq!(error, Some(FramingError::ContentLength));
        }

        #[test]
        fn nothing_depends_on_how_bytes_arrive(
            stream in "(\r\n|\n|\r|A sip:a SIP/2.0\r?\n|l: ?[0-9]{1,3}\r?\n|[ -~]{0,9}){0,30}",
            cuts in proptest::collection::vec(0usize..1000, 0..12),
        ) {
            let stream = stream.as_bytes();
            prop_assert_eq!(frames(&pieces(stream, cuts)), frames(&[stream]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = frames(&[&bytes]);
        }
    }

    #[test]
    fn what_cannot_be_delimited_ends_the_stream_after_a_message_that_can_be_answered() {
        for (fields, defect) in [
            ("", Defect::Undelimited),
            ("l: 1\r\nContent-Length: 2\r\n", Defect::Undelimited),
            ("l: -1\r\n", Defect::Undelimited),
            ("l: 18446744073709551616\r\n", Defect::Undelimited),
            ("l: 101\r\n", Defect::BodyTooLarge),
            (&"a: b\r\n".repeat(11), Defect::HeaderTooLarge),
            (&format!("a: {}\r\n", "b".repeat(400)), Defect::HeaderTooLarge),
        ] {
            let text = format!("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n{fields}\r\nnot read");
            let (out, error) = frames(&[text.as_bytes()]);
            assert_eq!(out, [format!("sip:a \"\" Some({defect:?})")], "{text}");
            assert!(error.is_some(), "{text}");
        }
        let endless = format!("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a\r\na: {}", "b".repeat(400));
        assert_eq!(frames(&[endless.as_bytes()]).0, ["sip:a \"\" Some(HeaderTooLarge)"]);
        for rubbish in ["GET / HTTP/1.1\r\n\r\n", &"x".repeat(401)] {
            let (out, error) = frames(&[rubbish.as_bytes(), b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n"]);
            assert!(out.is_empty() && error.is_some(), "{rubbish}");
        }
    }

    #[test]
    fn an_oversized_message_is_answered_with_the_status_for_it() {
        let text = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nl: 101\r\n\r\n";
        let mut framer = StreamFramer::new(LIMITS);
        framer.push(text.as_bytes());
        let Ok(Some(Frame::Message(message))) = framer.next() else { panic!("no message") };
        assert_eq!(message.method(), Some(Method::Options));
        assert_eq!(validate_request(&message).unwrap_err().status(), Some(413));
    }

    #[test]
    fn half_a_keep_alive_is_not_amid_a_message() {
        let mut framer = StreamFramer::new(LIMITS);
        framer.push(b"\r\n\r");
        assert!(framer.next().unwrap().is_none() && !framer.is_amid_message());
        framer.push(b"\nOPT");
        assert!(matches!(framer.next(), Ok(Some(Frame::Ping))));
        assert!(framer.next().unwrap().is_none() && framer.is_amid_message());
    }

    #[test]
    fn a_message_is_the_same_as_when_it_came_in_one_datagram() {
        let text = b"MESSAGE sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc";
        let mut framer = StreamFramer::new(LIMITS);
        framer.push(text);
        let Ok(Some(Frame::Message(message))) = framer.next() else { panic!("no message") };
        let datagram = SipMessage::parse(Bytes::from_static(text), &LIMITS).unwrap();
        assert_eq!((message.bytes(), message.body()), (datagram.bytes(), datagram.body()));
    }
}
