//! TLS below SIP (RFC 3261 §26.2, RFC 5922) and below MSRP (RFC 4975 §14.4, RFC 8122).
//!
//! * [`Tls`]: certificate, key and authorities of this process, which can be read again while connections are open.
//! * `material`: the files, and what is made of them. `verify`: who is believed. `identity`: whom a certificate names.
//! * `names`: hosts that were asked for, as small numbers. `handshake`: from a connection to an encrypted one, in bounded
//!   time.

mod handshake;
mod identity;
mod material;
mod names;
mod verify;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use self::material::Material;
use self::names::AskedNames;
use crate::address::NameId;
use crate::permit::lock;

pub(crate) use self::handshake::{Handshakes, SecureStream, peer_certificate, peer_names};
pub use self::material::{CertificateStatus, ClientCertificates, TlsError, TlsFiles};

/// Names that a peer showed, or that we verified: host names in lower case (RFC 5922 §7.1).
pub type PeerNames = Arc<[Box<str>]>;

/// What this process shows and believes. What was read last holds for every handshake that begins after it; connections that
/// are open keep to theirs. Peers of MSRP are shown what was replaced for a while ([`TlsFiles::replaced_media_for`]), because
/// a session description named it.
pub struct Tls {
    files: TlsFiles,
    material: ArcSwap<Material>,
    replaced: ArcSwapOption<Replaced>,
    names: Mutex<AskedNames>,
    /// Held while files are read, by whoever reads them.
    reloading: Mutex<()>,
    reading: Mutex<Readings>,
}

/// What was shown before.
struct Replaced {
    material: Arc<Material>,
    /// From then on nobody is shown it.
    until: Instant,
}

/// What became of reading the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are what they were.
    Unchanged,
    /// They hold from now on.
    Taken,
}

/// What an operator asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsStatus {
    /// Our certificate, where there is one.
    pub certificate: Option<CertificateStatus>,
    /// How often files that had changed were taken.
    pub reloads: u64,
    /// How often they could not be.
    pub failed_reloads: u64,
    /// Why the files as they are now are not taken; none when they are.
    pub problem: Option<String>,
}

#[derive(Default)]
struct Readings {
    taken: u64,
    failed: u64,
    problem: Option<String>,
}

