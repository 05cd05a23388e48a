use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// Names of one certificate that are kept.
const MAX_NAMES: usize = 64;
/// A moment after every certificate's end.
const AFTER_ALL: u64 = u64::MAX / 2;

/// The SIP domains that a certificate names (RFC 5922 §7.1): hosts of `sip:` URIs in its subjectAltName, or where there are
/// none its DNS names. Wildcards name nobody (§7.2).
pub(super) fn identities(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris: Vec<Box<str>> = parsed.valid_uri_names().filter_map(domain_of).take(MAX_NAMES).collect();
    if uris.is_empty() { dns_names(&parsed).take(MAX_NAMES).collect() } else { uris }
}

/// What the `sip:` URIs of a certificate are worth.
///
/// Name constraints of an authority are for DNS names and addresses; what it may say in URIs is not looked at by the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UriNames {
    /// An operator chose who signs: they count.
    Count,
    /// Anybody's authorities sign, within their constraints: they count for domains that are among the DNS names, too.
    CountBesideDnsNames,
}

/// Whether a certificate names a domain, given in lower case: as [`identities`], but for however many names.
pub(super) fn is_named(certificate: &CertificateDer<'_>, wanted: &str, uris: UriNames) -> bool {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
    let is_dns_name = || dns_names(&parsed).any(|name| *name == *wanted);
    let mut domains = parsed.valid_uri_names().filter_map(domain_of).peekable();
    match domains.peek() {
        None => is_dns_name(),
        Some(_) => domains.any(|domain| *domain == *wanted) && (uris == UriNames::Count || is_dns_name()),
    }
}

fn dns_names<'a>(certificate: &'a EndEntityCert<'_>) -> impl Iterator<Item = Box<str>> + use<'a> {
    let names = certificate.valid_dns_names().filter(|name| !name.contains('*'));
    names.map(|name| name.trim_end_matches('.').to_ascii_lowercase().into())
}

/// When a certificate ends, in seconds since 1970.
pub(super) fn expires_at(certificate: &CertificateDer<'_>) -> Option<u64> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let after_all = UnixTime::since_unix_epoch(Duration::from_secs(AFTER_ALL));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    // The library says when a certificate ended to whoever asks whether it is valid later: before it looks for an issuer.
    match parsed.verify_for_usage(algorithms.all, &[], &[], after_all, KeyUsage::server_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}

/// The domain that a `sip:` URI without a user stands for.
fn domain_of(uri: &str) -> Option<Box<str>> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_domain = scheme.eq_ignore_ascii_case("sip") && !rest.contains('@');
    let end = rest.find([':', ';', '?']).unwrap_or(rest.len());
    let host = rest.get(..end)?.trim_end_matches('.');
    (is_domain && !host.is_empty()).then(|| host.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str], uris: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.not_after = rcgen::date_time_ymd(2031, 5, 17);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_names_domains_and_no_wildcards() {
        for (names, uris, expected) in [
            (
                &["Proxy.Example.org", "*.example.net", "b.example.org"][..],
                &[][..],
                vec!["proxy.example.org", "b.example.org"],
            ),
            (
                &["host7.example.org"],
                &["sip:Example.org", "sip:bob@example.net", "https://example.com"],
                vec!["example.org"],
            ),
            (&["host7.example.org"], &["sip:bob@example.net", "sips:example.net"], vec!["host7.example.org"]),
            (&[], &["sip:example.org:5061;x"], vec!["example.org"]),
            (&["192.0.2.1"], &[], vec![]),
        ] {
            let found = identities(&certificate(names, uris));
            assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{names:?} {uris:?}");
        }
        assert!(identities(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }

    #[test]
    fn every_name_is_looked_at_and_uris_count_as_far_as_their_authority_does() {
        let many: Vec<String> = (0..200).map(|number| format!("h{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (hosted, domain) = (certificate(&many, &[]), certificate(&["a.example", "b.example"], &["sip:a.example"]));
        let only_uri = certificate(&["host.example"], &["sip:a.example"]);
        for (certificate, wanted, is_known, is_anybodys) in [
            (&hosted, "h199.example", true, true),
            (&hosted, "h200.example", false, false),
            (&domain, "a.example", true, true),
            (&domain, "b.example", false, false),
            (&only_uri, "a.example", true, false),
            (&only_uri, "host.example", false, false),
        ] {
            assert_eq!(is_named(certificate, wanted, UriNames::Count), is_known, "{wanted}");
            assert_eq!(is_named(certificate, wanted, UriNames::CountBesideDnsNames), is_anybodys, "{wanted}");
        }
        assert!(!is_named(&CertificateDer::from(vec![1, 2, 3]), "a.example", UriNames::Count));
    }

    #[test]
    fn a_certificate_says_when_it_ends() {
        assert_eq!(expires_at(&certificate(&["a.example"], &[])), Some(1_936_742_400));
        assert_eq!(expires_at(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
