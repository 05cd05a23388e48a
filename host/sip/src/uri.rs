//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

/// Longest URI that is read, in bytes.
pub const MAX_URI_BYTES: usize = 4096;

/// What is wrong with a URI. The request gets 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// It is longer than [`MAX_URI_BYTES`].
    #[error("URI too long")]
    TooLong,
    /// It has no scheme.
    #[error("URI without a scheme")]
    NoScheme,
    /// A character that may not stand there.
    #[error("forbidden character in URI")]
    Character,
    /// No host, or one that cannot be.
    #[error("bad host in URI")]
    Host,
    /// No port number.
    #[error("bad port in URI")]
    Port,
    /// No telephone number.
    #[error("bad telephone number")]
    Number,
}

/// A URI by its scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uri {
    /// `sip:` or `sips:`
    Sip(SipUri),
    /// `tel:`
    Tel(TelUri),
    /// Any other, as written: scheme in lower case and the rest.
    Other(String, String),
}

/// `sip:user:password@host:port;parameters?headers`, the parts as written (percent escapes are kept).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// `sips:`
    pub secure: bool,
    /// User part.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Host; IPv6 in brackets.
    pub host: String,
    /// Port.
    pub port: Option<u16>,
    /// Parameters in order.
    pub parameters: Vec<(String, Option<String>)>,
    /// What follows `?`.
    pub headers: Option<String>,
}

/// `tel:number;parameters`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TelUri {
    /// With its visual separators.
    pub number: String,
    /// Parameters in order.
    pub parameters: Vec<(String, Option<String>)>,
}

impl Uri {
    /// Parses a whole text.
    ///
    /// # Errors
    /// [`UriError`]
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let (scheme, rest) = split_scheme(text)?;
        match Scheme::of(scheme) {
            Scheme::Sip { secure } => SipParts::split(rest)?.build(secure).map(Uri::Sip),
            Scheme::Tel => TelUri::parse(rest).map(Uri::Tel),
            Scheme::Other => Ok(Uri::Other(scheme.to_ascii_lowercase(), rest.to_owned())),
        }
    }

    /// Whether a text is a URI, without taking it to pieces. Says, too, whether it has `?headers`.
    ///
    /// # Errors
    /// Those of [`Uri::parse`].
    pub fn check(text: &str) -> Result<bool, UriError> {
        let (scheme, rest) = split_scheme(text)?;
        match Scheme::of(scheme) {
            Scheme::Sip { .. } => {
                let parts = SipParts::split(rest)?;
                parameters(parts.parameters).try_for_each(|parameter| parameter.map(drop))?;
                Ok(parts.headers.is_some())
            }
            Scheme::Tel => TelUri::parse(rest).map(|_| false),
            Scheme::Other => Ok(false),
        }
    }

    /// The SIP URI that it is, if any.
    #[must_use]
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Uri::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// The value of a parameter, an empty one for a flag.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = match self {
            Uri::Sip(uri) => &uri.parameters,
            Uri::Tel(uri) => &uri.parameters,
            Uri::Other(..) => return None,
        };
        find_parameter(parameters, name)
    }
}

/// The value of a parameter, an empty one for a flag.
#[must_use]
pub fn find_parameter<'a>(parameters: &'a [(String, Option<String>)], name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .find(|(parameter, _)| parameter.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_deref().unwrap_or(""))
}

impl SipUri {
    /// A plain one.
    #[must_use]
    pub fn new(user: Option<&str>, host: &str, port: Option<u16>) -> SipUri {
        SipUri {
            secure: false,
            user: user.map(str::to_owned),
            password: None,
            host: host.to_owned(),
            port,
            parameters: Vec::new(),
            headers: None,
        }
    }

