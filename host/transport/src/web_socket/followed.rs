//! Follows the frames that a stream carries: since when one message is under way, which the library tells nobody before the
//! message is whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Longest header of a frame: two bytes, a length of eight, a mask of four (RFC 6455 §5.2).
const MAX_HEADER_BYTES: usize = 14;

/// A stream below a WebSocket.
#[derive(Debug)]
pub(crate) struct Followed<S> {
    inner: S,
    frames: Option<Frames>,
    received: u64,
    written: u64,
}

/// Where in its frames a stream is.
///
/// | of a frame | has come |
/// |---|---|
/// | `header` | the beginning, not the whole header |
/// | `left` | the header, and so many bytes of the payload are missing |
/// | neither | the end, or nothing of the next one |
#[derive(Debug, Default)]
struct Frames {
    header: [u8; MAX_HEADER_BYTES],
    header_length: usize,
    left: u64,
    /// The frame is the last of its message; control frames are between those of a message (§5.4).
    is_final: bool,
    is_control: bool,
    /// A message is under way whose last frame has not begun.
    is_fragmented: bool,
    /// When the message, or the control frame, that is under way began.
    since: Option<Instant>,
}

impl<S> Followed<S> {
    pub(super) fn new(inner: S) -> Followed<S> {
        Followed { inner, frames: None, received: 0, written: 0 }
    }

    /// From here on come frames.
    pub(super) fn follow(&mut self) {
        self.frames = Some(Frames::default());
    }

    /// What carries it.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    /// When what is under way and not whole yet began to come.
    pub(super) fn since(&self) -> Option<Instant> {
        self.frames.as_ref().and_then(|frames| frames.since)
    }

    /// Bytes that came, all in all.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that were taken by the peer's side, all in all.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl Frames {
    fn came(&mut self, mut bytes: &[u8], now: Instant) {
        while let Some((first, rest)) = bytes.split_first() {
            self.since.get_or_insert(now);
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left = self.left.saturating_sub(taken as u64);
                bytes = bytes.get(taken..).unwrap_or_default();
            } else {
                if let Some(place) = self.header.get_mut(self.header_length) {
                    *place = *first;
                }
                self.header_length = self.header_length.saturating_add(1);
                bytes = rest;
                if self.header_length < self.whole_header() {
                    continue;
                }
                self.begin_payload();
            }
            if self.left == 0 {
                self.end_frame();
            }
        }
    }

    /// How long the header is, as far as its beginning says.
    fn whole_header(&self) -> usize {
        let [_, second, ..] = self.header;
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header_length < 2 { 2 } else { 2 + length + if second & 0x80 == 0 { 0 } else { 4 } }
    }

    fn begin_payload(&mut self) {
        let [first, second, length @ ..] = self.header;
        self.is_final = first & 0x80 != 0;
        self.is_control = first & 0x08 != 0;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        self.left = match second & 0x7f {
            126 => number(length.get(..2).unwrap_or_default()),
            127 => number(length.get(..8).unwrap_or_default()),
            short => short.into(),
        };
        self.header_length = 0;
    }

    fn end_frame(&mut self) {
        if !self.is_control {
            self.is_fragmented = !self.is_final;
        }
        if !self.is_fragmented {
            self.since = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.received = self.received.saturating_add(came.len() as u64);
        if let Some(frames) = self.frames.as_mut().filter(|_| !came.is_empty()) {
            frames.came(came, Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            self.written = self.written.saturating_add(*length as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);

    fn frame(kind: OpCode, length: usize, is_final: bool, is_masked: bool) -> Vec<u8> {
        let mut frame = Frame::message(vec![7; length], kind, is_final);
        if is_masked {
            frame.header_mut().mask = Some([1, 2, 3, 4]);
        }
        let mut bytes = Vec::new();
        frame.header().format(length as u64, &mut bytes).unwrap();
        bytes.extend_from_slice(frame.payload());
        bytes
    }

    #[tokio::test]
    async fn a_message_is_under_way_from_its_first_byte_to_its_last() {
        for is_masked in [true, false] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let mut frames = Frames::default();
                for bytes in [frame(TEXT, length, true, is_masked), frame(PING, length.min(125), true, is_masked)] {
                    let (last, but_last) = bytes.split_last().unwrap();
                    frames.came(but_last, Instant::now());
                    assert!(frames.since.is_some(), "{length}");
                    frames.came(&[*last], Instant::now());
                    assert_eq!((frames.since, frames.header_length, frames.left), (None, 0, 0), "{length}");
                }
            }
        }
    }

    #[tokio::test]
    async fn pings_between_its_frames_do_not_make_a_message_younger() {
        let (began, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(9));
        let mut frames = Frames::default();
        frames.came(&frame(TEXT, 3, false, true), began);
        for bytes in [frame(PING, 0, true, true), frame(MORE, 200, false, true), frame(PING, 125, true, true)] {
            bytes.iter().for_each(|byte| frames.came(&[*byte], later));
            assert_eq!(frames.since, Some(began));
        }
        // Its end, and the beginning of the next one, at once.
        let next = frame(TEXT, 9, true, true);
        frames.came(&[&frame(MORE, 5, true, true)[..], &next[..1]].concat(), later);
        assert_eq!(frames.since, Some(later));
        frames.came(&next[1..], later);
        assert_eq!(frames.since, None);
    }
}
