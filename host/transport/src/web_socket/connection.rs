//! What one WebSocket does from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use restante_sip::message::SipMessage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::address::Flow;
use crate::counters::count;
use crate::event::{CloseReason, Intake, TransportEvent};
use crate::tcp::{ConnectionTable, Outbox, Writer, over};

/// Time for the closing handshake.
const CLOSING: Duration = Duration::from_secs(1);

/// Reads and writes until the connection is over.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
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
    table.forget_destination(flow.connection);
    (table.handler)(TransportEvent::Closed { flow, reason });
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
        socket: &mut WebSocketStream<S>,
        writer: &mut Writer,
    ) -> CloseReason {
        let limits = &self.table.limits;
        // A connection of ours was opened to send; the peer owes nothing at first.
        let mut owes_first = self.flow.listener.is_some();
        let mut last = Instant::now();
        loop {
            let patience = if owes_first { limits.first_byte_timeout } else { limits.idle_timeout };
            tokio::select! {
                came = timeout_at(last + patience, socket.next()) => {
                    let message = match came {
                        Err(_) if owes_first => return CloseReason::FirstByteTimeout,
                        Err(_) => return CloseReason::Idle,
                        Ok(None) => return CloseReason::Peer,
                        Ok(Some(Err(error))) => return self.end_of(error),
                        Ok(Some(Ok(message))) => message,
                    };
                    if !self.take(message).await {
                        return CloseReason::Unreadable;
                    }
                    owes_first = false;
                }
                next = writer.next() => {
                    let Some(bytes) = next else { return CloseReason::Local };
                    if let Err(reason) = self.send(socket, bytes).await {
                        return reason;
                    }
                    writer.sent(&self.table.counters);
                }
            }
            last = Instant::now();
        }
    }

    /// Handles what came; false: it cannot be read.
    async fn take(&self, message: Message) -> bool {
        let bytes = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            // Pings are answered by the library with its next write or read.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return true,
        };
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            // RFC 5626 §4.4.1: some clients keep alive as they do over TCP.
            if bytes.len() >= 4 {
                self.outbox.pong();
            }
            return true;
        }
        let (flow, table) = (self.flow, self.table);
        match SipMessage::from_datagram(bytes, &table.limits.message) {
            Ok(message) => {
                count(&table.counters.stream_messages_received);
                if (table.handler)(TransportEvent::Received { message, flow }) == Intake::Congested {
                    count(&table.counters.streams_paused);
                    sleep(table.limits.congested_pause).await;
                }
                true
            }
            Err(error) => {
                (table.handler)(TransportEvent::Unreadable { bytes: Bytes::new(), flow, reason: error.into() });
                false
            }
        }
    }

    /// One message in one frame: text where it is text, as browsers expect it.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocketStream<S>,
        bytes: Bytes,
    ) -> Result<(), CloseReason> {
        let message = match Utf8Bytes::try_from(bytes.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        };
        match timeout(self.table.limits.write_timeout, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.end_of(error)),
            Err(_) => Err(CloseReason::TooSlow),
        }
    }

    async fn write_last<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocketStream<S>,
        writer: &mut Writer,
    ) -> Result<(), CloseReason> {
        while let Some(bytes) = writer.next().await {
            self.send(socket, bytes).await?;
            writer.sent(&self.table.counters);
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
