use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// Names of one certificate that are looked at.
const MAX_NAMES: usize = 64;
/// A moment after every certificate's end.
const AFTER_ALL: u64 = u64::MAX / 2;

/// The SIP domains that a certificate names (RFC 5922 §7.1): hosts of `sip:` URIs in its subjectAltName, or where there are
/// none its DNS names. Wildcards name nobody (§7.2).
pub(super) fn identities(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris: Vec<Box<str>> = parsed.valid_uri_names().filter_map(domain_of).take(MAX_NAMES).collect();
    if !uris.is_empty() {
        return uris;
    }
    let names = parsed.valid_dns_names().filter(|name| !name.contains('*'));
    names.take(MAX_NAMES).map(|name| name.trim_end_matches('.').to_ascii_lowercase().into()).collect()
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
    fn a_certificate_says_when_it_ends() {
        assert_eq!(expires_at(&certificate(&["a.example"], &[])), Some(1_936_742_400));
        assert_eq!(expires_at(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
