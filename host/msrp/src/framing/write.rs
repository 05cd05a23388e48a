//! Requests and responses as bytes.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::{
    BadRequest, ContinuationFlag, END_LINE_HYPHENS, FailureReport, Frame, Header, Method, RequestHead, Response,
    TransactionId,
};
use crate::byte_range::ByteRange;
use crate::status::Status;
use crate::uri::MsrpPath;

/// A header field that would break the stream, or that this crate writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a header field that can be written")]
pub struct InvalidHeader;

/// Names with a meaning of their own here.
const OWN_HEADERS: [&str; 8] =
    ["To-Path", "From-Path", "Message-ID", "Byte-Range", "Success-Report", "Failure-Report", "Status", "Content-Type"];

/// Whether a header field may be written as it is.
///
/// # Errors
/// [`InvalidHeader`].
pub fn check_header(header: &Header) -> Result<(), InvalidHeader> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&byte);
    let own = OWN_HEADERS.iter().any(|name| header.name.eq_ignore_ascii_case(name));
    let hyphens = header.name.starts_with(END_LINE_HYPHENS);
    if own || hyphens || header.name.is_empty() || !header.name.bytes().all(is_name) {
        return Err(InvalidHeader);
    }
    check_value(&header.value)
}

/// Whether a text may stand in a header field: no control characters.
///
/// # Errors
/// [`InvalidHeader`].
pub(crate) fn check_value(value: &str) -> Result<(), InvalidHeader> {
    if value.bytes().any(|byte| byte < b' ') { Err(InvalidHeader) } else { Ok(()) }
}

/// Whether a text can be written as a Message-ID: `ident` characters (RFC 4975 §9), up to 255 of them since UUIDs are common.
///
/// # Errors
/// [`InvalidHeader`].
pub fn check_message_id(message_id: &str) -> Result<(), InvalidHeader> {
    let fits = (1..=255).contains(&message_id.len()) && message_id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(InvalidHeader) }
}

/// `-------id` and the flag, with CRLF.
#[must_use]
pub fn end_line(transaction_id: &TransactionId, flag: ContinuationFlag) -> String {
    format!("{END_LINE_HYPHENS}{}{}\r\n", transaction_id.as_str(), char::from(flag.as_byte()))
}

/// Writes frames as they come out of a [`super::Framer`], for whoever passes them on.
#[derive(Debug, Default)]
pub struct FrameWriter {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    transaction_id: TransactionId,
    /// The empty line after the head is written.
    is_separated: bool,
}

impl FrameWriter {
    /// The bytes of a frame; none of one that is to be refused instead.
    pub fn write(&mut self, frame: &Frame) -> Bytes {
        match frame {
            Frame::Request(head) => {
                let is_separated = head.content_type.is_some();
                self.current = Some(Current { transaction_id: head.transaction_id.clone(), is_separated });
                Bytes::from(head.to_wire())
            }
            Frame::Content(bytes) => match &mut self.current {
                Some(current) if !current.is_separated => {
                    current.is_separated = true;
                    join([b"\r\n", bytes, b""])
                }
                _ => bytes.clone(),
            },
            Frame::End(flag) => match self.current.take() {
                Some(current) => {
                    let line_end: &[u8] = if current.is_separated { b"\r\n" } else { b"" };
                    join([line_end, end_line(&current.transaction_id, *flag).as_bytes(), b""])
                }
                None => Bytes::new(),
            },
            Frame::Response(response) => response.to_wire(),
            Frame::BadRequest(_) => Bytes::new(),
        }
    }
}

impl RequestHead {
    /// A SEND or REPORT of ours with nothing set that may be left out.
    pub(crate) fn of_ours(
        transaction_id: TransactionId,
        method: Method,
        to_path: MsrpPath,
        from_path: MsrpPath,
        message_id: String,
        byte_range: ByteRange,
    ) -> RequestHead {
        RequestHead {
            transaction_id,
            method,
            to_path,
            from_path,
            message_id: Some(message_id),
            byte_range: Some(byte_range),
            success_report: false,
            failure_report: FailureReport::Yes,
            status: None,
            content_type: None,
            other_headers: Vec::new(),
        }
    }

