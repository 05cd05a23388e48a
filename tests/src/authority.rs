//! Who signs certificates, and the other end of TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::raw_sip::RawSip;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// There is no randomness.
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs one for these names: hosts, addresses, or `sip:` URIs.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    /// The same, over since long.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let (uris, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("sip:"));
        let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("an authority");
        Arc::new(roots)
    }
}

impl Issued {
    /// One that signed itself.
    ///
    /// # Panics
    /// There is no randomness.
    #[must_use]
    pub fn by_itself() -> Issued {
        let made = rcgen::generate_simple_self_signed(["nobody.invalid".to_owned()]).expect("a certificate");
        Issued { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// Its certificate in DER.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.chain().0.remove(0)
    }

    /// Writes both into a directory, as a deployment does: beside the old ones, then renamed. Gives their paths.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let write = |extension: &str, text: &str| {
            let path = directory.join(format!("{name}.{extension}"));
            let beside = directory.join(format!("{name}.{extension}.new"));
            std::fs::write(&beside, text).expect("a file");
            std::fs::rename(&beside, &path).expect("a file that is renamed");
            path
        };
        (write("pem", &self.certificate), write("key", &self.key))
    }

    fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate");
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key"))
    }
}

/// Connects, believing whom the authority signed for the address, and showing a certificate where there is one.
///
/// # Errors
/// The other side is not believed, or does not believe this one and says so at once.
///
/// # Panics
/// Nobody listens there.
pub async fn connect_tls(
    server: SocketAddr,
    authority: &Authority,
    own: Option<&Issued>,
) -> io::Result<TlsStream<TcpStream>> {
    connect_tls_again(server, &client_config(authority, own)).await
}

/// What [`connect_tls`] connects with; it remembers the sessions that a server would go on with.
///
/// # Panics
/// The certificate is none.
#[must_use]
pub fn client_config(authority: &Authority, own: Option<&Issued>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(authority.roots());
    Arc::new(match own.map(Issued::chain) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a certificate and its key"),
        None => builder.with_no_client_auth(),
    })
}

/// Connects, going on with an earlier session where the server does.
///
/// # Errors
/// As [`connect_tls`].
///
/// # Panics
/// Nobody listens there.
pub async fn connect_tls_again(server: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server).await.expect("a listener");
    let name = ServerName::from(server.ip());
    Ok(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?.into())
}

/// Whether whoever connects there is asked for a certificate.
///
/// # Panics
/// Nobody listens there, or it is not believed.
pub async fn is_asked_for_a_certificate(server: SocketAddr, authority: &Authority) -> bool {
    let asked = Arc::new(Asked::default());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(authority.roots())
        .with_client_cert_resolver(Arc::<Asked>::clone(&asked));
    connect_tls_again(server, &Arc::new(config)).await.expect("TLS");
    asked.0.load(Ordering::Relaxed)
}

/// Has no certificate, and notes that it was asked for one.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A listener for TLS whose other end a story plays itself.
pub struct TlsPeer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsPeer {
    /// One that shows this certificate, and demands one that `asks` signed.
    ///
    /// # Panics
    /// There is no port.
    pub async fn start(host: IpAddr, shown: &Issued, asks: Option<&Authority>) -> TlsPeer {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let (chain, key) = shown.chain();
        let config = match asks {
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider());
                builder.with_client_cert_verifier(verifier.build().expect("a verifier")).with_single_cert(chain, key)
            }
            None => builder.with_no_client_auth().with_single_cert(chain, key),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")));
        TlsPeer { listener, acceptor }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket")
    }

    /// The next connection, after its handshake.
    ///
    /// # Errors
    /// The handshake failed: whoever connected does not believe this side, or is not believed.
    ///
    /// # Panics
    /// Nothing can be accepted.
    pub async fn accept(&self) -> io::Result<RawSip> {
        let stream = self.accept_stream().await?;
        let remote = stream.get_ref().0.peer_addr()?;
        Ok(RawSip::over(Box::new(stream), "TLS", self.address(), remote))
    }

    /// The same as a stream.
    ///
    /// # Errors
    /// As [`TlsPeer::accept`].
    ///
    /// # Panics
    /// Nothing can be accepted.
    pub async fn accept_stream(&self) -> io::Result<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        self.acceptor.accept(stream).await.map(TlsStream::from)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
