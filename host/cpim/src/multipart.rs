//! MIME multipart bodies (RFC 2046 §5.1), as an INVITE has them: SDP beside a resource list or a CPIM message.

use bytes::Bytes;

use crate::media_type::parameter;

/// Most parts that are read.
pub const MAX_PARTS: usize = 16;
/// Most header bytes of a part.
const MAX_PART_HEADER_BYTES: usize = 8 * 1024;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub content: Bytes,
}

impl Part {
    /// A header field, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Content-Type; `text/plain` when absent (RFC 2045 §5.2).
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.header("Content-Type").unwrap_or("text/plain")
    }
}

/// The parts of a body; none when it has no boundary, no end, or more parts than [`MAX_PARTS`].
#[must_use]
pub fn parse(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let boundary =
        parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)?;
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut begin: Option<usize> = None;
    let mut at = 0;
    loop {
        let line_end = body.get(at..)?.iter().position(|byte| *byte == b'\n').map(|length| at + length + 1);
        let line = body.get(at..line_end.unwrap_or(body.len()))?;
        let trimmed = line.trim_ascii_end();
        let last = trimmed.strip_suffix(b"--").is_some_and(|rest| rest == delimiter.as_bytes());
        if last || trimmed == delimiter.as_bytes() {
            if let Some(begin) = begin {
                // The line break before a delimiter belongs to the delimiter.
                let end = match body.get(begin..at)? {
                    [.., b'\r', b'\n'] => at - 2,
                    [.., b'\n'] => at - 1,
                    _ => at,
                };
                parts.push(part(body.slice(begin..end.max(begin)))?);
            }
            if last {
                return Some(parts);
            }
            if parts.len() >= MAX_PARTS {
                return None;
            }
            begin = line_end;
        }
        at = line_end?;
    }
}

fn part(bytes: Bytes) -> Option<Part> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n');
        let line = rest.get(..length.unwrap_or(rest.len()))?.trim_ascii_end();
        let next = length.map_or(bytes.len(), |length| at + length + 1);
        if next > MAX_PART_HEADER_BYTES && length.is_some() && !line.is_empty() {
            return None;
        }
        if line.is_empty() {
            return Some(Part { headers, content: bytes.slice(next..) });
        }
        let text = std::str::from_utf8(line).ok()?;
        match (text.starts_with([' ', '\t']), headers.last_mut()) {
            (true, Some((_, value))) => {
                value.push(' ');
                value.push_str(text.trim());
            }
            _ => {
                let (name, value) = text.split_once(':')?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if next >= bytes.len() {
            return Some(Part { headers, content: Bytes::new() });
        }
        at = next;
    }
}

/// Writes parts with a boundary that occurs in none of them.
#[must_use]
pub fn write(boundary: &str, parts: &[Part]) -> Bytes {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        for (name, value) in &part.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&part.content);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn preamble_and_binary_content_are_handled() {
        let body = Bytes::from_static(
            b"ignored\r\n--b\r\nContent-Type: a/b\r\n\r\n\x00\r\n--bb\r\n\r\n--b\r\n\r\nplain\r\n--b--\r\ntrailer",
        );
        let parts = parse("multipart/mixed;boundary=\"b\"", &body).unwrap();
        assert_eq!(parts[0].content, &b"\x00\r\n--bb\r\n"[..]);
        assert_eq!((parts[1].content_type(), parts[1].content.as_ref()), ("text/plain", &b"plain"[..]));
        assert!(parse("multipart/mixed", &body).is_none());
        assert!(parse("multipart/mixed;boundary=b", &Bytes::from_static(b"--b\r\n\r\nno end")).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let parts: Vec<Part> = contents.into_iter().map(|content| Part { headers: vec![("Content-Type".into(), "x/y".into())], content: content.into() }).collect();
            let body = write("restante-boundary", &parts);
            prop_assert_eq!(parse("multipart/mixed; boundary=restante-boundary", &body), Some(parts));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in "(--b(--)?\r?\n|[ -~\r\n]{0,10}){0,20}") {
            let _ = parse("multipart/mixed;boundary=b", &Bytes::from(body));
        }
    }
}
