//! A socket that says what no client would.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket as PlainUdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use restante_sip::framing::{Frame, StreamFramer};
use restante_sip::message::{MessageLimits, Method, Name, SipMessage};
use restante_sip::writer::{Builder, reason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::authority::{Authority, Issued, connect_tls};
use crate::patience::in_time;

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A bare socket towards a server. What comes is read when it is asked for. Over UDP a request comes again when it was
/// not answered soon, as happens on a busy machine: only the first copy is given out.
pub struct RawSip {
    socket: Socket,
    local: SocketAddr,
    server: SocketAddr,
    /// Came, and was not what was asked for.
    unread: VecDeque<SipMessage>,
    /// Branch and method of the requests that came over UDP.
    known: HashSet<(String, String)>,
}

/// What carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

enum Socket {
    Udp(UdpSocket),
    Stream(Box<dyn Duplex>, &'static str, Box<StreamFramer>),
    Web(Box<WebSocketStream<Box<dyn Duplex>>>, &'static str),
}

impl RawSip {
    /// A UDP socket.
    ///
    /// # Panics
    /// There is none.
    pub async fn udp(bind: IpAddr, server: SocketAddr) -> RawSip {
        RawSip::udp_at(SocketAddr::new(bind, 0), server).await
    }

    /// A UDP socket at a certain place.
    ///
    /// # Panics
    /// It is taken.
    pub async fn udp_at(place: SocketAddr, server: SocketAddr) -> RawSip {
        let socket = UdpSocket::bind(place).await.unwrap_or_else(|error| panic!("a UDP socket at {place}: {error}"));
        let local = socket.local_addr().expect("a bound socket");
        RawSip::on(Socket::Udp(socket), local, server)
    }

    /// A UDP socket that was there before the server, which was told of it.
    ///
    /// # Panics
    /// It cannot be used.
    #[must_use]
    pub fn udp_on(socket: PlainUdpSocket, server: SocketAddr) -> RawSip {
        socket.set_nonblocking(true).expect("a socket");
        let socket = UdpSocket::from_std(socket).expect("a socket");
        let local = socket.local_addr().expect("a bound socket");
        RawSip::on(Socket::Udp(socket), local, server)
    }

    fn on(socket: Socket, local: SocketAddr, server: SocketAddr) -> RawSip {
        let (unread, known) = (VecDeque::new(), HashSet::new());
        RawSip { socket, local, server, unread, known }
    }

    /// A UDP socket behind an address translation, which lets through what comes from where something was sent to.
    ///
    /// # Panics
    /// There is none.
    pub async fn udp_behind_nat(bind: IpAddr, server: SocketAddr) -> RawSip {
        let raw = RawSip::udp(bind, server).await;
        if let Socket::Udp(socket) = &raw.socket {
            socket.connect(server).await.expect("an address");
        }
        raw
    }

    /// A TCP connection.
    ///
    /// # Panics
    /// The server does not take it.
    pub async fn tcp(server: SocketAddr) -> RawSip {
        let stream = in_time("a TCP connection", TcpStream::connect(server)).await.expect("a TCP connection");
        let local = stream.local_addr().expect("a connected socket");
        RawSip::over(Box::new(stream), "TCP", local, server)
    }

    /// A stream that is there already, with the name of its transport in a Via.
    #[must_use]
    pub fn over(stream: Box<dyn Duplex>, transport: &'static str, local: SocketAddr, server: SocketAddr) -> RawSip {
        let framer = Box::new(StreamFramer::new(MessageLimits::default()));
        RawSip::on(Socket::Stream(stream, transport, framer), local, server)
    }

    /// A TLS connection to a server that an authority signed, showing a certificate where there is one.
    ///
    /// # Panics
    /// The server is not believed.
    pub async fn tls(server: SocketAddr, authority: &Authority, own: Option<&Issued>) -> RawSip {
        let stream = in_time("a TLS connection", connect_tls(server, authority, own)).await.expect("a TLS connection");
        let local = stream.get_ref().0.local_addr().expect("a connected socket");
        RawSip::over(Box::new(stream), "TLS", local, server)
    }

    /// A WebSocket on a stream that is there already: over `WS` or `WSS`, for a sub-protocol, from a page.
    ///
    /// # Errors
    /// The status that the server answers instead; 0 when it answers nothing.
    pub async fn web(
        stream: Box<dyn Duplex>,
        transport: &'static str,
        (local, server): (SocketAddr, SocketAddr),
        (sub_protocol, origin): (Option<&str>, Option<&str>),
    ) -> Result<RawSip, u16> {
        let uri = format!("ws://{server}/").parse().expect("a URI");
        let request = ClientRequestBuilder::new(uri);
        let request = sub_protocol.into_iter().fold(request, ClientRequestBuilder::with_sub_protocol);
        let request = origin.into_iter().fold(request, |request, origin| request.with_header("Origin", origin));
        match in_time("an answer to the WebSocket", client_async(request, stream)).await {
            Ok((socket, _)) => Ok(RawSip::on(Socket::Web(Box::new(socket), transport), local, server)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(_) => Err(0),
        }
    }

    /// Sends a frame of any kind.
    ///
    /// # Panics
    /// It does not leave, or this is no WebSocket.
    pub async fn send_frame(&mut self, frame: Message) {
        let Socket::Web(socket, _) = &mut self.socket else { panic!("not a WebSocket") };
        socket.send(frame).await.expect("a frame leaves");
    }

    /// The next frame; none when the server closed.
    ///
    /// # Panics
    /// None comes, or this is no WebSocket.
    pub async fn next_frame(&mut self) -> Option<Message> {
        let Socket::Web(socket, _) = &mut self.socket else { panic!("not a WebSocket") };
        in_time("a frame", socket.next()).await.and_then(Result::ok).filter(|frame| !frame.is_close())
    }

    /// Its address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport as a Via names it.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match self.socket {
            Socket::Udp(_) => "UDP",
            Socket::Stream(_, transport, _) | Socket::Web(_, transport) => transport,
        }
    }

    /// A request of Alice's with all that a request needs, new in every way.
    #[must_use]
    pub fn request(&self, method: &str, uri: &str) -> Request {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let field = |name: &str, value: String| (name.to_owned(), value);
        Request {
            line: format!("{method} {uri} SIP/2.0"),
            fields: vec![
                field("Via", format!("SIP/2.0/{} {};branch=z9hG4bKraw{number};rport", self.transport(), self.local)),
                field("Max-Forwards", "70".to_owned()),
                field("From", format!("<sip:alice@example.org>;tag=raw{number}")),
                field("To", format!("<{uri}>")),
                field("Call-ID", format!("raw{number}")),
                field("CSeq", format!("1 {method}")),
            ],
            body: Bytes::new(),
        }
    }

    /// A request in the dialog of an answer to an INVITE, along its Record-Route.
    ///
    /// # Panics
    /// The answer makes no dialog.
    #[must_use]
    pub fn in_dialog(&self, invite: &Request, answer: &SipMessage, method: &str, cseq: u32) -> Request {
        let target = answer.contacts().expect("a Contact").remove(0).address.uri.to_string();
        let request = self
            .request(method, &target)
            .set("From", invite.field("From"))
            .set("To", answer.header_by_text("To").expect("a To"))
            .set("Call-ID", invite.field("Call-ID"))
            .set("CSeq", &format!("{cseq} {method}"));
        let routes: Vec<String> = answer.list(Name::RecordRoute).map(str::to_owned).collect();
        routes.iter().rev().fold(request, |request, route| request.with("Route", route))
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// They do not leave.
    pub async fn send(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => _ = socket.send_to(bytes, self.server).await.expect("a datagram leaves"),
            Socket::Stream(stream, ..) => {
                stream.write_all(bytes).await.expect("bytes leave");
                stream.flush().await.expect("bytes leave");
            }
            Socket::Web(..) => {
                let text = String::from_utf8(bytes.to_vec());
                let frame = text.map_or_else(|_| Message::binary(bytes.to_vec()), Message::text);
                self.send_frame(frame).await;
            }
        }
    }

    /// Sends a request and gives its final answer.
    ///
    /// # Panics
    /// None comes.
    pub async fn ask(&mut self, request: &Request) -> SipMessage {
        self.send(&request.bytes()).await;
        self.answer_to(request).await
    }

    /// The same over a stream that the server may have closed.
    ///
    /// # Panics
    /// Neither an answer comes nor the end.
    pub async fn try_ask(&mut self, request: &Request) -> Option<SipMessage> {
        let Socket::Stream(stream, _, framer) = &mut self.socket else { return Some(self.ask(request).await) };
        stream.write_all(&request.bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let answer = async {
            loop {
                if let Some(Frame::Message(message)) = framer.next().ok()? {
                    return Some(message);
                }
                let mut buffer = vec![0; 65_536];
                let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
                framer.push(buffer.get(..length).unwrap_or_default());
            }
        };
        in_time("an answer, or the end of the stream", answer).await
    }

    /// The next final answer to a request that was sent.
    ///
    /// # Panics
    /// None comes.
    pub async fn answer_to(&mut self, request: &Request) -> SipMessage {
        let (call_id, cseq) = (request.field("Call-ID").to_owned(), request.field("CSeq").to_owned());
        let branch = request.branch().map(str::to_owned);
        let what = format!("a final answer to {} of {call_id}", request.line);
        self.expect(&what, |message| {
            message.status().is_some_and(|status| status >= 200)
                && message.call_id() == Some(&call_id)
                && message.header_by_text("CSeq") == Some(&cseq)
                && branch.as_deref().is_none_or(|branch| may_be_of(message, branch))
        })
        .await
    }

    /// Answers a request of the server.
    ///
    /// # Panics
    /// It cannot be answered.
    pub async fn respond(&mut self, request: &SipMessage, status: u16) {
        self.respond_with(request, status, &[]).await;
    }

    /// The same with further fields.
    ///
    /// # Panics
    /// It cannot be answered.
    pub async fn respond_with(&mut self, request: &SipMessage, status: u16, fields: &[(&str, &str)]) {
        let answer = Builder::response(request, status, reason(status), None, Some("story"));
        let answer = fields.iter().fold(answer, |answer, (name, value)| answer.field(name, value)).finish();
        self.send(&answer.expect("a request that can be answered")).await;
    }

    /// The next message that is of this kind; others wait.
    ///
    /// # Panics
    /// None comes.
    pub async fn expect(&mut self, what: &str, is_it: impl Fn(&SipMessage) -> bool) -> SipMessage {
        if let Some(at) = self.unread.iter().position(&is_it) {
            return self.unread.remove(at).expect("it was found");
        }
        let wait = async {
            loop {
                let message = self.receive().await;
                if self.is_repeated(&message) {
                    continue;
                }
                if is_it(&message) {
                    return message;
                }
                self.unread.push_back(message);
            }
        };
        in_time(what, wait).await
    }

    /// What came and was not asked for.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        let line = |message: &SipMessage| {
            String::from_utf8_lossy(message.bytes().split(|byte| *byte == b'\r').next().unwrap_or_default())
                .into_owned()
        };
        self.unread.iter().map(line).collect()
    }

    /// The same when all was read that came before the answer to one request more.
    ///
    /// # Panics
    /// It is not answered.
    pub async fn unread_by_now(&mut self) -> Vec<String> {
        let options = self.request("OPTIONS", "sip:example.org");
        self.ask(&options).await;
        self.unread()
    }

    /// Waits until the peer closes its stream.
    ///
    /// # Panics
    /// It does not, or this is no stream.
    pub async fn until_closed(&mut self) {
        if let Socket::Web(..) = self.socket {
            while self.next_frame().await.is_some() {}
            return;
        }
        let Socket::Stream(stream, ..) = &mut self.socket else { panic!("not a stream") };
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = in_time("the server closes the stream", stream.read_to_end(&mut rest)).await;
    }

    /// An ACK comes for each answer, and is none.
    fn is_repeated(&mut self, message: &SipMessage) -> bool {
        let Some(method) = message.method().filter(|method| message.is_request() && *method != Method::Ack) else {
            return false;
        };
        let is_datagram = matches!(self.socket, Socket::Udp(_));
        let Some(branch) = message.top_via().ok().and_then(|via| via.branch().map(str::to_owned)) else { return false };
        is_datagram && !self.known.insert((branch, method.as_str().to_owned()))
    }

    async fn receive(&mut self) -> SipMessage {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut buffer = vec![0; 65_536];
                let (length, _) = socket.recv_from(&mut buffer).await.expect("a datagram");
                buffer.truncate(length);
                SipMessage::from_datagram(buffer.into(), &MessageLimits::default()).expect("a SIP message")
            }
            Socket::Web(..) => loop {
                let frame = self.next_frame().await.expect("a WebSocket that goes on");
                if frame.is_ping() || frame.is_pong() {
                    continue;
                }
                let message = SipMessage::from_datagram(frame.into_data(), &MessageLimits::default());
                return message.expect("a SIP message in a frame");
            },
            Socket::Stream(stream, _, framer) => loop {
                match framer.next().expect("a SIP stream") {
                    Some(Frame::Message(message)) => return message,
                    Some(Frame::Ping) => {}
                    None => {
                        let mut buffer = vec![0; 65_536];
                        let length = stream.read(&mut buffer).await.expect("a stream that goes on");
                        assert!(length > 0, "the server closed the stream");
                        framer.push(buffer.get(..length).unwrap_or_default());
                    }
                }
            },
        }
    }
}