    /// The port to connect to when no other is known (RFC 3263 §4.2).
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        let said = find_parameter(&self.parameters, "transport");
        let is_tls = || said.is_some_and(|name| name.eq_ignore_ascii_case("tls"));
        self.port.unwrap_or_else(|| if self.secure || is_tls() { 5061 } else { 5060 })
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), UriError> {
    if text.len() > MAX_URI_BYTES {
        return Err(UriError::TooLong);
    }
    let (scheme, rest) = text.split_once(':').ok_or(UriError::NoScheme)?;
    let scheme_fits = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !scheme_fits {
        return Err(UriError::NoScheme);
    }
    if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f || matches!(byte, b'<' | b'>' | b'"')) {
        return Err(UriError::Character);
    }
    Ok((scheme, rest))
}

enum Scheme {
    Sip { secure: bool },
    Tel,
    Other,
}

impl Scheme {
    fn of(text: &str) -> Scheme {
        match text {
            _ if text.eq_ignore_ascii_case("sip") => Scheme::Sip { secure: false },
            _ if text.eq_ignore_ascii_case("sips") => Scheme::Sip { secure: true },
            _ if text.eq_ignore_ascii_case("tel") => Scheme::Tel,
            _ => Scheme::Other,
        }
    }
}

/// Where the parts of a SIP URI are.
struct SipParts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    parameters: Option<&'a str>,
    headers: Option<&'a str>,
}

impl<'a> SipParts<'a> {
    fn split(rest: &'a str) -> Result<SipParts<'a>, UriError> {
        // '@' may stand escaped only, so the first one ends the user part.
        let (userinfo, rest) = split_optional_front(rest, '@');
        let (user, password) = match userinfo {
            Some("") => return Err(UriError::Character),
            Some(userinfo) => {
                let (user, password) = split_optional(userinfo, ':');
                (Some(user), password)
            }
            None => (None, None),
        };
        let (rest, headers) = split_optional(rest, '?');
        let (hostport, parameters) = split_optional(rest, ';');
        let (host, port) = parse_host_port(hostport)?;
        Ok(SipParts { user, password, host, port, parameters, headers })
    }

    fn build(self, secure: bool) -> Result<SipUri, UriError> {
        Ok(SipUri {
            secure,
            user: self.user.map(str::to_owned),
            password: self.password.map(str::to_owned),
            host: self.host.to_owned(),
            port: self.port,
            parameters: parse_parameters(self.parameters)?,
            headers: self.headers.map(str::to_owned),
        })
    }
}

fn split_optional(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn split_optional_front(text: &str, separator: char) -> (Option<&str>, &str) {
    match text.split_once(separator) {
        Some((before, after)) => (Some(before), after),
        None => (None, text),
    }
}

impl TelUri {
    fn parse(rest: &str) -> Result<TelUri, UriError> {
        let (number, parameters) = split_optional(rest, ';');
        let local = number.strip_prefix('+').unwrap_or(number);
        let digits = local.bytes().any(|byte| byte.is_ascii_hexdigit() || byte == b'*' || byte == b'#');
        let fits = local.bytes().all(|byte| byte.is_ascii_hexdigit() || b"*#-.()".contains(&byte));
        if !digits || !fits {
            return Err(UriError::Number);
        }
        Ok(TelUri { number: number.to_owned(), parameters: parse_parameters(parameters)? })
    }

    /// The number without visual separators (RFC 3966 §5.1.1).
    #[must_use]
    pub fn digits(&self) -> String {
        self.number.chars().filter(|character| !"-.()".contains(*character)).map(|it| it.to_ascii_lowercase()).collect()
    }

    /// `phone-context`.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        find_parameter(&self.parameters, "phone-context").filter(|context| !context.is_empty())
    }

    /// `+…`
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.number.starts_with('+')
    }
}

/// Host and port; IPv6 in brackets.
///
/// # Errors
/// [`UriError::Host`], [`UriError::Port`]
pub fn parse_host_port(text: &str) -> Result<(&str, Option<u16>), UriError> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(UriError::Host)?;
        let (host, rest) = text.split_at(end + 1);
        let inner = host.get(1..end).ok_or(UriError::Host)?;
        inner.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UriError::Host),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let name_fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || (!host.starts_with('[') && !host.bytes().all(name_fits)) {
        return Err(UriError::Host);
    }
    let port = match port {
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| UriError::Port)?)
        }
        Some(_) => return Err(UriError::Port),
        None => None,
    };
    Ok((host, port))
}

