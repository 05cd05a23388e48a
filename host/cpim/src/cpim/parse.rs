use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::{CpimError, Header, IMDN_NAMESPACE, ImdnHeaders, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::imdn::DispositionNotification;

/// What the beginning of a message shows.
#[derive(Debug)]
pub enum Prefix {
    /// Both header blocks are there.
    Complete(CpimMessage),
    /// More bytes are needed.
    NeedMore,
}

/// A CPIM message: its bytes, and where its parts are. Of a message of which only the beginning was seen the content is
/// what was seen of it.
#[derive(Clone, Debug)]
pub struct CpimMessage {
    bytes: Bytes,
    headers: Vec<Header>,
    content_headers: Vec<(String, String)>,
    content_start: usize,
}

impl CpimMessage {
    /// Parses a whole message.
    ///
    /// # Errors
    /// [`CpimError`]
    pub fn parse(bytes: Bytes) -> Result<CpimMessage, CpimError> {
        match CpimMessage::parse_prefix(bytes)? {
            Prefix::Complete(message) => Ok(message),
            Prefix::NeedMore => Err(CpimError::Unfinished),
        }
    }

    /// Parses the beginning of a message.
    ///
    /// # Errors
    /// [`CpimError`]: more bytes will not help.
    pub fn parse_prefix(bytes: Bytes) -> Result<Prefix, CpimError> {
        let data: &[u8] = &bytes;
        let need_more = || if data.len() > MAX_HEADER_BYTES { Err(CpimError::TooLarge) } else { Ok(Prefix::NeedMore) };
        let Some((head, mut at)) = block(data, 0) else { return need_more() };
        // One empty line too many between the blocks is seen in the wild; a block of no lines cannot be told from it.
        while let Some(length) = empty_line(data, at) {
            at += length;
            if at > MAX_HEADER_BYTES {
                return Err(CpimError::TooLarge);
            }
        }
        let Some((content, content_start)) = block(data, at) else { return need_more() };
        if content_start > MAX_HEADER_BYTES || head.len() + content.len() > MAX_HEADERS {
            return Err(CpimError::TooLarge);
        }
        let headers = message_headers(data, &head)?;
        let content_headers = content_headers(data, &content)?;
        if !content_headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            return Err(CpimError::NoContentType);
        }
        Ok(Prefix::Complete(CpimMessage { headers, content_headers, content_start, bytes: bytes.clone() }))
    }

    /// The bytes as they came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All message headers.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The first value of a CPIM header; names are case-sensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.namespace.is_empty() && header.name == name)
            .map(|it| it.value.as_str())
    }

    /// `From`
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        self.header("From")
    }

    /// `To`
    #[must_use]
    pub fn to(&self) -> Option<&str> {
        self.header("To")
    }

    /// `DateTime`
    #[must_use]
    pub fn date_time(&self) -> Option<&str> {
        self.header("DateTime")
    }

    /// `Subject`, its language parameter left out.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        let value = self.header("Subject")?;
        match value.strip_prefix(";lang=").and_then(|rest| rest.split_once(' ')) {
            Some((_, subject)) => Some(subject),
            None => Some(value),
        }
    }

    /// The IMDN headers, whatever prefix they have.
    #[must_use]
    pub fn imdn(&self) -> ImdnHeaders {
        let first = |name: &str| self.in_namespace(IMDN_NAMESPACE, name).next().map(str::to_owned);
        let all = |name: &str| self.in_namespace(IMDN_NAMESPACE, name).map(str::to_owned).collect();
        ImdnHeaders {
            message_id: first("Message-ID").filter(|id| !id.is_empty()),
            disposition_notification: first("Disposition-Notification")
                .map_or_else(DispositionNotification::default, |value| DispositionNotification::parse(&value)),
            record_route: all("IMDN-Record-Route"),
            route: all("IMDN-Route"),
            original_to: first("Original-To"),
        }
    }

    /// Headers of the MIME part.
    #[must_use]
    pub fn content_headers(&self) -> &[(String, String)] {
        &self.content_headers
    }

    /// A header of the MIME part, in any case.
    #[must_use]
    pub fn content_header(&self, name: &str) -> Option<&str> {
        self.content_headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Content-Type of the MIME part.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.content_header("Content-Type").unwrap_or("")
    }

    /// Where the content begins.
    #[must_use]
    pub fn content_start(&self) -> usize {
        self.content_start
    }

    /// The content.
    #[must_use]
    pub fn content(&self) -> Bytes {
        self.bytes.slice(self.content_start.min(self.bytes.len())..)
    }

    fn in_namespace<'a, 'n>(
        &'a self,
        namespace: &'n str,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers
            .iter()
            .filter(move |header| header.namespace == namespace && header.name == name)
            .map(|header| header.value.as_str())
    }
}

