use std::fmt;

use super::Variant;
use super::parameters::{DIGEST, Parameters, ValueWriter, schemes};
use crate::header::HeaderError;

/// Credentials of the scheme Digest: the value of Authorization or Proxy-Authorization (RFC 7616 §3.4). Unknown parameters
/// are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Whose password was hashed: the username, or its hash.
    pub username: String,
    /// `userhash`: it is the hash.
    pub is_user_hash: bool,
    /// Of the challenge.
    pub realm: String,
    /// Of the challenge.
    pub nonce: String,
    /// What was asked for, as the client wrote it.
    pub uri: String,
    /// The hash, in hexadecimal digits.
    pub response: String,
    /// As written; absent: MD5. See [`Credentials::algorithm`].
    pub algorithm: Option<String>,
    /// Of the challenge.
    pub opaque: Option<String>,
    /// `qop` and what belongs to it; none: as in RFC 2069.
    pub protection: Option<Protection>,
}

/// What `qop` brings with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// What the hash is over.
    pub quality: QualityOfProtection,
    /// The client's own nonce.
    pub cnonce: String,
    /// How often the client used the nonce, this request included: eight hexadecimal digits, as they went into the hash.
    pub nonce_count: String,
}

/// Values of `qop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QualityOfProtection {
    /// Method and URI.
    Auth,
    /// The body, too.
    AuthInt,
}

impl QualityOfProtection {
    /// By what is written. None: unknown.
    #[must_use]
    pub fn named(text: &str) -> Option<QualityOfProtection> {
        let all = [QualityOfProtection::Auth, QualityOfProtection::AuthInt];
        all.into_iter().find(|known| text.eq_ignore_ascii_case(known.as_str()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            QualityOfProtection::Auth => "auth",
            QualityOfProtection::AuthInt => "auth-int",
        }
    }
}

impl Protection {
    pub(super) fn read(quality: &str, parameters: &mut Parameters) -> Result<Protection, HeaderError> {
        Ok(Protection {
            quality: QualityOfProtection::named(quality).ok_or(HeaderError::Syntax)?,
            cnonce: parameters.required("cnonce")?,
            nonce_count: parameters.optional("nc").filter(|count| is_count(count)).ok_or(HeaderError::Number)?,
        })
    }

    /// The nonce count as a number.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        u32::from_str_radix(&self.nonce_count, 16).ok()
    }
}

impl Credentials {
    /// Parses one value. None: another scheme, or `response=""`, which clients send before they know a challenge (TS 24.229
    /// §5.1.1.2).
    ///
    /// # Errors
    /// [`HeaderError`]: 400.
    pub fn parse(value: &str) -> Result<Option<Credentials>, HeaderError> {
        Credentials::parse_for(value, None)
    }

    /// The same, where a protocol lets `uri` be left out: this is what is meant then.
    ///
    /// # Errors
    /// As of [`Credentials::parse`].
    pub fn parse_for(value: &str, usual_uri: Option<&str>) -> Result<Option<Credentials>, HeaderError> {
        let schemes = schemes(value)?;
        let [scheme] = schemes.as_slice() else { return Err(HeaderError::Syntax) };
        if !scheme.name.eq_ignore_ascii_case(DIGEST) {
            return Ok(None);
        }
        let mut parameters = Parameters::of(scheme)?;
        let response = parameters.required("response")?;
        if response.is_empty() {
            return Ok(None);
        }
        let protection = match parameters.optional("qop") {
            None => None,
            Some(quality) => Some(Protection::read(&quality, &mut parameters)?),
        };
        Ok(Some(Credentials {
            username: parameters.required("username")?,
            is_user_hash: parameters.is_true("userhash"),
            realm: parameters.required("realm")?,
            nonce: parameters.required("nonce")?,
            uri: match (parameters.optional("uri"), usual_uri) {
                (None, Some(usual)) => usual.to_owned(),
                (None, None) => return Err(HeaderError::Missing),
                (Some(uri), _) => uri,
            },
            response,
            algorithm: parameters.optional("algorithm"),
            opaque: parameters.optional("opaque"),
            protection,
        }))
    }

    /// How it was hashed; none: in a way that nobody here knows.
    #[must_use]
    pub fn algorithm(&self) -> Option<Variant> {
        Variant::named(self.algorithm.as_deref())
    }
}

fn is_count(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = ValueWriter::new()
            .quoted("username", &self.username)
            .quoted("realm", &self.realm)
            .quoted("nonce", &self.nonce)
            .quoted("uri", &self.uri)
            .quoted("response", &self.response);
        if let Some(algorithm) = &self.algorithm {
            writer = writer.token("algorithm", algorithm);
        }
        if let Some(opaque) = &self.opaque {
            writer = writer.quoted("opaque", opaque);
        }
        if let Some(Protection { quality, cnonce, nonce_count }) = &self.protection {
            writer = writer.token("qop", quality.as_str()).quoted("cnonce", cnonce).token("nc", nonce_count);
        }
        if self.is_user_hash {
            writer = writer.token("userhash", "true");
        }
        formatter.write_str(&writer.finish())
    }
}
