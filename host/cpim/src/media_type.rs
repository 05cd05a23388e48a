//! Media types and what accepts them.

/// `type/subtype` in lower case without parameters.
#[must_use]
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// A parameter of a Content-Type, unquoted.
#[must_use]
pub fn parameter<'a>(content_type: &'a str, name: &str) -> Option<&'a str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// Whether a list such as SDP's accept-types takes a type: `*`, `text/*`, `text/plain`.
pub fn accepts<'a>(list: impl IntoIterator<Item = &'a str>, content_type: &str) -> bool {
    let wanted = essence(content_type);
    list.into_iter().any(|entry| {
        let entry = essence(entry);
        match entry.strip_suffix("/*") {
            Some(kind) => wanted.split('/').next() == Some(kind),
            None => entry == "*" || entry == wanted,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_parameters() {
        assert_eq!(essence("Text/Plain; charset=\"UTF-8\""), "text/plain");
        assert_eq!(parameter("multipart/mixed; Boundary=\"a b\"", "boundary"), Some("a b"));
        for (list, wanted, accepted) in [
            (&["*"][..], "x/y", true),
            (&["text/*"], "TEXT/html;a=b", true),
            (&["text/*"], "textual/html", false),
            (&["message/cpim", "text/plain"], "text/plain", true),
            (&[], "text/plain", false),
        ] {
            assert_eq!(accepts(list.iter().copied(), wanted), accepted, "{list:?} {wanted}");
        }
    }
}
