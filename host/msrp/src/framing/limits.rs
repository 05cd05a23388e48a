//! What a peer may make the framer hold.

/// Bounds on a stream; what is beyond them closes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingLimits {
    /// Bytes of one line, its CRLF included. Default 8 KiB.
    pub max_line_bytes: usize,
    /// Header fields of one request or response. Default 64.
    pub max_headers: usize,
    /// Bytes of a start line and the header fields together. Default 32 KiB.
    pub max_head_bytes: usize,
    /// Bytes of the content of one chunk; they are passed on, not held. Default 4 GiB.
    pub max_chunk_bytes: u64,
}

impl Default for FramingLimits {
    fn default() -> FramingLimits {
        FramingLimits {
            max_line_bytes: 8 * 1024,
            max_headers: 64,
            max_head_bytes: 32 * 1024,
            max_chunk_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}