    /// The head as on the wire. With a Content-Type an empty line follows and then the content, a CRLF and the
    /// [`end_line`]; without one the end-line follows at once (§9).
    #[must_use]
    pub fn to_wire(&self) -> String {
        let mut text = String::with_capacity(512);
        // Writing into a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "MSRP {} {}\r\n", self.transaction_id.as_str(), self.method.as_str())?;
        write!(text, "To-Path: {}\r\nFrom-Path: {}\r\n", self.to_path, self.from_path)?;
        if let Some(message_id) = &self.message_id {
            write!(text, "Message-ID: {message_id}\r\n")?;
        }
        if self.success_report {
            text.push_str("Success-Report: yes\r\n");
        }
        if self.failure_report != FailureReport::Yes {
            write!(text, "Failure-Report: {}\r\n", self.failure_report.as_str())?;
        }
        if let Some(byte_range) = &self.byte_range {
            write!(text, "Byte-Range: {byte_range}\r\n")?;
        }
        if let Some(status) = &self.status {
            write!(text, "Status: {:03} {} {}\r\n", status.namespace, status.status, status.status.comment())?;
        }
        for header in &self.other_headers {
            write!(text, "{}: {}\r\n", header.name, header.value)?;
        }
        if let Some(content_type) = &self.content_type {
            write!(text, "Content-Type: {content_type}\r\n\r\n")?;
        }
        Ok(())
    }
}

impl Response {
    /// The response as on the wire.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut text = String::with_capacity(256);
        let _ = write!(text, "MSRP {} {}", self.transaction_id.as_str(), self.status);
        if !self.comment.is_empty() {
            let _ = write!(text, " {}", self.comment);
        }
        let _ = write!(text, "\r\nTo-Path: {}\r\nFrom-Path: {}\r\n", self.to_path, self.from_path);
        for header in &self.other_headers {
            let _ = write!(text, "{}: {}\r\n", header.name, header.value);
        }
        text.push_str(&end_line(&self.transaction_id, ContinuationFlag::Complete));
        Bytes::from(text)
    }
}

/// The response to a request with these paths (§7.2): back to the previous hop, or along the whole path for methods other
/// than SEND.
pub(crate) fn response(
    transaction_id: &TransactionId,
    status: Status,
    to_path: &MsrpPath,
    from_path: &MsrpPath,
    whole_path: bool,
) -> Bytes {
    let back = if whole_path { from_path.clone() } else { MsrpPath::from(from_path.first().clone()) };
    Response {
        transaction_id: transaction_id.clone(),
        status,
        comment: status.comment().to_owned(),
        to_path: back,
        from_path: MsrpPath::from(to_path.first().clone()),
        other_headers: Vec::new(),
    }
    .to_wire()
}

/// The answer to a request that is not for a session: back to the previous hop, or along the whole path where it is no SEND.
#[must_use]
pub fn answer_to(head: &RequestHead, status: Status) -> Bytes {
    response(&head.transaction_id, status, &head.to_path, &head.from_path, head.method != Method::Send)
}

/// The answer to a request that is wrong and not for a session, like [`answer_to`]; none where none is wanted or possible.
#[must_use]
pub fn answer_to_bad(request: &BadRequest) -> Option<Bytes> {
    let (to_path, from_path) = (request.to_path.as_ref()?, request.from_path.as_ref()?);
    let status = request.error.status();
    let is_wanted = request.method != Method::Report && request.failure_report.wants(status);
    let whole_path = request.method != Method::Send;
    is_wanted.then(|| response(&request.transaction_id, status, to_path, from_path, whole_path))
}

/// Joins the parts of one request for one write.
pub(crate) fn join(parts: [&[u8]; 3]) -> Bytes {
    let mut joined = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}
