//! The files of TLS, and what is made of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::identity::{UriNames, expires_at, identities};
use super::verify::{AnyCertificate, ServerVerifier};

/// Largest file that is read: a bundle of every public authority has some hundred kilobytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Where certificates and keys are, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, with the chain behind it: shown to whoever connects to us, and to whom we connect.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs those that we connect to; default: whom the system believes.
    pub authorities: Option<PathBuf>,
    /// Who signs those that connect to us.
    pub client_authorities: Option<PathBuf>,
    /// What is asked of those that connect to us.
    pub client_certificates: ClientCertificates,
    /// How long a certificate that was replaced is still shown to peers of MSRP: sessions that are being set up named its
    /// fingerprint. Default: no longer.
    pub replaced_media_for: Duration,
}

/// What is asked of peers that connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    None,
    /// A certificate, but of no WebSocket, which browsers would give up; who has none is served, who has a bad one is not.
    Request,
    /// A certificate, or the handshake fails.
    Require,
}

/// What is known of our certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The domains that it names.
    pub names: Vec<Box<str>>,
    /// When it ends, in seconds since 1970; none where that cannot be told.
    pub expires_at_seconds: Option<u64>,
}

/// Why files cannot be used, or a connection cannot be encrypted.
#[derive(Clone, Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: Arc<io::Error>,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system names no authorities.
    #[error("the system has no certificate authorities: set tls.authorities")]
    NoAuthorities,
    /// A name that was forgotten, or that no certificate can have.
    #[error("not a name that a certificate can have")]
    UnknownName,
}

/// What is made of the files.
pub(super) struct Material {
    sip_server: Option<Arc<ServerConfig>>,
    sip_web_server: Option<Arc<ServerConfig>>,
    msrp_server: Option<Arc<ServerConfig>>,
    msrp_web_server: Option<Arc<ServerConfig>>,
    certificate: Option<CertificateStatus>,
    key: Option<Arc<CertifiedKey>>,
    /// Those of the file; the system's are read when they are needed.
    authorities: Option<RootCertStore>,
    client: OnceLock<Arc<ClientConfig>>,
    digest: [u8; 32],
}

impl TlsError {
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    fn unusable(path: &Path, reason: impl ToString) -> TlsError {
        TlsError::Unusable { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl TlsFiles {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.certificate, &self.key, &self.authorities, &self.client_authorities];
        files.into_iter().filter_map(Option::as_deref)
    }
}

impl Material {
    /// Of no files at all.
    pub(super) fn empty() -> Material {
        Material {
            sip_server: None,
            sip_web_server: None,
            msrp_server: None,
            msrp_web_server: None,
            certificate: None,
            key: None,
            authorities: None,
            client: OnceLock::new(),
            digest: [0; 32],
        }
    }

