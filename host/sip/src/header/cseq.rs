use crate::header::HeaderError;
use crate::message::Method;

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2^31.
    pub number: u32,
    /// The request's method.
    pub method: Method,
}

impl CSeq {
    /// Parses a value.
    ///
    /// # Errors
    /// [`HeaderError::Syntax`], [`HeaderError::Number`]
    pub fn parse(value: &str) -> Result<CSeq, HeaderError> {
        let mut parts = value.split_ascii_whitespace();
        let (Some(number), Some(method), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(HeaderError::Syntax);
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) || !method.bytes().all(crate::message_token) {
            return Err(HeaderError::Syntax);
        }
        let number: u32 = number.parse().map_err(|_| HeaderError::Number)?;
        if number >= 1 << 31 {
            return Err(HeaderError::Number);
        }
        Ok(CSeq { number, method: Method::from_text(method) })
    }
}
