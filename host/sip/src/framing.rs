//! Messages out of a byte stream (RFC 3261 §18.3, RFC 5626 §3.5.1).

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::message::{MessageLimits, ParseError, SipMessage};

/// Why a stream cannot go on: where the next message begins is not known any more. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The bytes are no message.
    #[error("not SIP: {0}")]
    Message(#[from] ParseError),
    /// Content-Length is missing, malformed or given twice.
    #[error("a message on a stream needs one Content-Length")]
    ContentLength,
}

/// Something complete.
#[derive(Debug)]
pub enum Frame {
    /// A message.
    Message(SipMessage),
    /// A double CRLF: answer with one CRLF.
    Ping,
}

/// Collects bytes until something is complete; holds at most one message's worth of the limits.
#[derive(Debug)]
pub struct StreamFramer {
    buffer: BytesMut,
    limits: MessageLimits,
    /// Already searched for the end of the header part.
    searched: usize,
    /// Length of the message in the buffer, once known.
    expected: Option<usize>,
}

impl StreamFramer {
    /// An empty one.
    #[must_use]
    pub fn new(limits: MessageLimits) -> StreamFramer {
        StreamFramer { buffer: BytesMut::new(), limits, searched: 0, expected: None }
    }

    /// Takes bytes in. Call [`StreamFramer::next`] until it gives nothing before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether part of a message waits for the rest.
    #[must_use]
    pub fn is_amid_message(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next complete thing.
    ///
    /// # Errors
    /// [`FramingError`]: nothing more can be read.
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.expected.is_none() {
            if self.buffer.starts_with(b"\r\n\r\n") {
                self.buffer.advance(4);
                return Ok(Some(Frame::Ping));
            }
            if self.buffer.as_ref() == b"\r\n" || self.buffer.as_ref() == b"\r\n\r" || self.buffer.as_ref() == b"\r" {
                return Ok(None);
            }
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            self.expected = self.find_length()?;
        }
        match self.expected {
            Some(length) if self.buffer.len() >= length => {
                let bytes: Bytes = self.buffer.split_to(length).freeze();
                self.expected = None;
                self.searched = 0;
                Ok(Some(Frame::Message(SipMessage::parse(bytes, &self.limits)?)))
            }
            _ => Ok(None),
        }
    }

    /// The length of the message that begins here, once its header part is complete.
    fn find_length(&mut self) -> Result<Option<usize>, FramingError> {
        let from = self.searched.saturating_sub(3);
        let haystack = self.buffer.get(from..).unwrap_or_default();
        let Some(end) = header_end(haystack).map(|end| from + end) else {
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limits.max_header_bytes {
                return Err(ParseError::TooLarge.into());
            }
            return Ok(None);
        };
        let header = Bytes::copy_from_slice(self.buffer.get(..end).unwrap_or_default());
        let message = SipMessage::parse(header, &self.limits)?;
        if message.count(crate::message::Name::ContentLength) != 1 {
            return Err(FramingError::ContentLength);
        }
        let length = message.content_length().ok().flatten().ok_or(FramingError::ContentLength)?;
        if length > self.limits.max_body_bytes {
            return Err(ParseError::TooLarge.into());
        }
        Ok(Some(end + length))
    }
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
    use super::*;
    use proptest::prelude::*;

    fn frames(pieces: &[&[u8]]) -> Result<Vec<String>, FramingError> {
        let mut framer =
            StreamFramer::new(MessageLimits { max_header_bytes: 400, max_header_fields: 10, max_body_bytes: 100 });
        let mut out = Vec::new();
        for piece in pieces {
            framer.push(piece);
            while let Some(frame) = framer.next()? {
                out.push(match frame {
                    Frame::Ping => "ping".to_owned(),
                    Frame::Message(message) => String::from_utf8_lossy(&message.body()).into_owned(),
                });
            }
        }
        Ok(out)
    }

    const STREAM: &[u8] = b"\r\n\r\nMESSAGE sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc\r\nSIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\nOPTIONS sip:a SIP/2.0\r\nContent-Length: 4\r\n\r\n\r\n\r\n";

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_bytes_arrive(cuts in proptest::collection::vec(0usize..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &STREAM[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frames(&pieces).unwrap(), ["ping", "abc", "", "\r\n\r\n"]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = frames(&[&bytes]);
        }
    }

    #[test]
    fn what_cannot_be_delimited_ends_the_stream() {
        for text in [
            "OPTIONS sip:a SIP/2.0\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nl: 101\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nl: 18446744073709551616\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(frames(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(frames(&[&[b'x'; 401]]).is_err());
    }
}
