//! Signatures of policies: who may sign, and whether somebody did.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Who may sign a tenant's policies: ed25519 public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers(Vec<[u8; 32]>);

impl Signers {
    /// From base64, as the configuration writes them.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(keys: &[String]) -> Result<Signers, String> {
        let parse = |key: &String| {
            let bytes = STANDARD.decode(key.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.ok_or_else(|| format!("{key:?} is not an ed25519 public key: expected 32 bytes in base64"))
        };
        keys.iter().map(parse).collect::<Result<_, _>>().map(Signers)
    }

    /// Checks a component's signature; every component will do where nobody has to sign.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, component: &[u8], signature: Option<&str>) -> Result<(), &'static str> {
        if self.0.is_empty() {
            return Ok(());
        }
        let signature = signature.ok_or(
            "this tenant accepts signed policies only: expected a detached ed25519 signature of the component",
        )?;
        let signature = STANDARD.decode(signature).map_err(|_| "the signature is not base64")?;
        let by = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(component, &signature).is_ok();
        if self.0.iter().any(by) { Ok(()) } else { Err("none of the tenant's signers made this signature") }
    }
}

/// A signature as files have it, 64 bytes or their base64, in base64.
///
/// # Errors
/// What was expected.
pub fn signature_from_file(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() == 64 {
        return Ok(STANDARD.encode(bytes));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    match STANDARD.decode(text) {
        Ok(decoded) if decoded.len() == 64 => Ok(text.to_owned()),
        _ => Err("expected an ed25519 signature: 64 bytes, or their base64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn a_signature_is_checked_where_somebody_has_to_sign() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let signers = Signers::parse(&[STANDARD.encode(pair.public_key())]).unwrap();
        let by = |pair: &Ed25519KeyPair| signature_from_file(pair.sign(b"component").as_ref()).unwrap();
        assert!(signers.check(b"component", Some(&by(&pair))).is_ok());
        for (component, signature) in [
            (b"component", Some(by(&other))),
            (b"c0mponent", Some(by(&pair))),
            (b"component", Some("!".to_owned())),
            (b"component", None),
        ] {
            assert!(signers.check(component, signature.as_deref()).is_err());
        }
        assert!(Signers::default().check(b"component", None).is_ok());
    }

    #[test]
    fn keys_and_signatures_are_read_as_they_are_written() {
        assert!(Signers::parse(&["AAAA".to_owned()]).unwrap_err().contains("32 bytes"));
        let text = STANDARD.encode([1; 64]);
        assert_eq!(signature_from_file(&[1; 64]).unwrap(), text);
        assert_eq!(signature_from_file(format!("{text}\n").as_bytes()).unwrap(), text);
        assert!(signature_from_file(b"short").is_err());
    }
}
