//! What one WebSocket does from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use restante_sip::message::SipMessage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::WebSocket;
use super::keep_alive::{KeepAlive, Quiet};
use crate::address::Flow;
use crate::counters::count;
use crate::event::{CloseReason, Intake, TransportEvent};
use crate::tcp::{ConnectionTable, Outbox, Writer, over};

/// Time for the closing handshake.
const CLOSING: Duration = Duration::from_secs(1);

/// Reads and writes until the connection is over.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocket<S>,
    flow: Flow,
    outbox: &Outbox,
    mut writer: Writer,
    table: &Arc<ConnectionTable>,
) {
    let mut stop = table.stop.clone();
    let close = writer.close_signal();
    let talk = Talk { flow, outbox, table };
    let reason = tokio::select! {
        reason = talk.converse(&mut socket, &mut writer) => reason,
        reason = Writer::closing(close) => reason,
        _ = stop.wait_for(|stop| *stop) => CloseReason::ShuttingDown,
    };
    table.closes(flow, reason);
    writer.refuse_more();
    if matches!(reason, CloseReason::ShuttingDown | CloseReason::Local | CloseReason::Unreadable) {
        // Whatever remains unsent is reported below.
        let _ = timeout(table.limits.drain_timeout, talk.write_last(&mut socket, &mut writer)).await;
    }
    // A peer that closed has answered already.
    let _ = timeout(CLOSING, socket.close(None)).await;
    over(table, flow, writer, reason);
}

struct Talk<'a> {
    flow: Flow,
    outbox: &'a Outbox,
    table: &'a ConnectionTable,
}

