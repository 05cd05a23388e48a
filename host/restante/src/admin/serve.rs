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
use restante_transport::source_of;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Of these from one source, so that no single one holds the door shut.
const MAX_PER_SOURCE: usize = 32;
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

/// Connections of each source: of an IPv4 address, or of the /64 network of an IPv6 address.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a source, while it lives.
struct Share(Sources, IpAddr);

impl Sources {
    /// None: it has its share.
    fn share(&self, address: IpAddr) -> Option<Share> {
        let source = source_of(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_default();
        if *count >= MAX_PER_SOURCE {
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
    let sources = Sources::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let share = address.map(|address| sources.share(address));
                if matches!(share, Some(None)) {
                    tracing::debug!(
                        "a source has all the connections to the administration interface that it may have"
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
                tracing::warn!(%error, "the administration interface cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_host_has_one_share_and_others_have_theirs() {
        let sources = Sources::default();
        let share = |text: String| sources.share(text.parse().unwrap());
        let mut held: Vec<_> = (0..MAX_PER_SOURCE).map(|number| share(format!("2001:db8::{number:x}"))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(share("2001:db8::ffff:1".into()).is_none());
        assert!(share("2001:db8:0:1::1".into()).is_some() && share("192.0.2.1".into()).is_some());
        let mapped: Vec<_> = (0..MAX_PER_SOURCE).map(|_| share("::ffff:192.0.2.1".into())).collect();
        assert!(mapped.iter().all(Option::is_some) && share("192.0.2.1".into()).is_none());
        held.pop();
        assert!(share("2001:db8::ffff:1".into()).is_some());
        drop((held, mapped));
        assert!(sources.0.lock().unwrap().is_empty(), "nothing is remembered about who is gone");
    }
}