    pub(super) fn read(files: &TlsFiles) -> Result<Material, TlsError> {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut read = |path: &Path| {
            let bytes = read_bounded(path)?;
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(&bytes);
            Ok::<_, TlsError>(bytes)
        };
        let mut material = Material::empty();
        let authorities = |path: &Path, bytes: &[u8]| roots(path, bytes);
        if let Some(path) = &files.authorities {
            material.authorities = Some(authorities(path, &read(path)?)?);
        }
        let client_authorities = match &files.client_authorities {
            Some(path) => Some((path, authorities(path, &read(path)?)?)),
            None => None,
        };
        if let (Some(path), Some(key_path)) = (&files.certificate, &files.key) {
            let chain = certificates(path, &read(path)?)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key_path)?)
                .map_err(|error| TlsError::unusable(key_path, described(&error, "private key")))?;
            let certified = CertifiedKey::from_der(chain, key, &provider())
                .map_err(|error| TlsError::unusable(key_path, format!("it does not fit the certificate: {error}")))?;
            let own = certified.end_entity_cert().map_err(|error| TlsError::unusable(path, error))?;
            material.certificate =
                Some(CertificateStatus { names: identities(own), expires_at_seconds: expires_at(own) });
            let key = Arc::new(certified);
            let server = Arc::new(server(path, &key, client_authorities, files.client_certificates)?);
            // A browser gives up the WebSocket of a page when it is asked for a certificate, whether it has one or not.
            let of_pages = Arc::new(self::server(path, &key, None, ClientCertificates::None)?);
            material.sip_web_server = Some(match files.client_certificates {
                ClientCertificates::Require => Arc::clone(&server),
                ClientCertificates::None | ClientCertificates::Request => Arc::clone(&of_pages),
            });
            material.sip_server = Some(server);
            material.msrp_server = Some(Arc::new(server_of_anybody(path, &key)?));
            material.msrp_web_server = Some(of_pages);
            material.key = Some(key);
        }
        material.digest.copy_from_slice(digest.finish().as_ref());
        Ok(material)
    }

    /// What the files are, in short.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(super) fn certificate(&self) -> Option<&CertificateStatus> {
        self.certificate.as_ref()
    }

    pub(super) fn sip_server(&self) -> Option<Arc<ServerConfig>> {
        self.sip_server.clone()
    }

    pub(super) fn sip_web_server(&self) -> Option<Arc<ServerConfig>> {
        self.sip_web_server.clone()
    }

    pub(super) fn msrp_server(&self) -> Option<Arc<ServerConfig>> {
        self.msrp_server.clone()
    }

    pub(super) fn msrp_web_server(&self) -> Option<Arc<ServerConfig>> {
        self.msrp_web_server.clone()
    }

    /// Our certificate in DER.
    pub(super) fn own_certificate(&self) -> Option<CertificateDer<'static>> {
        Some(self.key.as_ref()?.end_entity_cert().ok()?.clone().into_owned())
    }

    /// For a connection of ours whose peer is believed by something else than who signed its certificate.
    pub(super) fn client_of_anybody(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let verifier = AnyCertificate { algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::NoAuthorities)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key)))),
            None => builder.with_no_client_auth(),
        };
        // Who was believed once was so for one session.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// For connections of ours. The system's authorities are many files: they are read when the first of these is made, and
    /// again as long as they cannot be.
    pub(super) async fn client(this: &Arc<Material>) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(made) = this.client.get() {
            return Ok(Arc::clone(made));
        }
        let material = Arc::clone(this);
        let made = tokio::task::spawn_blocking(move || {
            let made = material.make_client()?;
            Ok(Arc::clone(material.client.get_or_init(|| made)))
        });
        made.await.unwrap_or(Err(TlsError::NoAuthorities))
    }

    fn make_client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let (roots, uri_names) = match &self.authorities {
            Some(roots) => (roots.clone(), UriNames::Count),
            None => (roots_of_the_system()?, UriNames::CountBesideDnsNames),
        };
        let provider = provider();
        let verifier = ServerVerifier { roots, uri_names, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::NoAuthorities)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key)))),
            None => builder.with_no_client_auth(),
        };
        // Nor does a server show its certificate again.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn server(
    certificate: &Path,
    key: &Arc<CertifiedKey>,
    client_authorities: Option<(&PathBuf, RootCertStore)>,
    asked: ClientCertificates,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::unusable(certificate, error))?;
    let is_asked = client_authorities.is_some() && asked != ClientCertificates::None;
    let builder = match (asked, client_authorities) {
        (ClientCertificates::Request | ClientCertificates::Require, Some((path, roots))) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match asked {
                ClientCertificates::Require => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::unusable(path, error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    // Clients keep the sessions that they go on with: what is kept here would grow with them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if is_asked {
        // Who goes on with an earlier session is not looked at again: its certificate may be over by now, and its authority
        // not believed any more.
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = Ticketer::new().map_err(|error| TlsError::unusable(certificate, error))?;
    }
    Ok(config)
}

/// For MSRP: any certificate is taken, and whose it is looked at when the session is known.
fn server_of_anybody(certificate: &Path, key: &Arc<CertifiedKey>) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let verifier = AnyCertificate { algorithms: provider.signature_verification_algorithms };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::unusable(certificate, error))?
        .with_client_cert_verifier(Arc::new(verifier));
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    // The certificate of every connection is compared with what its session says.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let unreadable = |reason| TlsError::Unreadable { path: path.to_owned(), reason: Arc::new(reason) };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(TlsError::unusable(path, "more than 4 MiB"));
    }
    Ok(bytes)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| TlsError::unusable(path, described(&error, "certificate")))?;
    if found.is_empty() { Err(TlsError::unusable(path, "no certificate in it, expected PEM")) } else { Ok(found) }
}

fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        store.add(certificate).map_err(|error| TlsError::unusable(path, error))?;
    }
    Ok(store)
}

fn roots_of_the_system() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    // One that cannot be used takes nothing from the others.
    store.add_parsable_certificates(loaded.certs);
    if store.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(store) }
}

fn described(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("no {wanted} in it, expected PEM"),
        other => format!("not readable as PEM: {other}"),
    }
}