/// Whether an answer is not one to another transaction: over UDP a refusal of an INVITE comes again until somebody
/// acknowledges it, and may be read when the same INVITE was sent once more, with a password.
fn may_be_of(answer: &SipMessage, branch: &str) -> bool {
    answer.top_via().ok().is_none_or(|via| via.branch().is_none_or(|its| its == branch))
}

/// A request as text, to be changed at will.
#[derive(Clone, Debug)]
pub struct Request {
    /// Request line.
    pub line: String,
    /// Header fields.
    pub fields: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl Request {
    /// The first field of that name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &field.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    /// The branch of its first Via; none where that is not written as usual.
    fn branch(&self) -> Option<&str> {
        let (_, via) = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("Via"))?;
        via.split(";branch=").nth(1)?.split([';', ',', ' ', '\r']).next()
    }

    /// With another method and Request-URI.
    #[must_use]
    pub fn line_of(self, method: &str, uri: &str) -> Request {
        Request { line: format!("{method} {uri} SIP/2.0"), ..self }
    }

    /// With this field, instead of any of that name.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Request {
        match self.fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => value.clone_into(known),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without the fields of that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Request {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Request {
        Request { body: body.into(), ..self.set("Content-Type", content_type) }
    }

    /// With text as body.
    #[must_use]
    pub fn text(self, text: &str) -> Request {
        self.body("text/plain", text.as_bytes().to_vec())
    }

    /// The same request in a new transaction.
    #[must_use]
    pub fn new_transaction(self) -> Request {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let via = self.field("Via").to_owned();
        let sent_by = via.split(';').next().unwrap_or_default().to_owned();
        self.set("Via", &format!("{sent_by};branch=z9hG4bKnew{number};rport"))
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("Content-Length")) {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat().into()
    }
}
