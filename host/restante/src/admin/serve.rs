//! Connections of the administration interface: few at a time, and none that says nothing.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Of these from one address, so that no single one holds the door shut.
const MAX_PER_ADDRESS: usize = 32;
/// Time for a request's head to come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time of a whole connection: a request and its answer take less.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Pause after an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is listened on.
pub enum Listening {
    /// In the data directory.
    Unix(UnixListener),
    /// For other machines.
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listening {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        Ok(match self {
            Listening::Unix(listener) => (Box::new(listener.accept().await?.0), None),
            Listening::Tcp(listener) => {
                let (stream, source) = listener.accept().await?;
                (Box::new(stream), Some(source.ip()))
            }
        })
    }
}

/// Connections of each address.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address, while it lives.
struct Share(Addresses, IpAddr);

impl Addresses {
    /// None: it has its share.
    fn share(&self, source: IpAddr) -> Option<Share> {
        let source = source.to_canonical();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Share(self.clone(), source))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// Serves until it is told to stop.
pub async fn serve(listening: Listening, routes: Router, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let addresses = Addresses::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, source)) => {
                let share = source.map(|source| addresses.share(source));
                if matches!(share, Some(None)) {
                    tracing::debug!(
                        "an address has all the connections to the administration interface that it may have"
                    );
                    continue;
                }
                let service = TowerToHyperService::new(routes.clone());
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    let _held = (permit, share);
                    // A connection that breaks off is its peer's affair.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the administration interface cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