/// The address that a host is, if it is one: IPv4, or IPv6 in brackets as in a URI or without as in `received`.
#[must_use]
pub fn host_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn parse_parameters(text: Option<&str>) -> Result<Vec<(String, Option<String>)>, UriError> {
    parameters(text)
        .map(|parameter| parameter.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))))
        .collect()
}

fn parameters(text: Option<&str>) -> impl Iterator<Item = Result<(&str, Option<&str>), UriError>> {
    text.into_iter().flat_map(|text| text.split(';')).map(|parameter| {
        let (name, value) = split_optional(parameter, '=');
        if name.is_empty() { Err(UriError::Character) } else { Ok((name, value)) }
    })
}

impl fmt::Display for Uri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uri::Sip(uri) => uri.fmt(formatter),
            Uri::Tel(uri) => uri.fmt(formatter),
            Uri::Other(scheme, rest) => write!(formatter, "{scheme}:{rest}"),
        }
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            formatter.write_str(user)?;
            if let Some(password) = &self.password {
                write!(formatter, ":{password}")?;
            }
            formatter.write_str("@")?;
        }
        formatter.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(formatter, ":{port}")?;
        }
        write_parameters(formatter, &self.parameters)?;
        match &self.headers {
            Some(headers) => write!(formatter, "?{headers}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TelUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tel:{}", self.number)?;
        write_parameters(formatter, &self.parameters)
    }
}

fn write_parameters(formatter: &mut fmt::Formatter<'_>, parameters: &[(String, Option<String>)]) -> fmt::Result {
    for (name, value) in parameters {
        match value {
            Some(value) => write!(formatter, ";{name}={value}")?,
            None => write!(formatter, ";{name}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_where_the_rfc_puts_them() {
        let Uri::Sip(uri) = Uri::parse("sip:user;par=u%40x:p@[2001:db8::1]:5062;lr;maddr=1.2.3.4?a=b").unwrap() else {
            panic!()
        };
        assert_eq!(uri.user.as_deref(), Some("user;par=u%40x"));
        assert_eq!(uri.password.as_deref(), Some("p"));
        assert_eq!((uri.host.as_str(), uri.port), ("[2001:db8::1]", Some(5062)));
        assert_eq!(uri.parameters[0], ("lr".to_owned(), None));
        assert_eq!(uri.headers.as_deref(), Some("a=b"));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "bob",
            "sip:",
            "sip:@h",
            "sip:h:",
            "sip:h:99999",
            "sip:[::g]",
            "sip:a b@h",
            "<sip:h>",
            "tel:",
            "tel:+",
            "tel:x9y",
            "sip:h;;a",
        ] {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_is_an_address_in_whole_brackets_or_none() {
        let (ipv4, ipv6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::V6("2001:db8::1".parse().unwrap()));
        assert_eq!(host_address("192.0.2.1"), Some(ipv4));
        assert_eq!(host_address("[2001:DB8:0::1]"), Some(ipv6));
        assert_eq!(host_address("2001:db8::1"), Some(ipv6));
        for text in ["", "[]", "example.org", "]192.0.2.1[", "[192.0.2.1]", "[2001:db8::1", "2001:db8::1]", "[[::1]]"] {
            assert_eq!(host_address(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_parses_writes_back(text in "(sip:|sips:|tel:|x:)?[!-~ ]{0,40}") {
            prop_assert_eq!(Uri::check(&text).map(drop), Uri::parse(&text).map(drop));
            if let Ok(uri) = Uri::parse(&text) {
                let written = uri.to_string();
                prop_assert_eq!(Uri::parse(&written).unwrap(), uri);
            }
        }
    }
}
