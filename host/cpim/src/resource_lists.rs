//! `application/resource-lists+xml` (RFC 4826) with `mid:` entries (RFC 2392): which messages a client wants.

use quick_xml::Reader;
use quick_xml::events::Event;
use thiserror::Error;

/// Media type.
pub const CONTENT_TYPE: &str = "application/resource-lists+xml";
/// Content-Disposition of a list that selects deferred messages.
pub const DISPOSITION: &str = "deferred-list";
/// Longest document.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most entries.
pub const MAX_ENTRIES: usize = 10_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// Why bytes are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListError {
    /// No well-formed XML, or a document type.
    #[error("malformed resource list")]
    Xml,
    /// Too large, too deep or too many entries.
    #[error("resource list over the limits")]
    TooLarge,
}

/// The `uri` of every entry, in order.
///
/// # Errors
/// [`ListError`]
pub fn parse(xml: &[u8]) -> Result<Vec<String>, ListError> {
    if xml.len() > MAX_BYTES {
        return Err(ListError::TooLarge);
    }
    let xml = std::str::from_utf8(xml).map_err(|_| ListError::Xml)?;
    let mut reader = Reader::from_str(xml);
    let mut depth = 0usize;
    let mut seen_root = false;
    let mut entries = Vec::new();
    loop {
        match reader.read_event().map_err(|_| ListError::Xml)? {
            Event::Start(element) => {
                depth += 1;
                seen_root = true;
                if depth > MAX_DEPTH {
                    return Err(ListError::TooLarge);
                }
                note(&element, &mut entries)?;
            }
            Event::Empty(element) => {
                seen_root = true;
                note(&element, &mut entries)?;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::DocType(_) => return Err(ListError::Xml),
            Event::Eof if depth == 0 && seen_root => return Ok(entries),
            Event::Eof => return Err(ListError::Xml),
            _ => {}
        }
    }
}

fn note(element: &quick_xml::events::BytesStart<'_>, entries: &mut Vec<String>) -> Result<(), ListError> {
    if element.local_name().as_ref() != "entry" {
        return Ok(());
    }
    if entries.len() >= MAX_ENTRIES {
        return Err(ListError::TooLarge);
    }
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| ListError::Xml)?;
        if attribute.key.as_ref() == "uri" {
            let value = quick_xml::escape::unescape(&attribute.value).map_err(|_| ListError::Xml)?;
            entries.push(value.into_owned());
        }
    }
    Ok(())
}

/// A list of messages by their ids.
#[must_use]
pub fn write_selection<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list>",
    );
    for id in ids {
        let escaped = percent_encode(id);
        xml.push_str(&format!("<entry uri=\"mid:{}\"/>", quick_xml::escape::escape(escaped.as_str())));
    }
    xml.push_str("</list></resource-lists>\r\n");
    xml
}

/// The id in a `mid:` URI, percent-decoded.
#[must_use]
pub fn message_id_of(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("mid") {
        return None;
    }
    let mut out = Vec::with_capacity(rest.len());
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let value =
            escaped.and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok().filter(|id| !id.is_empty())
}

fn percent_encode(id: &str) -> String {
    id.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@!$*'()+,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bombs_and_fragments_are_refused() {
        assert_eq!(parse(b"<!DOCTYPE l [<!ENTITY a \"b\">]><l/>"), Err(ListError::Xml));
        assert_eq!(parse("<list>".repeat(99).as_bytes()), Err(ListError::TooLarge));
        assert_eq!(parse(b"<resource-lists><list>"), Err(ListError::Xml));
        assert_eq!(parse(b"not xml"), Err(ListError::Xml));
        let many = format!("<l>{}</l>", "<entry uri=\"mid:1\"/>".repeat(MAX_ENTRIES + 1));
        assert_eq!(parse(many.as_bytes()), Err(ListError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_selected_is_read(ids in proptest::collection::vec("[ -~é]{1,12}", 0..6)) {
            let xml = write_selection(ids.iter().map(String::as_str));
            let read: Vec<String> = parse(xml.as_bytes()).unwrap().iter().filter_map(|uri| message_id_of(uri)).collect();
            prop_assert_eq!(read, ids);
        }

        #[test]
        fn arbitrary_bytes_never_panic(xml in "(<[a-z/!&; =\"]{0,20}>|[ -~]{0,5}){0,12}") {
            let _ = parse(xml.as_bytes());
            let _ = message_id_of(&xml);
        }
    }
}
