use super::{HeaderError, NameAddr};

/// One Contact (RFC 3261 §20.10, RFC 3840 §9, RFC 5626 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactValue {
    /// Address and parameters.
    pub address: NameAddr,
}

impl ContactValue {
    /// Parses one value, which is not `*`.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<ContactValue, HeaderError> {
        let contact = ContactValue { address: NameAddr::parse(value)? };
        contact.q_permille()?;
        Ok(contact)
    }

    /// `q`, 0 to 1000; 1000 when absent.
    ///
    /// # Errors
    /// [`HeaderError::Number`]
    pub fn q_permille(&self) -> Result<u16, HeaderError> {
        let Some(text) = self.address.parameter("q") else { return Ok(1000) };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !matches!(whole, "0" | "1") || fraction.len() > 3 || !digits(fraction) {
            return Err(HeaderError::Number);
        }
        let fraction: u16 = format!("{fraction:0<3}").parse().map_err(|_| HeaderError::Number)?;
        let value = if whole == "1" { 1000 + fraction } else { fraction };
        if value > 1000 { Err(HeaderError::Number) } else { Ok(value) }
    }

    /// `expires` in seconds; none when absent or no number.
    ///
    /// Deviation: RFC 3261 §10.2 takes what is no number for 3600; here Expires decides then, as when it is absent.
    #[must_use]
    pub fn expires_seconds(&self) -> Option<u32> {
        self.address.parameter("expires").and_then(|text| text.parse().ok())
    }

    /// `+sip.instance` without its angle brackets.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        let text = self.address.parameter("+sip.instance")?;
        Some(text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text))
    }

    /// `reg-id`.
    #[must_use]
    pub fn reg_id(&self) -> Option<u32> {
        self.address.parameter("reg-id").and_then(|text| text.parse().ok())
    }

    /// Feature tags: every parameter that is not of the registration itself.
    pub fn feature_tags(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.address
            .parameters
            .iter()
            .filter(|(name, _)| {
                !["q", "expires", "reg-id", "+sip.instance"].iter().any(|known| known.eq_ignore_ascii_case(name))
            })
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}
