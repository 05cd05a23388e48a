//! An MSRP connection that says what no client would.

use std::net::SocketAddr;

use restante_msrp::framing::{Frame, Framer, FramingLimits, RequestHead, Response};
use restante_msrp::sdp::MsrpDescription;
use restante_sip::message::SipMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::patience::in_time;
use crate::raw_sip::{Duplex, RawSip, Request};

/// The path that offers name; nobody listens there.
pub(crate) const OUR_PATH: &str = "msrp://127.0.0.1:9/storyteller;tcp";

/// A connection to a session's place.
pub struct RawMsrp {
    stream: Box<dyn Duplex>,
    framer: Framer,
    /// The peer's path, as its session description names it.
    pub to_path: String,
    /// Where it says that it is.
    pub from_path: String,
    transactions: u32,
}

/// A request up to its content, or a response.
#[derive(Debug)]
pub enum Head {
    /// A request.
    Request(Box<RequestHead>),
    /// A response.
    Response(Box<Response>),
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MsrpReply {
    /// A response: transaction and status.
    Response(String, u16),
    /// A request: its method and Message-ID.
    Request(String, Option<String>),
    /// The connection is closed.
    Closed,
}

/// One SEND.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Message-ID.
    pub message_id: &'a str,
    /// First byte, from 1.
    pub first: usize,
    /// Bytes of the whole message.
    pub total: usize,
    /// Its content.
    pub content: &'a [u8],
    /// `$`, `+` or `#`.
    pub flag: char,
    /// Further header fields, each with its line end.
    pub fields: &'a str,
}

impl<'a> Chunk<'a> {
    /// A whole message.
    #[must_use]
    pub fn whole(message_id: &'a str, content: &'a [u8]) -> Chunk<'a> {
        Chunk { message_id, first: 1, total: content.len(), content, flag: '$', fields: "" }
    }
}

