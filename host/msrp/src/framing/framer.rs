//! Frames out of a byte stream.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

use super::head::{HeadBuilder, parse_end_line, parse_start_line};
use super::{ContinuationFlag, END_LINE_HYPHENS, Frame, FramingError, FramingLimits, TransactionId};

/// Takes a stream in pieces of any size and gives its [`Frame`]s. Content is given as it comes; what is held is at most one
/// incomplete line ([`FramingLimits::max_line_bytes`]) or the beginning of an end-line, beside the bytes last pushed.
///
/// | state | on | goes to |
/// |---|---|---|
/// | Start | empty lines (keep-alive) | Start |
/// | Start | a start line | Head |
/// | Head | a header line | Head |
/// | Head | an end-line of the same transaction | Ending, or Start after a response |
/// | Head | an empty line (a request's) | Content |
/// | Content | bytes before the end-line | Content |
/// | Content | the end-line (RFC 4975 §7.1) | Start |
/// | any | a [`FramingError`] | Failed |
#[derive(Debug)]
pub struct Framer {
    limits: FramingLimits,
    input: Bytes,
    /// Bytes of the input that have no line feed.
    searched: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Head(Box<HeadBuilder>),
    /// The request had no content; its end is still to be given.
    Ending(ContinuationFlag),
    Content(Box<ContentScan>),
    Failed(FramingError),
}

/// The search for the end-line.
#[derive(Debug)]
struct ContentScan {
    /// CRLF, hyphens, transaction id.
    end_line: Finder<'static>,
    /// Nothing of the content has come: the CRLF before the end-line may be the one that ended the head.
    at_start: bool,
    /// Content so far.
    length: u64,
    /// The request was refused: its content and end are not given.
    skips: bool,
}

/// What stands at a place where an end-line may be.
enum EndLine {
    Here(ContinuationFlag),
    NotHere,
    Incomplete,
}

impl Framer {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new(limits: FramingLimits) -> Framer {
        Framer { limits, input: Bytes::new(), searched: 0, state: State::Start }
    }

    /// Takes bytes in; call [`Framer::next_frame`] until it gives nothing before pushing more.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else if !bytes.is_empty() {
            let mut joined = BytesMut::with_capacity(self.input.len().saturating_add(bytes.len()));
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&bytes);
            self.input = joined.freeze();
        }
    }

    /// Bytes that are held until more come.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.input.len()
    }

    /// Whether part of a request or response waits for the rest.
    #[must_use]
    pub fn is_amid_frame(&self) -> bool {
        !matches!(self.state, State::Start) || !self.input.is_empty()
    }

    /// The next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FramingError`]: the stream is of no more use; every further call says the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FramingError> {
        let result = self.step();
        if let Err(error) = result {
            self.state = State::Failed(error);
            self.input = Bytes::new();
        }
        result
    }

    fn step(&mut self) -> Result<Option<Frame>, FramingError> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Ending(flag) => {
                    let flag = *flag;
                    self.state = State::Start;
                    return Ok(Some(Frame::End(flag)));
                }
                State::Content(_) => match self.content()? {
                    Content::Frame(frame) => return Ok(Some(frame)),
                    Content::Skipped => {}
                    Content::NeedsMore => return Ok(None),
                },
                State::Start => {
                    let Some(line) = self.take_line()? else { return Ok(None) };
                    if !line.is_empty() {
                        let head_bytes = line.len().saturating_add(2);
                        self.state = State::Head(Box::new(HeadBuilder::new(parse_start_line(&line)?, head_bytes)));
                    }
                }
                State::Head(_) => {
                    let Some(line) = self.take_line()? else { return Ok(None) };
                    if let Some(frame) = self.head_line(&line)? {
                        return Ok(Some(frame));
                    }
                }
            }
        }
    }

    /// A line without its CRLF.
    fn take_line(&mut self) -> Result<Option<Bytes>, FramingError> {
        let unsearched = self.input.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.input.len();
            return if self.searched > self.limits.max_line_bytes { Err(FramingError::LineTooLong) } else { Ok(None) };
        };
        let length = self.searched.saturating_add(found).saturating_add(1);
        self.searched = 0;
        if length > self.limits.max_line_bytes {
            return Err(FramingError::LineTooLong);
        }
        let line = self.input.split_to(length);
        let text = line.strip_suffix(b"\r\n").ok_or(FramingError::Line)?;
        if text.iter().any(|&byte| byte < b' ' && byte != b'\t') {
            return Err(FramingError::Line);
        }
        Ok(Some(line.slice_ref(text)))
    }

    fn head_line(&mut self, line: &[u8]) -> Result<Option<Frame>, FramingError> {
        let State::Head(mut builder) = std::mem::replace(&mut self.state, State::Start) else { return Ok(None) };
        if line.is_empty() {
            if builder.is_response() {
                return Err(FramingError::Response);
            }
            let mut scan = ContentScan::new(builder.transaction_id());
            let frame = builder.finish()?;
            scan.skips = matches!(frame, Frame::BadRequest(_));
            self.state = State::Content(Box::new(scan));
            return Ok(Some(frame));
        }
        if let Some((transaction_id, flag)) = parse_end_line(line) {
            let flag = flag.ok_or(FramingError::EndLine)?;
            if transaction_id != builder.transaction_id().as_str().as_bytes() {
                return Err(FramingError::EndLine);
            }
            let frame = builder.finish()?;
            if matches!(frame, Frame::Request(_)) {
                self.state = State::Ending(flag);
            }
            return Ok(Some(frame));
        }
        builder.headers = builder.headers.saturating_add(1);
        builder.head_bytes = builder.head_bytes.saturating_add(line.len()).saturating_add(2);
        if builder.headers > self.limits.max_headers {
            return Err(FramingError::TooManyHeaders);
        }
        if builder.head_bytes > self.limits.max_head_bytes {
            return Err(FramingError::HeadTooLarge);
        }
        builder.line(line);
        self.state = State::Head(builder);
        Ok(None)
    }

    fn content(&mut self) -> Result<Content, FramingError> {
        let State::Content(scan) = &mut self.state else { return Ok(Content::NeedsMore) };
        let (content_bytes, ending) = scan.search(&self.input);
        if content_bytes > 0 {
            let content = self.input.split_to(content_bytes.min(self.input.len()));
            scan.at_start = false;
            scan.length = scan.length.saturating_add(content.len() as u64);
            if scan.length > self.limits.max_chunk_bytes {
                return Err(FramingError::ChunkTooLarge);
            }
            return Ok(if scan.skips { Content::Skipped } else { Content::Frame(Frame::Content(content)) });
        }
        let Some((flag, end_line_bytes)) = ending else { return Ok(Content::NeedsMore) };
        let skips = scan.skips;
        self.input.advance(end_line_bytes.min(self.input.len()));
        self.state = State::Start;
        Ok(if skips { Content::Skipped } else { Content::Frame(Frame::End(flag)) })
    }
}