/// Lines up to an empty one, and where what follows begins; folded lines stay separate here.
fn block(data: &[u8], start: usize) -> Option<(Vec<Range<usize>>, usize)> {
    let mut lines = Vec::new();
    let mut at = start;
    loop {
        let rest = data.get(at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let end = if length > 0 && rest.get(length - 1) == Some(&b'\r') { at + length - 1 } else { at + length };
        let next = at + length + 1;
        if end == at {
            return Some((lines, next));
        }
        if lines.len() > MAX_HEADERS {
            // Too many is told by the caller; nothing more is kept.
            return Some((lines, next));
        }
        lines.push(at..end);
        at = next;
    }
}

fn empty_line(data: &[u8], at: usize) -> Option<usize> {
    match data.get(at..)? {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

fn message_headers(data: &[u8], lines: &[Range<usize>]) -> Result<Vec<Header>, CpimError> {
    let mut prefixes: HashMap<String, String> = HashMap::new();
    let mut default_namespace = String::new();
    let mut headers = Vec::with_capacity(lines.len());
    for line in lines {
        let (full_name, value, value_range) = split(data, line)?;
        let value = unescape(value);
        let (prefix, name) = match full_name.split_once('.') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, full_name),
        };
        let namespace = match prefix {
            // An unbound prefix makes the header unknown, not the message wrong.
            Some(prefix) => prefixes.get(prefix).cloned().unwrap_or_else(|| format!("unbound:{prefix}")),
            None if full_name == "NS" => {
                let (prefix, uri) = match value.split_once('<') {
                    Some((prefix, uri)) => (prefix.trim(), uri.split('>').next().unwrap_or("").trim()),
                    None => return Err(CpimError::Syntax),
                };
                if prefix.is_empty() {
                    default_namespace = uri.to_owned();
                } else {
                    prefixes.insert(prefix.to_owned(), uri.to_owned());
                }
                String::new()
            }
            None if CORE_HEADERS.contains(&full_name) => String::new(),
            None => default_namespace.clone(),
        };
        headers.push(Header { namespace, name: name.to_owned(), value, value_range });
    }
    Ok(headers)
}

/// RFC 3862 §4; these have no prefix, whatever the default namespace is.
const CORE_HEADERS: [&str; 7] = ["From", "To", "cc", "DateTime", "Subject", "NS", "Require"];

fn content_headers(data: &[u8], lines: &[Range<usize>]) -> Result<Vec<(String, String)>, CpimError> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(lines.len());
    for line in lines {
        let text = data.get(line.clone()).and_then(|text| std::str::from_utf8(text).ok()).ok_or(CpimError::Syntax)?;
        // MIME headers may be folded, CPIM's may not.
        if text.starts_with([' ', '\t']) {
            let (_, value) = headers.last_mut().ok_or(CpimError::Syntax)?;
            value.push(' ');
            value.push_str(text.trim());
            continue;
        }
        let (name, value, _) = split(data, line)?;
        headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(headers)
}

fn split<'a>(data: &'a [u8], line: &Range<usize>) -> Result<(&'a str, &'a str, Range<usize>), CpimError> {
    let text = data.get(line.clone()).and_then(|text| std::str::from_utf8(text).ok()).ok_or(CpimError::Syntax)?;
    let (name, value) = text.split_once(':').ok_or(CpimError::Syntax)?;
    if name.is_empty() || name.contains([' ', '\t']) {
        return Err(CpimError::Syntax);
    }
    let trimmed = value.trim();
    let start = line.start + name.len() + 1 + (value.len() - value.trim_start().len());
    Ok((name, trimmed, start..start + trimmed.len()))
}

