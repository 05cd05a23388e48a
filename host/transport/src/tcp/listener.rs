use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::counters::{TransportCounters, count};
use crate::permit::{Admission, ConnectionPermit};

/// Connections that the system completes before they are accepted.
const BACKLOG: i32 = 1_024;
/// How long accepting rests after an error such as "too many open files", which would come again at once.
const REST_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Opens a listening socket; IPv6 ones take IPv6 only.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn open_listener(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(SocketProtocol::TCP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted server must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` says so; who has too many connections is closed at once.
pub(crate) async fn accept_all(
    listener: TcpListener,
    admission: Admission,
    counters: Arc<TransportCounters>,
    mut stop: watch::Receiver<bool>,
    mut accepted: impl FnMut(TcpStream, SocketAddr, ConnectionPermit),
) {
    loop {
        let result = tokio::select! {
            result = listener.accept() => result,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match result {
            Ok((stream, remote)) => match admission.admit(remote.ip()) {
                Some(permit) => {
                    count(&counters.connections_accepted);
                    super::configure(&stream, &super::TO_CLIENTS);
                    accepted(stream, remote, permit);
                }
                None => count(&counters.connections_refused),
            },
            Err(_) => {
                count(&counters.accept_errors);
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
        }
    }
}
