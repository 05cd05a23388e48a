//! Start lines and header fields.

use super::{
    BadRequest, END_LINE_HYPHENS, FailureReport, Frame, FramingError, HeadError, Header, Method, ReportStatus,
    RequestHead, Response, TransactionId,
};
use crate::byte_range::ByteRange;
use crate::status::Status;
use crate::uri::MsrpPath;

/// What a start line says.
#[derive(Debug)]
pub(super) enum StartLine {
    /// `MSRP id METHOD`
    Request(TransactionId, Method),
    /// `MSRP id 200 comment`
    Response(TransactionId, Status, String),
}

/// Reads `MSRP SP transact-id SP (method / status [SP comment])` without its CRLF (RFC 4975 §9).
pub(super) fn parse_start_line(line: &[u8]) -> Result<StartLine, FramingError> {
    let line = std::str::from_utf8(line).map_err(|_| FramingError::StartLine)?;
    let rest = line.strip_prefix("MSRP ").ok_or(FramingError::StartLine)?;
    let (transaction_id, rest) = rest.split_once(' ').ok_or(FramingError::StartLine)?;
    let transaction_id = TransactionId::new(transaction_id).ok_or(FramingError::StartLine)?;
    let (word, comment) = rest.split_once(' ').unwrap_or((rest, ""));
    if word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        let status = word.parse().ok().and_then(Status::new).ok_or(FramingError::StartLine)?;
        return Ok(StartLine::Response(transaction_id, status, comment.to_owned()));
    }
    let is_method = !word.is_empty() && word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !comment.is_empty() {
        return Err(FramingError::StartLine);
    }
    let method = match word {
        "SEND" => Method::Send,
        "REPORT" => Method::Report,
        other => Method::Other(other.to_owned()),
    };
    Ok(StartLine::Request(transaction_id, method))
}

/// Collects the header fields of one request or response.
#[derive(Debug)]
pub(super) struct HeadBuilder {
    start_line: StartLine,
    to_path: Option<MsrpPath>,
    from_path: Option<MsrpPath>,
    message_id: Option<String>,
    byte_range: Option<ByteRange>,
    success_report: Option<bool>,
    failure_report: Option<FailureReport>,
    status: Option<ReportStatus>,
    content_type: Option<String>,
    other_headers: Vec<Header>,
    /// The first thing found wrong.
    error: Option<HeadError>,
    /// Start line and header fields so far.
    pub(super) head_bytes: usize,
    /// Header fields so far.
    pub(super) headers: usize,
}

impl HeadBuilder {
    pub(super) fn new(start_line: StartLine, head_bytes: usize) -> HeadBuilder {
        HeadBuilder {
            start_line,
            to_path: None,
            from_path: None,
            message_id: None,
            byte_range: None,
            success_report: None,
            failure_report: None,
            status: None,
            content_type: None,
            other_headers: Vec::new(),
            error: None,
            head_bytes,
            headers: 0,
        }
    }

    pub(super) fn transaction_id(&self) -> &TransactionId {
        match &self.start_line {
            StartLine::Request(transaction_id, _) | StartLine::Response(transaction_id, ..) => transaction_id,
        }
    }

    pub(super) fn is_response(&self) -> bool {
        matches!(self.start_line, StartLine::Response(..))
    }