/// `\` escapes of RFC 3862 §2.3.1; an unknown one stands for its character.
fn unescape(value: &str) -> String {
    if !value.contains('\\') {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('b') => out.push('\u{8}'),
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                out.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpim::{Builder, address_uri};
    use proptest::prelude::*;

    /// §5.1, without the letters that tell its parts.
    const EXAMPLE: &str = "\
From: MR SANDERS <im:piglet@100akerwood.com>\r
To: Depressed Donkey <im:eeyore@100akerwood.com>\r
DateTime: 2000-12-13T13:40:00-08:00\r
Subject: the weather will be fine today\r
Subject:;lang=fr beau temps prevu pour aujourd'hui\r
NS: MyFeatures <mid:MessageFeatures@id.foo.com>\r
Require: MyFeatures.VitalMessageOption\r
MyFeatures.VitalMessageOption: Confirmation-requested\r
MyFeatures.WackyMessageOption: Use-silly-font\r
\r
Content-type: text/xml; charset=utf-8\r
Content-ID: <1234567890@foo.com>\r
\r
<body>\r
Here is the text of my message.\r
</body>\r
";

    fn parse(text: &str) -> CpimMessage {
        CpimMessage::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_rfcs_example_is_read_and_kept() {
        let message = parse(EXAMPLE);
        assert_eq!(message.from().map(address_uri), Some("im:piglet@100akerwood.com"));
        assert_eq!(message.subject(), Some("the weather will be fine today"));
        assert_eq!(message.content_type(), "text/xml; charset=utf-8");
        assert!(message.content().starts_with(b"<body>"));
        assert_eq!(message.headers()[7].namespace, "mid:MessageFeatures@id.foo.com");
        assert_eq!(message.bytes(), EXAMPLE.as_bytes());
    }

    #[test]
    fn imdn_headers_are_found_under_any_prefix() {
        let with = |ns: &str, prefix: &str| {
            format!(
                "From: <sip:a@b>\r\nNS: {ns}<urn:ietf:params:imdn>\r\n{prefix}Message-ID: x1\r\n{prefix}Disposition-Notification: positive-delivery, display\r\n\r\nContent-Type: text/plain\r\n\r\nhi"
            )
        };
        for text in [with("imdn ", "imdn."), with("foo ", "foo."), with("", "")] {
            let imdn = parse(&text).imdn();
            assert_eq!(imdn.message_id.as_deref(), Some("x1"), "{text}");
            assert!(imdn.disposition_notification.display && imdn.disposition_notification.positive_delivery);
        }
        assert_eq!(parse(&with("foo ", "imdn.")).imdn(), ImdnHeaders::default());
    }

    #[test]
    fn what_deployed_clients_send_is_tolerated() {
        let message = parse("From: a\nTo: b\n\n\nContent-type: text/plain\nContent-length: 2\n\nhi\n\nyou");
        assert_eq!((message.to(), message.content().as_ref()), (Some("b"), &b"hi\n\nyou"[..]));
        assert_eq!(parse("To: a\\tb\\u0041\\\\\r\n\r\nContent-Type: a/b\r\n\r\n").to(), Some("a\tbA\\"));
    }

    #[test]
    fn cpim_escapes_its_control_characters_and_mime_has_no_escapes() {
        assert_eq!(crate::cpim::escape("\u{8}\\\u{7f}\u{1}\u{85}é"), "\\b\\\\\\u007f\\u0001\u{85}é");
        let built = |content_type: &str| {
            String::from_utf8(Builder::new().to("<sip:b@c>").content(content_type, b"").to_vec()).unwrap()
        };
        let quoted = r#"multipart/mixed;boundary="a\"b""#;
        assert!(built(quoted).contains(&format!("\r\nContent-Type: {quoted}\r\n")), "{}", built(quoted));
        let broken = built("text/plain\r\nContent-ID: x\0\n\n");
        assert!(broken.contains("\r\nContent-Type: text/plainContent-ID: x\r\n"), "{broken:?}");
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(from in "[ -~é]{0,20}", id in "[!-~]{1,20}", content in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Builder::new().from(&from).to("<sip:b@c>").imdn_message_id(&id).content("text/plain", &content);
            let message = CpimMessage::parse(bytes).unwrap();
            prop_assert_eq!(message.from(), Some(from.trim()));
            let parsed = message.imdn();
            prop_assert_eq!(parsed.message_id, Some(id));
            prop_assert_eq!(message.content().to_vec(), content);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b':'), Just(b'\\')], 0..120)) {
            let _ = CpimMessage::parse_prefix(bytes.into());
        }
    }
}
