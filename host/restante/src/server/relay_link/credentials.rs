//! What answers the challenges of a relay (RFC 4976 §9.1, Digest with `qop=auth`).

use anyhow::{Context, Result, bail};
use restante_msrp::uri::MsrpUri;
use restante_sip::authentication::{
    Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, response as response_to,
};

use crate::configuration::MsrpRelay;

/// A username and its password.
pub(super) struct Password {
    username: String,
    password: String,
}

impl Password {
    /// From the file that the configuration names.
    pub(super) fn read(relay: &MsrpRelay) -> Result<Password> {
        let file = &relay.password_file;
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            bail!("{}: expected a password on one line", file.display());
        }
        Ok(Password { username: relay.username.clone(), password })
    }

    /// Answers the first challenge that can be answered; the digest URI is the relay's (§9.1). None: none can.
    pub(super) fn answer(&self, challenges: &[String], relay: &MsrpUri) -> Option<String> {
        let all = challenges.iter().flat_map(|value| Challenge::parse_list(value).unwrap_or_default());
        let Challenge { realm, nonce, opaque, algorithm, .. } = all.into_iter().find(Challenge::offers_auth)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let protection = Protection {
            quality: QualityOfProtection::Auth,
            cnonce: format!("{:032x}", u128::from_be_bytes(random)),
            nonce_count: "00000001".to_owned(),
        };
        let uri = relay.to_string();
        let hash = HashOfA1::new(algorithm.algorithm, &self.username, &realm, &self.password);
        let subject = Subject { method: "AUTH", uri: &uri, nonce: &nonce, is_session: algorithm.is_session, body: &[] };
        let credentials = Credentials {
            username: self.username.clone(),
            is_user_hash: false,
            response: response_to(&hash, &subject, Some(&protection)),
            realm,
            nonce,
            uri,
            algorithm: Some(algorithm.to_string()),
            opaque,
            protection: Some(protection),
        };
        Some(credentials.to_string())
    }
}
