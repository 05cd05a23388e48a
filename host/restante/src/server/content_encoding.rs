//! Bodies that were compressed on the way (RFC 3261 §20.12): Linphone deflates its dispositions. They are stored and sent in
//! page mode as they came; here they are opened, to be read, or to go where no field says how they are encoded.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use restante_deferral::model::Envelope;

/// The header field.
const CONTENT_ENCODING: &str = "Content-Encoding";
/// The largest body that is opened. It bounds what a few compressed bytes may become.
const MAX_DECODED_BYTES: u64 = 256 * 1024;

/// What the encoding of a stored message's body is, as it came.
#[must_use]
pub fn of(envelope: &Envelope) -> Option<&str> {
    envelope
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_ENCODING))
        .map(|(_, value)| value.as_str())
}

/// A body without its encoding: `gzip` and `deflate` (RFC 9110 §8.4.1) are undone. None when it has another one, or several,
/// or is not what it says, or is too large.
#[must_use]
pub fn decoded(body: &Bytes, encoding: Option<&str>) -> Option<Bytes> {
    match encoding.map(|value| value.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "identity") => Some(body.clone()),
        Some("gzip" | "x-gzip") => read(GzDecoder::new(body.as_ref())),
        Some("deflate") => read(ZlibDecoder::new(body.as_ref())),
        Some(_) => None,
    }
}

fn read(from: impl Read) -> Option<Bytes> {
    let mut bytes = Vec::new();
    from.take(MAX_DECODED_BYTES.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_DECODED_BYTES).then(|| bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn deflated(text: &[u8]) -> Bytes {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn what_is_encoded_in_a_known_way_is_opened() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"hello").unwrap();
        let gzip = Bytes::from(gzip.finish().unwrap());
        let plain = Bytes::from_static(b"hello");
        for (body, encoding) in [
            (&plain, None),
            (&plain, Some("identity")),
            (&deflated(b"hello"), Some(" Deflate ")),
            (&gzip, Some("gzip")),
        ] {
            assert_eq!(decoded(body, encoding), Some(plain.clone()), "{encoding:?}");
        }
    }

    #[test]
    fn what_cannot_be_opened_stays_closed() {
        let hello = Bytes::from_static(b"hello");
        for (body, encoding) in [
            (&hello, "deflate"),
            (&hello, "gzip"),
            (&hello, "br"),
            (&deflated(b"hello"), "deflate, gzip"),
            (&deflated(b"hello").slice(..8), "deflate"),
            (&deflated(&vec![0; 1 << 20]), "deflate"),
        ] {
            assert_eq!(decoded(body, Some(encoding)), None, "{encoding}");
        }
    }
}