impl Talk<'_> {
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocket<S>,
        writer: &mut Writer,
    ) -> CloseReason {
        let limits = &self.table.limits;
        // A connection of ours was opened to send; the peer owes nothing at first.
        let mut owes_first = self.flow.listener.is_some();
        let began = Instant::now();
        let mut last = began;
        let is_accepted = self.flow.listener.is_some();
        let mut keep_alive = is_accepted.then(|| KeepAlive::new(limits.web_socket_ping, began));
        loop {
            let first = began + limits.first_byte_timeout;
            let (deadline, late) = match socket.get_ref().since() {
                // What begins to come in time may still be a keep-alive; a message ends no later.
                Some(since) if owes_first => (since.min(first) + limits.message_timeout, CloseReason::MessageTimeout),
                Some(since) => (since + limits.message_timeout, CloseReason::MessageTimeout),
                None if owes_first => (first, CloseReason::FirstByteTimeout),
                None => (last + self.outbox.idle_timeout, CloseReason::Idle),
            };
            let now = Instant::now();
            if deadline <= now {
                return late;
            }
            // Who is behind with what it was sent is not read on, but for what the library answers itself while it is written.
            let is_behind = is_accepted && self.outbox.is_behind();
            // What begins to come while nothing whole does is looked at in time.
            let mut wake = deadline.min(now + limits.message_timeout);
            if let Some(keep_alive) = &mut keep_alive {
                keep_alive.received(now, socket.get_ref().received());
                if is_behind {
                    keep_alive.came(now);
                }
                let pinged = match keep_alive.quiet(now) {
                    Quiet::No => Ok(()),
                    Quiet::Ping => self.ping(socket).await,
                    Quiet::Gone => Err(CloseReason::Idle),
                };
                if let Err(reason) = pinged {
                    return reason;
                }
                wake = wake.min(keep_alive.due());
            }
            tokio::select! {
                came = timeout_at(wake, socket.next()), if !is_behind => {
                    let message = match came {
                        Err(_) => continue,
                        Ok(None) => return CloseReason::Peer,
                        Ok(Some(Err(error))) => return self.end_of(error),
                        Ok(Some(Ok(message))) => message,
                    };
                    // That we ask whether somebody is there makes nobody less idle.
                    let is_answer = message.is_pong() && keep_alive.as_ref().is_some_and(KeepAlive::is_owed);
                    if let Some(keep_alive) = &mut keep_alive {
                        keep_alive.came(Instant::now());
                    }
                    if is_answer {
                        continue;
                    }
                    // The library's answer: with the next one it would be one more that waits.
                    if message.is_ping()
                        && let Err(reason) = self.flush(socket).await
                    {
                        return reason;
                    }
                    let Some(is_sip) = self.take(message).await else { return CloseReason::Unreadable };
                    owes_first &= !is_sip;
                }
                next = writer.next() => {
                    let Some(bytes) = next else { return CloseReason::Local };
                    if let Err(reason) = self.send(socket, writer, bytes).await {
                        return reason;
                    }
                    if let Some(keep_alive) = &mut keep_alive {
                        keep_alive.went(Instant::now());
                    }
                }
            }
            last = Instant::now();
        }
    }

    /// Handles what came and says whether it was SIP, which a keep-alive is not; none: it cannot be read.
    async fn take(&self, message: Message) -> Option<bool> {
        let bytes = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Some(false),
        };
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            // RFC 5626 §4.4.1: some clients keep alive as they do over TCP.
            if bytes.len() >= 4 {
                self.outbox.pong();
            }
            return Some(false);
        }
        let (flow, table) = (self.flow, self.table);
        match SipMessage::from_datagram(bytes, &table.limits.message) {
            Ok(message) => {
                count(&table.counters.stream_messages_received);
                if (table.handler)(TransportEvent::Received { message, flow }) == Intake::Congested {
                    count(&table.counters.streams_paused);
                    sleep(table.limits.congested_pause).await;
                }
                Some(true)
            }
            Err(error) => {
                (table.handler)(TransportEvent::Unreadable { bytes: Bytes::new(), flow, reason: error.into() });
                None
            }
        }
    }

    /// One message in one frame: text where it is text, as browsers expect it. When this is given up half-way and begun again
    /// with the same message, the message is still framed once.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocket<S>,
        writer: &mut Writer,
        bytes: Bytes,
    ) -> Result<(), CloseReason> {
        if !writer.is_framed() {
            // There is room at once: nothing waits in the library that was not flushed.
            self.flush(socket).await?;
            let message = match Utf8Bytes::try_from(bytes.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(bytes),
            };
            socket.feed(message).await.map_err(|error| self.end_of(error))?;
            writer.framed();
        }
        self.flush(socket).await?;
        writer.sent(&self.table.counters);
        Ok(())
    }

    /// Asks whether anybody is there.
    async fn ping<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocket<S>) -> Result<(), CloseReason> {
        socket.feed(Message::Ping(Bytes::new())).await.map_err(|error| self.end_of(error))?;
        self.flush(socket).await
    }

    /// Writes what the library holds, as long as the peer takes some of it in time.
    async fn flush<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocket<S>) -> Result<(), CloseReason> {
        loop {
            let before = socket.get_ref().written();
            match timeout(self.table.limits.write_timeout, socket.flush()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => return Err(self.end_of(error)),
                Err(_) if socket.get_ref().written() > before => {}
                Err(_) => return Err(CloseReason::TooSlow),
            }
        }
    }

    async fn write_last<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocket<S>,
        writer: &mut Writer,
    ) -> Result<(), CloseReason> {
        while let Some(bytes) = writer.next().await {
            self.send(socket, writer, bytes).await?;
        }
        Ok(())
    }

    fn end_of(&self, error: Error) -> CloseReason {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => CloseReason::Peer,
            Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => CloseReason::Peer,
            Error::Io(error) => CloseReason::Error(error.kind()),
            // A peer that goes away without a word.
            Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                CloseReason::Peer
            }
            error => {
                tracing::debug!(%error, "a WebSocket that cannot be read");
                self.table.handler.as_ref()(TransportEvent::Unreadable {
                    bytes: Bytes::new(),
                    flow: self.flow,
                    reason: crate::event::Unreadable::Frame,
                });
                CloseReason::Unreadable
            }
        }
    }
}
