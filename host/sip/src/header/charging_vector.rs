use std::fmt;

use super::{HeaderError, parse_parameters, quote};
use crate::uri::find_parameter;

/// Longest icid-value that is kept.
const MAX_BYTES: usize = 256;

/// P-Charging-Vector (RFC 7315 §4.6): by what the accounts of one session or message are found in every network element.
/// Of its parameters those that say which session it is; the networks that were passed belong to the request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargingVector {
    /// icid-value: the IMS charging identity, unique worldwide.
    pub identity: String,
    /// related-icid (§5.6): the identity of another session that this one goes on from.
    pub related_identity: Option<String>,
}

impl ChargingVector {
    /// Parses a value.
    ///
    /// # Errors
    /// [`HeaderError::Missing`] without icid-value, [`HeaderError::Syntax`].
    pub fn parse(value: &str) -> Result<ChargingVector, HeaderError> {
        let parameters = parse_parameters(&format!(";{value}"))?;
        let of = |name: &str| find_parameter(&parameters, name).filter(|text| !text.is_empty());
        let fits = |text: &str| text.len() <= MAX_BYTES && text.chars().all(|it| !it.is_control());
        let identity = of("icid-value").ok_or(HeaderError::Missing)?;
        if !fits(identity) {
            return Err(HeaderError::Syntax);
        }
        let related_identity = of("related-icid").filter(|text| fits(text)).map(str::to_owned);
        Ok(ChargingVector { identity: identity.to_owned(), related_identity })
    }
}

impl fmt::Display for ChargingVector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "icid-value={}", quote(&self.identity))?;
        match &self.related_identity {
            Some(related) => write!(formatter, ";related-icid={}", quote(related)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_identity_is_found_however_it_is_written() {
        for (text, identity) in [
            (
                "icid-value=\"AyretyU0dm+6O2IrT5tAFrbHLso=023551024\";orig-ioi=home1.net",
                "AyretyU0dm+6O2IrT5tAFrbHLso=023551024",
            ),
            ("orig-ioi=a; ICID-Value=1234bc9876e ;icid-generated-at=192.0.6.8", "1234bc9876e"),
        ] {
            let vector = ChargingVector::parse(text).unwrap();
            assert_eq!((vector.identity.as_str(), vector.related_identity), (identity, None), "{text}");
        }
        for wrong in ["", "icid-value", "icid-value=\"\"", "orig-ioi=home1.net", "icid-value=\"x"] {
            assert!(ChargingVector::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(identity in "[ -~]{1,40}", related in proptest::option::of("[!-~]{1,40}")) {
            let vector = ChargingVector { identity, related_identity: related };
            prop_assert_eq!(ChargingVector::parse(&vector.to_string()).unwrap(), vector);
        }
    }
}