    /// Takes one header line without its CRLF.
    pub(super) fn line(&mut self, line: &[u8]) {
        if let Err(error) = self.field(line) {
            self.error.get_or_insert(error);
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let (name, value) = split_header(line)?;
        if name.eq_ignore_ascii_case("To-Path") {
            set(&mut self.to_path, "To-Path", value.parse().map_err(|error| HeadError::Path("To-Path", error)))
        } else if name.eq_ignore_ascii_case("From-Path") {
            set(&mut self.from_path, "From-Path", value.parse().map_err(|error| HeadError::Path("From-Path", error)))
        } else if name.eq_ignore_ascii_case("Message-ID") {
            set(&mut self.message_id, "Message-ID", parse_message_id(value))
        } else if name.eq_ignore_ascii_case("Byte-Range") {
            set(&mut self.byte_range, "Byte-Range", value.parse().map_err(HeadError::from))
        } else if name.eq_ignore_ascii_case("Success-Report") {
            set(&mut self.success_report, "Success-Report", parse_success_report(value))
        } else if name.eq_ignore_ascii_case("Failure-Report") {
            set(&mut self.failure_report, "Failure-Report", parse_failure_report(value))
        } else if name.eq_ignore_ascii_case("Status") {
            set(&mut self.status, "Status", parse_status(value))
        } else if name.eq_ignore_ascii_case("Content-Type") {
            let value = if value.is_empty() { Err(HeadError::Malformed("Content-Type")) } else { Ok(value.to_owned()) };
            set(&mut self.content_type, "Content-Type", value)
        } else {
            self.other_headers.push(Header { name: name.to_owned(), value: value.to_owned() });
            Ok(())
        }
    }

    /// The head is complete.
    pub(super) fn finish(self) -> Result<Frame, FramingError> {
        match self.start_line {
            StartLine::Response(transaction_id, status, comment) => match (self.error, self.to_path, self.from_path) {
                (None, Some(to_path), Some(from_path)) => {
                    let other_headers = self.other_headers;
                    let response = Response { transaction_id, status, comment, to_path, from_path, other_headers };
                    Ok(Frame::Response(Box::new(response)))
                }
                _ => Err(FramingError::Response),
            },
            StartLine::Request(transaction_id, method) => {
                let failure_report = self.failure_report.unwrap_or_default();
                let missing = if self.to_path.is_none() { "To-Path" } else { "From-Path" };
                match (self.error, self.to_path, self.from_path) {
                    (None, Some(to_path), Some(from_path)) => Ok(Frame::Request(Box::new(RequestHead {
                        transaction_id,
                        method,
                        to_path,
                        from_path,
                        message_id: self.message_id,
                        byte_range: self.byte_range,
                        success_report: self.success_report.unwrap_or(false),
                        failure_report,
                        status: self.status,
                        content_type: self.content_type,
                        other_headers: self.other_headers,
                    }))),
                    (error, to_path, from_path) => Ok(Frame::BadRequest(Box::new(BadRequest {
                        transaction_id,
                        method,
                        to_path,
                        from_path,
                        failure_report,
                        error: error.unwrap_or(HeadError::Missing(missing)),
                    }))),
                }
            }
        }
    }
}

/// Splits `Name: value`; a blank after the colon is not asked for.
pub(super) fn split_header(line: &[u8]) -> Result<(&str, &str), HeadError> {
    let line = std::str::from_utf8(line).map_err(|_| HeadError::NotAHeader)?;
    let (name, value) = line.split_once(':').ok_or(HeadError::NotAHeader)?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(HeadError::NotAHeader);
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}

/// Whether a line in a head is an end-line: then for whom, and how it ends.
pub(super) fn parse_end_line(line: &[u8]) -> Option<(&[u8], Option<super::ContinuationFlag>)> {
    let rest = line.strip_prefix(END_LINE_HYPHENS.as_bytes())?;
    let (flag, transaction_id) = rest.split_last()?;
    Some((transaction_id, super::ContinuationFlag::from_byte(*flag)))
}

fn set<T>(slot: &mut Option<T>, name: &'static str, value: Result<T, HeadError>) -> Result<(), HeadError> {
    if slot.is_some() {
        return Err(HeadError::Repeated(name));
    }
    *slot = Some(value?);
    Ok(())
}

/// Deviation: RFC 4975 §9 wants 4 to 32 `ident` characters; clients write UUIDs and more, so any visible text up to 255
/// bytes is taken.
fn parse_message_id(value: &str) -> Result<String, HeadError> {
    let fits = (1..=255).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(value.to_owned()) } else { Err(HeadError::Malformed("Message-ID")) }
}

fn parse_success_report(value: &str) -> Result<bool, HeadError> {
    if value.eq_ignore_ascii_case("yes") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(HeadError::Malformed("Success-Report"))
    }
}

fn parse_failure_report(value: &str) -> Result<FailureReport, HeadError> {
    [FailureReport::Yes, FailureReport::Partial, FailureReport::No]
        .into_iter()
        .find(|known| value.eq_ignore_ascii_case(known.as_str()))
        .ok_or(HeadError::Malformed("Failure-Report"))
}

/// `namespace SP status-code [SP comment]`, each of three digits.
fn parse_status(value: &str) -> Result<ReportStatus, HeadError> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let mut number = || {
        let word = words.next().filter(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()))?;
        word.parse::<u16>().ok()
    };
    match (number(), number().and_then(Status::new)) {
        (Some(namespace), Some(status)) => Ok(ReportStatus { namespace, status }),
        _ => Err(HeadError::Malformed("Status")),
    }
}
