//! CPIM messages as others write them.

/// The headers of a CPIM message (RFC 3862), written without the code that reads them.
#[derive(Clone, Copy, Debug)]
pub struct Cpim<'a> {
    /// Who wrote it.
    pub from: &'a str,
    /// For whom.
    pub to: &'a str,
    /// imdn.Message-ID (RFC 5438 §6.3).
    pub id: Option<&'a str>,
    /// Of its content.
    pub content_type: &'a str,
}

impl Default for Cpim<'_> {
    fn default() -> Self {
        Cpim {
            from: "sip:alice@example.org",
            to: "sip:bob@example.org",
            id: None,
            content_type: "application/octet-stream",
        }
    }
}

impl Cpim<'_> {
    /// The message with this content.
    #[must_use]
    pub fn with(&self, content: impl AsRef<[u8]>) -> Vec<u8> {
        let Cpim { from, to, id, content_type } = self;
        let id =
            id.map(|id| format!("NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nDateTime: 2026-01-01T00:00:00Z\r\n{id}\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        [head.as_bytes(), content.as_ref()].concat()
    }
}