enum Content {
    Frame(Frame),
    /// Went on without anything to give.
    Skipped,
    NeedsMore,
}

impl ContentScan {
    fn new(transaction_id: &TransactionId) -> ContentScan {
        let needle = format!("\r\n{END_LINE_HYPHENS}{}", transaction_id.as_str());
        ContentScan { end_line: Finder::new(&needle).into_owned(), at_start: true, length: 0, skips: false }
    }

    /// How many bytes are content for certain, and, when none are, the end-line at the front with its length.
    fn search(&self, input: &[u8]) -> (usize, Option<(ContinuationFlag, usize)>) {
        if self.at_start {
            // An end-line right after the empty line: no content at all. RFC 4975 §9 wants a CRLF of its own before it;
            // some senders leave it out.
            let bare = self.end_line.needle().get(2..).unwrap_or_default();
            match end_line_at(input, bare) {
                EndLine::Here(flag) => return (0, Some((flag, bare.len() + 3))),
                EndLine::Incomplete => return (0, None),
                EndLine::NotHere => {}
            }
        }
        let needle = self.end_line.needle();
        let mut from = 0;
        while let Some(found) = self.end_line.find(input.get(from..).unwrap_or_default()) {
            let at = from + found;
            match end_line_at(input.get(at..).unwrap_or_default(), needle) {
                EndLine::Here(flag) if at == 0 => return (0, Some((flag, needle.len() + 3))),
                EndLine::Here(_) | EndLine::Incomplete => return (at, None),
                EndLine::NotHere => from = at + 1,
            }
        }
        (input.len() - held_back(input, needle), None)
    }
}

/// Whether `input` begins with the needle, a continuation flag and CRLF.
fn end_line_at(input: &[u8], needle: &[u8]) -> EndLine {
    if input.len() < needle.len() {
        return if needle.starts_with(input) { EndLine::Incomplete } else { EndLine::NotHere };
    }
    let Some(tail) = input.strip_prefix(needle) else { return EndLine::NotHere };
    let flag = match tail.first() {
        None => return EndLine::Incomplete,
        Some(&byte) => ContinuationFlag::from_byte(byte),
    };
    match (flag, tail.get(1..).unwrap_or_default()) {
        (Some(flag), [b'\r', b'\n', ..]) => EndLine::Here(flag),
        (Some(_), [] | [b'\r']) => EndLine::Incomplete,
        _ => EndLine::NotHere,
    }
}

/// How many bytes at the end of `input` may be the beginning of the needle. The needle has one CR, its first byte.
fn held_back(input: &[u8], needle: &[u8]) -> usize {
    let tail = input.get(input.len().saturating_sub(needle.len() - 1)..).unwrap_or_default();
    match memchr::memrchr(b'\r', tail).and_then(|at| tail.get(at..)) {
        Some(beginning) if needle.starts_with(beginning) => beginning.len(),
        _ => 0,
    }
}
