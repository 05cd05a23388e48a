use std::fmt;

use super::parameters::{DIGEST, Parameters, ValueWriter, schemes};
use super::{HashOfA1, Protection, Subject, is_response, response};
use crate::header::HeaderError;

/// Authentication-Info (RFC 7616 §3.5, for SIP RFC 3261 §22.4 and RFC 8760 §2.6): what a server says with an answer to
/// somebody who authenticated. Unknown parameters are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationInfo {
    /// The nonce to go on with.
    pub next_nonce: Option<String>,
    /// `rspauth`, and what it is over: shows that the server knows the password, too.
    pub shown: Option<(String, Protection)>,
}

impl AuthenticationInfo {
    /// Parses one value.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<AuthenticationInfo, HeaderError> {
        let schemes = schemes(&format!("{DIGEST} {value}"))?;
        let [scheme] = schemes.as_slice() else { return Err(HeaderError::Syntax) };
        let mut parameters = Parameters::of(scheme)?;
        let next_nonce = parameters.optional("nextnonce");
        let shown = match (parameters.optional("rspauth"), parameters.optional("qop")) {
            (Some(shown), Some(quality)) => Some((shown, Protection::read(&quality, &mut parameters)?)),
            _ => None,
        };
        Ok(AuthenticationInfo { next_nonce, shown })
    }

    /// `rspauth` for credentials that were right; the method counts for nothing, and the body is the answer's.
    #[must_use]
    pub fn shown(hash: &HashOfA1, subject: &Subject<'_>, protection: &Protection) -> (String, Protection) {
        (response(hash, &Subject { method: "", ..*subject }, Some(protection)), protection.clone())
    }

    /// Whether whoever wrote this knows H(A1) of the password that was used: for the client's own count and nonce. None:
    /// it shows nothing.
    #[must_use]
    pub fn is_right(&self, hash: &HashOfA1, subject: &Subject<'_>, used: &Protection) -> Option<bool> {
        let (given, protection) = self.shown.as_ref()?;
        let is_of_this =
            protection.cnonce == used.cnonce && protection.nonce_count.eq_ignore_ascii_case(&used.nonce_count);
        let protection = Protection { quality: protection.quality, ..used.clone() };
        let (expected, _) = AuthenticationInfo::shown(hash, subject, &protection);
        Some(is_of_this && is_response(&expected, given))
    }
}

impl fmt::Display for AuthenticationInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = ValueWriter::new();
        if let Some(next_nonce) = &self.next_nonce {
            writer = writer.quoted("nextnonce", next_nonce);
        }
        if let Some((shown, Protection { quality, cnonce, nonce_count })) = &self.shown {
            writer = writer.token("qop", quality.as_str()).quoted("rspauth", shown);
            writer = writer.quoted("cnonce", cnonce).token("nc", nonce_count);
        }
        formatter.write_str(&writer.finish_parameters())
    }
}
