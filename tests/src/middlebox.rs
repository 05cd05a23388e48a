//! A middlebox between a client and the server: SIP over UDP passes through it, Contact names it, and in every session description `c=` and
//! `m=` are changed so that the media pass through it, too. It understands nothing of MSRP and leaves paths alone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// The middlebox. It ends with the value.
pub struct Middlebox {
    address: SocketAddr,
    anchored: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Middlebox {
    /// Starts one, for one client.
    ///
    /// # Panics
    /// There are no sockets.
    pub async fn start(server: SocketAddr) -> Middlebox {
        let inside = UdpSocket::bind((server.ip(), 0)).await.expect("a socket");
        let outside = UdpSocket::bind((server.ip(), 0)).await.expect("a socket");
        let address = inside.local_addr().expect("an address");
        let anchored = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(pass(inside, outside, server, anchored.clone()));
        Middlebox { address, anchored, task }
    }

    /// Where the client sends its requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Media connections that went through it.
    #[must_use]
    pub fn anchored(&self) -> usize {
        self.anchored.load(Ordering::Relaxed)
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(inside: UdpSocket, outside: UdpSocket, server: SocketAddr, anchored: Arc<AtomicUsize>) {
    let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((length, from)) = inside.recv_from(&mut from_client) => {
                client = Some(from);
                // The server is to find the client here, and not behind.
                let own = outside.local_addr().expect("an address");
                let changed = renamed(changed(&from_client[..length], &anchored).await, from, own);
                let _ = outside.send_to(&changed, server).await;
            }
            Ok((length, _)) = outside.recv_from(&mut from_server) => {
                let Some(client) = client else { continue };
                let own = outside.local_addr().expect("an address");
                let changed = renamed(changed(&from_server[..length], &anchored).await, own, client);
                let _ = inside.send_to(&changed, client).await;
            }
        }
    }
}

/// With another address in Contact and in the request line.
fn renamed(message: Vec<u8>, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let Ok(text) = String::from_utf8(message.clone()) else { return message };
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return message };
    let renames = |(at, line): (usize, &str)| {
        let is_place = at == 0 || line.to_ascii_lowercase().starts_with("contact:");
        if is_place { line.replace(&from.to_string(), &to.to_string()) } else { line.to_owned() }
    };
    let head: Vec<String> = head.split("\r\n").enumerate().map(renames).collect();
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

/// The message with what the middlebox makes of its session description.
async fn changed(message: &[u8], anchored: &Arc<AtomicUsize>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(message) else { return message.to_vec() };
    let Some((head, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.contains("m=message ")) else {
        return message.to_vec();
    };
    let value = |beginning: &str| body.lines().find_map(|line| line.strip_prefix(beginning)).unwrap_or_default();
    let family = if body.contains("\r\nc=IN IP6 ") { "c=IN IP6 " } else { "c=IN IP4 " };
    let host: Option<IpAddr> = value(family).parse().ok();
    let port = value("m=message ").split(' ').next().and_then(|port| port.parse::<u16>().ok());
    let (Some(host), Some(port)) = (host, port) else { return message.to_vec() };
    // Who connects itself listens nowhere.
    if port == 9 {
        return message.to_vec();
    }
    let anchor = anchor(SocketAddr::new(host, port), anchored.clone()).await;
    let body = body.replace(&format!("{family}{host}"), &format!("{family}{}", anchor.ip()));
    let body = body.replace(&format!("m=message {port} "), &format!("m=message {} ", anchor.port()));
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let fields: Vec<&str> = head.split("\r\n").filter(|line| !is_length(line)).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", fields.join("\r\n"), body.len()).into_bytes()
}

/// A place whose connections are passed on to another.
async fn anchor(to: SocketAddr, anchored: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind((to.ip(), 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let Ok((mut came, _)) = listener.accept().await else { return };
        anchored.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut goes) = TcpStream::connect(to).await {
            let _ = tokio::io::copy_bidirectional(&mut came, &mut goes).await;
        }
    });
    address
}