impl Tls {
    /// Reads the files. Without a certificate nothing is shown; without authorities the system's are believed.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn read(files: TlsFiles) -> Result<Arc<Tls>, TlsError> {
        let material = ArcSwap::from_pointee(Material::read(&files)?);
        Ok(Arc::new(Tls::of(files, material)))
    }

    /// Without a certificate, believing whom the system believes.
    #[must_use]
    pub fn without_files() -> Arc<Tls> {
        let material = ArcSwap::from_pointee(Material::empty());
        Arc::new(Tls::of(TlsFiles::default(), material))
    }

    fn of(files: TlsFiles, material: ArcSwap<Material>) -> Tls {
        let (names, reading) = (Mutex::default(), Mutex::default());
        Tls { files, material, replaced: ArcSwapOption::empty(), names, reloading: Mutex::new(()), reading }
    }

    /// Reads the files again. What cannot be used changes nothing. The system's authorities, where they are the ones, are read
    /// again with the next connection.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let _one_by_one = lock(&self.reloading);
        let read = Material::read(&self.files);
        let mut reading = lock(&self.reading);
        match read {
            Ok(material) => {
                reading.problem = None;
                let is_the_same = material.digest() == self.material.load().digest();
                if !is_the_same || self.files.authorities.is_none() {
                    let material = Arc::new(material);
                    let before = self.material.swap(Arc::clone(&material));
                    self.keep_for_media(before, &material);
                }
                if is_the_same {
                    return Ok(Reloaded::Unchanged);
                }
                reading.taken = reading.taken.saturating_add(1);
                Ok(Reloaded::Taken)
            }
            Err(error) => {
                let problem = Some(error.to_string());
                // Whoever watches a directory looks often; the same problem is one.
                if reading.problem != problem {
                    reading.failed = reading.failed.saturating_add(1);
                    reading.problem = problem;
                }
                Err(error)
            }
        }
    }

    /// One that is still shown stays, however often the files change: sessions named it first.
    fn keep_for_media(&self, before: Arc<Material>, now: &Material) {
        let (earlier, latest) = (before.own_certificate(), now.own_certificate());
        if earlier.is_some() && latest.is_some() && earlier != latest && self.replaced().is_none() {
            let until = Instant::now() + self.files.replaced_media_for;
            self.replaced.store(Some(Arc::new(Replaced { material: before, until })));
        }
    }

    /// What was replaced and is still shown.
    fn replaced(&self) -> Option<Arc<Material>> {
        let replaced = self.replaced.load_full()?;
        (replaced.until > Instant::now()).then(|| Arc::clone(&replaced.material))
    }

    fn media(&self) -> Arc<Material> {
        self.replaced().unwrap_or_else(|| self.material.load_full())
    }

    /// What is shown, and how reading it went.
    #[must_use]
    pub fn status(&self) -> TlsStatus {
        let reading = lock(&self.reading);
        TlsStatus {
            certificate: self.material.load().certificate().cloned(),
            reloads: reading.taken,
            failed_reloads: reading.failed,
            problem: reading.problem.clone(),
        }
    }

    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Whether there is a certificate to listen with.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.material.load().certificate().is_some()
    }

    /// A number for a host that requests are to go to, for [`crate::Target::Address`].
    #[must_use]
    pub fn name(&self, host: &str) -> NameId {
        lock(&self.names).number(host)
    }

    /// The host that a number stands for, as its certificate must name it: in lower case. None: it was forgotten.
    #[must_use]
    pub fn host(&self, name: NameId) -> Option<Arc<str>> {
        lock(&self.names).host(name)
    }

    pub(crate) fn sip_server(&self) -> Option<Arc<ServerConfig>> {
        self.material.load().sip_server()
    }

    /// For SIP over WebSocket.
    pub(crate) fn sip_web_server(&self) -> Option<Arc<ServerConfig>> {
        self.material.load().sip_web_server()
    }

    /// For MSRP over WebSocket: no session description says whose certificate is at either end, so the one that holds now is
    /// shown, and none is asked for.
    pub(crate) fn msrp_web_server(&self) -> Option<Arc<ServerConfig>> {
        self.material.load().msrp_web_server()
    }

    pub(crate) fn msrp_server(&self) -> Option<Arc<ServerConfig>> {
        self.media().msrp_server()
    }

    /// Our certificate for MSRP in DER, for its fingerprint; before it one that was replaced and is still shown. A peer may be
    /// shown any of them (RFC 8122 §5).
    #[must_use]
    pub fn media_certificates(&self) -> Vec<CertificateDer<'static>> {
        let replaced = self.replaced().and_then(|material| material.own_certificate());
        replaced.into_iter().chain(self.material.load().own_certificate()).collect()
    }

    /// What connects to a place where any certificate is taken first: whose it is has to be looked at.
    pub(crate) fn connector_to_anybody(&self) -> Result<TlsConnector, TlsError> {
        self.media().client_of_anybody().map(TlsConnector::from)
    }

    /// What connects to a place, and the name that the certificate there must show: the host that was asked for before it was
    /// looked up (RFC 5922 §7.2), else the address itself.
    pub(crate) async fn connector(
        &self,
        remote: SocketAddr,
        name: Option<NameId>,
    ) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
        let server_name = match name {
            None => ServerName::from(remote.ip()),
            Some(name) => {
                let host = self.host(name).ok_or(TlsError::UnknownName)?;
                ServerName::try_from(host.to_string()).map_err(|_| TlsError::UnknownName)?
            }
        };
        let config = Material::client(&self.material.load_full()).await?;
        Ok((TlsConnector::from(config), server_name))
    }
}
