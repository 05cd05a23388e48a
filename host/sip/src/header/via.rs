use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use super::{HeaderError, Parameters, check_parameters, parse_parameters, write_parameters};
use crate::uri::{find_parameter, host_address, parse_host_port};

/// One Via (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP` or whatever stands there.
    pub transport: String,
    /// sent-by host; IPv6 in brackets.
    pub host: String,
    /// sent-by port.
    pub port: Option<u16>,
    /// Parameters.
    pub parameters: Parameters,
}

impl Via {
    /// Parses one value.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<Via, HeaderError> {
        let parts = Parts::split(value)?;
        let sent_by = parts.sent_by();
        let (host, port) = parse_host_port(&sent_by).map_err(|_| HeaderError::Syntax)?;
        Ok(Via {
            transport: parts.transport.to_owned(),
            host: host.to_owned(),
            port,
            parameters: parse_parameters(parts.parameters)?,
        })
    }

    /// Whether a value is one, without taking it to pieces.
    ///
    /// # Errors
    /// Those of [`Via::parse`].
    pub fn check(value: &str) -> Result<(), HeaderError> {
        let parts = Parts::split(value)?;
        parse_host_port(&parts.sent_by()).map_err(|_| HeaderError::Syntax)?;
        check_parameters(parts.parameters)
    }

    /// `branch`.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        find_parameter(&self.parameters, "branch").filter(|branch| !branch.is_empty())
    }

    /// Whether `rport` was asked for.
    #[must_use]
    pub fn wants_rport(&self) -> bool {
        find_parameter(&self.parameters, "rport").is_some()
    }

    /// What a server adds on receipt (RFC 3261 §18.2.1, RFC 3581 §4): `received` where the host is not the source, or
    /// rport was asked for; the port in `rport` then.
    pub fn stamp(&mut self, source: SocketAddr) {
        let rport = self.wants_rport();
        let host = host_address(&self.host);
        self.parameters
            .retain(|(name, _)| !name.eq_ignore_ascii_case("received") && !name.eq_ignore_ascii_case("rport"));
        if rport {
            self.parameters.push(("rport".to_owned(), Some(source.port().to_string())));
        }
        let canonical = source.ip().to_canonical();
        if rport || host.map(|host| host.to_canonical()) != Some(canonical) {
            self.parameters.push(("received".to_owned(), Some(canonical.to_string())));
        }
    }

    /// Where a response goes over an unreliable transport (RFC 3261 §18.2.2, RFC 3581 §4), judged by what was really
    /// seen: the source address, and its port if rport was asked for, else the port of sent-by.
    ///
    /// Deviation: `maddr` is not followed; it would let anybody aim our answers.
    #[must_use]
    pub fn response_destination(&self, source: SocketAddr) -> SocketAddr {
        if self.wants_rport() { source } else { SocketAddr::new(source.ip(), self.port.unwrap_or(5060)) }
    }
}

/// Where the parts are.
struct Parts<'a> {
    transport: &'a str,
    sent_by: &'a str,
    parameters: &'a str,
}

impl<'a> Parts<'a> {
    fn split(value: &'a str) -> Result<Parts<'a>, HeaderError> {
        let mut protocol = value.splitn(3, '/');
        let (Some(name), Some(version), Some(rest)) = (protocol.next(), protocol.next(), protocol.next()) else {
            return Err(HeaderError::Syntax);
        };
        if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return Err(HeaderError::Syntax);
        }
        let rest = rest.trim_start();
        let (transport, rest) =
            rest.split_once(|blank: char| blank.is_ascii_whitespace()).ok_or(HeaderError::Syntax)?;
        if transport.is_empty() || !transport.bytes().all(crate::message_token) {
            return Err(HeaderError::Syntax);
        }
        let (sent_by, parameters) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        Ok(Parts { transport, sent_by: sent_by.trim(), parameters })
    }

    /// Blanks may stand around the colon (RFC 3261 §25.1 COLON), and nowhere else.
    fn sent_by(&self) -> Cow<'a, str> {
        if !self.sent_by.contains(|character: char| character.is_ascii_whitespace()) {
            return Cow::Borrowed(self.sent_by);
        }
        match self.sent_by.rsplit_once(':') {
            Some((host, port)) => Cow::Owned(format!("{}:{}", host.trim_end(), port.trim_start())),
            None => Cow::Borrowed(self.sent_by),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(formatter, ":{port}")?;
        }
        let mut parameters = String::new();
        write_parameters(&mut parameters, &self.parameters);
        formatter.write_str(&parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_but_valid_ones_are_read() {
        for text in [
            "SIP / 2.0 / UDP\r\n 192.0.2.2;branch=390skdjuw",
            "SIP  / 2.0\r\n / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,",
            "SIP/2.0/UDP first.example.com : 4000;ttl=16",
            "SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bKkdjuw",
            "SIP/2.0/TCP [2001:db8::9:255]:5060;branch=z9hG4bKas3;received=\"2001:db8::1\"",
        ] {
            let text = text.trim_end_matches([',', ' ']);
            assert!(Via::parse(text).is_ok(), "{text:?}");
        }
        for wrong in
            ["", "SIP/2.0/UDP", "SIP/2.0/UDP 192.0.2.15;;,;,,", "SIP/3.0/UDP a", "SIP/2.0/UDP a:b", "SIP/2.0/UDP a b"]
        {
            assert!(Via::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_source_is_noted_and_answered() {
        let source: SocketAddr = "192.0.2.9:4444".parse().unwrap();
        let mut via = Via::parse("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa").unwrap();
        assert_eq!(via.response_destination(source), "192.0.2.9:5070".parse().unwrap());
        via.stamp(source);
        assert_eq!(via.to_string(), "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;received=192.0.2.9");
        let mut via = Via::parse("SIP/2.0/UDP 192.0.2.9;rport;branch=z9hG4bKa").unwrap();
        assert_eq!(via.response_destination(source), source);
        via.stamp(source);
        assert_eq!(via.to_string(), "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa;rport=4444;received=192.0.2.9");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_parses_writes_back(text in "SIP/2.0/[A-Z]{1,4} [a-z.\\[\\]:0-9]{1,12}(;[a-z=\"0-9]{0,8}){0,3}") {
            prop_assert_eq!(Via::check(&text), Via::parse(&text).map(drop));
            if let Ok(parsed) = Via::parse(&text) {
                prop_assert_eq!(Via::parse(&parsed.to_string()).unwrap(), parsed);
            }
        }
    }
}