impl RawMsrp {
    /// An INVITE for a large message, with an offer that will connect itself.
    #[must_use]
    pub fn invitation(sip: &RawSip, to: &str) -> Request {
        let description = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
             a=path:{OUR_PATH}\r\na=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:active\r\na=sendonly\r\n"
        );
        let contact = format!("<sip:alice@{};transport={}>", sip.local(), sip.transport().to_ascii_lowercase());
        sip.request("INVITE", to).with("Contact", &contact).body("application/sdp", description.into_bytes())
    }

    /// Sends the INVITE, acknowledges its 200 and connects. Gives the 200, too.
    ///
    /// # Panics
    /// It is not taken.
    pub async fn establish(sip: &mut RawSip, to: &str) -> (RawMsrp, Request, SipMessage) {
        let invite = RawMsrp::invitation(sip, to);
        let answer = sip.ask(&invite).await;
        assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
        sip.send(&RawMsrp::ack(sip, &invite, &answer).bytes()).await;
        let connection = RawMsrp::connect(&answer).await;
        (connection, invite, answer)
    }

    /// The ACK for that answer.
    #[must_use]
    pub fn ack(sip: &RawSip, invite: &Request, answer: &SipMessage) -> Request {
        sip.in_dialog(invite, answer, "ACK", 1)
    }

    /// A BYE for that dialog.
    #[must_use]
    pub fn bye(sip: &RawSip, invite: &Request, answer: &SipMessage) -> Request {
        sip.in_dialog(invite, answer, "BYE", 2)
    }

    /// Connects to where an answer's session description says.
    ///
    /// # Panics
    /// Nobody is there.
    pub async fn connect(answer: &SipMessage) -> RawMsrp {
        let description = MsrpDescription::parse(&answer.body(), false).expect("a session description");
        let place = description.connection_places()[0].socket_address().expect("a numeric host");
        RawMsrp::connect_to(place, &description.path.to_string()).await
    }

    /// Connects to a place.
    ///
    /// # Panics
    /// Nobody is there.
    pub async fn connect_to(place: SocketAddr, to_path: &str) -> RawMsrp {
        let stream = in_time("an MSRP connection", TcpStream::connect(place)).await.expect("an MSRP connection");
        RawMsrp::over(Box::new(stream), to_path)
    }

    /// On a stream that is there already.
    #[must_use]
    pub fn over(stream: Box<dyn Duplex>, to_path: &str) -> RawMsrp {
        RawMsrp {
            stream,
            framer: Framer::new(FramingLimits::default()),
            to_path: to_path.to_owned(),
            from_path: OUR_PATH.to_owned(),
            transactions: 0,
        }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// They do not leave.
    pub async fn send(&mut self, bytes: &[u8]) {
        in_time("bytes leave", self.stream.write_all(bytes)).await.expect("bytes leave");
        in_time("bytes leave", self.stream.flush()).await.expect("bytes leave");
    }

    /// Sends bytes, or as many as the peer takes before it closes.
    pub async fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = in_time("bytes leave", self.stream.write_all(bytes)).await;
    }

    /// Sends a chunk; gives its transaction id.
    ///
    /// # Panics
    /// It does not leave.
    pub async fn send_chunk(&mut self, chunk: Chunk<'_>) -> String {
        self.transactions += 1;
        let transaction = format!("story{:04}", self.transactions);
        let Chunk { message_id, first, total, content, flag, fields } = chunk;
        let end = (first + content.len()).saturating_sub(1);
        let head = format!(
            "MSRP {transaction} SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {message_id}\r\n\
             Byte-Range: {first}-{end}/{total}\r\n{fields}Content-Type: message/cpim\r\n\r\n",
            self.to_path, self.from_path
        );
        let end_line = format!("\r\n-------{transaction}{flag}\r\n");
        self.send(&[head.as_bytes(), content, end_line.as_bytes()].concat()).await;
        transaction
    }

    /// Sends a SEND without content, as a session is bound with; gives its transaction id.
    ///
    /// # Panics
    /// It does not leave.
    pub async fn send_empty(&mut self) -> String {
        self.transactions += 1;
        let transaction = format!("story{:04}", self.transactions);
        let request = format!(
            "MSRP {transaction} SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: empty{}\r\n\
             Byte-Range: 1-0/0\r\n-------{transaction}$\r\n",
            self.to_path, self.from_path, self.transactions
        );
        self.send(request.as_bytes()).await;
        transaction
    }

    /// The next thing that the peer says.
    ///
    /// # Panics
    /// It says nothing, or what cannot be read.
    pub async fn next(&mut self) -> MsrpReply {
        match self.next_head().await {
            Some(Head::Response(it)) => MsrpReply::Response(it.transaction_id.as_str().to_owned(), it.status.code()),
            Some(Head::Request(it)) => MsrpReply::Request(it.method.as_str().to_owned(), it.message_id.clone()),
            None => MsrpReply::Closed,
        }
    }

    /// The next request.
    ///
    /// # Panics
    /// Something else comes, or what cannot be read.
    pub async fn next_request(&mut self) -> RequestHead {
        match self.next_head().await {
            Some(Head::Request(request)) => *request,
            other => panic!("not a request: {other:?}"),
        }
    }

    /// The next request or response; none when the connection is closed.
    ///
    /// # Panics
    /// Nothing comes, or what cannot be read.
    pub async fn next_head(&mut self) -> Option<Head> {
        let wait = async {
            loop {
                match self.frame().await? {
                    Frame::Response(it) => return Some(Head::Response(it)),
                    Frame::Request(it) => return Some(Head::Request(it)),
                    _ => {}
                }
            }
        };
        in_time("a word over MSRP", wait).await
    }

    /// The next request with its content; none when a response comes first.
    ///
    /// # Panics
    /// The connection is closed.
    pub async fn next_whole(&mut self) -> Option<(RequestHead, Vec<u8>)> {
        match self.next_said().await {
            Some((Head::Request(head), content)) => Some((*head, content)),
            _ => None,
        }
    }

    /// The next request with its content, or the next response; none when the connection is closed.
    ///
    /// # Panics
    /// Nothing comes, or what cannot be read.
    pub async fn next_said(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.next_head().await?;
        let content = match &head {
            Head::Request(_) => self.content().await,
            Head::Response(_) => Vec::new(),
        };
        Some((head, content))
    }

    /// The same past any responses; none when the connection is closed.
    pub async fn next_whole_request(&mut self) -> Option<(RequestHead, Vec<u8>)> {
        loop {
            if let (Head::Request(head), content) = self.next_said().await? {
                return Some((*head, content));
            }
        }
    }

    /// The next message, with the requests that bring it and are not answered; none when the connection is closed.
    pub async fn next_message(&mut self) -> Option<(Vec<RequestHead>, Vec<u8>)> {
        let (mut heads, mut message) = (Vec::new(), Vec::new());
        loop {
            let (head, content) = self.next_whole_request().await?;
            let total = head.byte_range.and_then(|range| range.total);
            message.extend(content);
            heads.push(head);
            if total.is_none_or(|total| message.len() as u64 >= total) {
                return Some((heads, message));
            }
        }
    }

    /// Says 200 to requests.
    pub async fn accept_all(&mut self, requests: &[RequestHead]) {
        for request in requests {
            self.answer(request, "200 OK", "").await;
        }
    }

    async fn content(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        let rest = async {
            while let Some(Frame::Content(bytes)) = self.frame().await {
                content.extend_from_slice(&bytes);
            }
        };
        in_time("the end of a request", rest).await;
        content
    }

    /// Sends a SEND without content, and sees that its answer comes before any request.
    ///
    /// # Panics
    /// A request comes.
    pub async fn nothing_but_an_answer(&mut self) {
        let asked = self.send_empty().await;
        loop {
            match self.next().await {
                MsrpReply::Response(transaction, 200) if transaction == asked => return,
                MsrpReply::Response(..) => {}
                other => panic!("not an answer: {other:?}"),
            }
        }
    }

    /// Answers a request, with further fields each with its line end.
    pub async fn answer(&mut self, to: &RequestHead, status: &str, fields: &str) {
        let id = to.transaction_id.as_str();
        let (back, from) = (to.from_path.first(), to.to_path.first());
        let text = format!("MSRP {id} {status}\r\nTo-Path: {back}\r\nFrom-Path: {from}\r\n{fields}-------{id}$\r\n");
        self.send(text.as_bytes()).await;
    }

    /// None: the connection is closed.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            match self.framer.next_frame().expect("MSRP") {
                Some(Frame::BadRequest(bad)) => panic!("a bad MSRP request: {bad:?}"),
                Some(frame) => return Some(frame),
                None => {
                    let mut buffer = vec![0; 65_536];
                    let length = self.stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
                    buffer.truncate(length);
                    self.framer.push(buffer.into());
                }
            }
        }
    }
}
