use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::counters::{TransportCounters, count};
use crate::event::{CloseReason, SendFailure, SendToken};
use crate::limits::TransportLimits;

/// Small messages that wait are written together, up to this many bytes.
const MOST_BYTES_PER_WRITE: usize = 64 * 1024;

/// Where messages for one connection are put; for any thread.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: mpsc::Sender<Outgoing>,
    waiting_bytes: Arc<AtomicUsize>,
    max_waiting_bytes: usize,
    /// With more the peer is behind with what it was sent.
    behind_bytes: usize,
    /// Something was written.
    written: Arc<Notify>,
    everybodys: Arc<Everybodys>,
    /// For how long the connection may carry nothing.
    pub(crate) idle_timeout: Duration,
    close: watch::Sender<Option<CloseReason>>,
}

/// What waits in all outboxes together.
#[derive(Debug)]
pub(crate) struct Everybodys {
    waiting_bytes: AtomicUsize,
    max_waiting_bytes: usize,
}

/// A message's part of it, given back when this is dropped.
#[derive(Debug)]
struct Part {
    of: Arc<Everybodys>,
    bytes: usize,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Bytes,
    token: Option<SendToken>,
    _part: Part,
    /// Counted in [`TransportCounters`]; a keep-alive is not.
    is_message: bool,
}

/// The other end of an [`Outbox`]: what waits, and what is being written. Its methods may be cancelled at every await.
#[derive(Debug)]
pub(crate) struct Writer {
    waiting: mpsc::Receiver<Outgoing>,
    waiting_bytes: Arc<AtomicUsize>,
    written: Arc<Notify>,
    close: watch::Receiver<Option<CloseReason>>,
    buffer: Bytes,
    /// Messages in the buffer, each with the number of bytes that are left from its end on.
    in_buffer: VecDeque<(Outgoing, usize)>,
    /// The carrier has what is in the buffer, and not all of it went out.
    is_framed: bool,
}

impl Everybodys {
    pub(crate) fn new(limits: &TransportLimits) -> Arc<Everybodys> {
        let max_waiting_bytes = limits.max_waiting_bytes_of_all;
        Arc::new(Everybodys { waiting_bytes: AtomicUsize::new(0), max_waiting_bytes })
    }

    fn part(self: &Arc<Self>, bytes: usize) -> Part {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        Part { of: Arc::clone(self), bytes }
    }

    fn is_too_much(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > self.max_waiting_bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.of.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Outbox {
    pub(crate) fn new(limits: &TransportLimits, everybodys: &Arc<Everybodys>) -> (Outbox, Writer) {
        let (waiting, receiver) = mpsc::channel(limits.max_waiting_messages.max(1));
        let (close, close_receiver) = watch::channel(None);
        let (waiting_bytes, written) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let outbox = Outbox {
            waiting,
            waiting_bytes: Arc::clone(&waiting_bytes),
            max_waiting_bytes: limits.max_waiting_bytes,
            behind_bytes: limits.behind_bytes,
            written: Arc::clone(&written),
            everybodys: Arc::clone(everybodys),
            idle_timeout: limits.idle_timeout,
            close,
        };
        let writer = Writer {
            waiting: receiver,
            waiting_bytes,
            written,
            close: close_receiver,
            buffer: Bytes::new(),
            in_buffer: VecDeque::new(),
            is_framed: false,
        };
        (outbox, writer)
    }

    /// Adds a message. When there is no room the connection is closed: its reader is too slow to be served, and a gap
    /// in what it is sent would be worse. Where too much waits in all together, there is none for who is behind.
    ///
    /// # Errors
    /// [`SendFailure::NoConnection`], [`SendFailure::QueueFull`]
    pub(crate) fn push(&self, bytes: Bytes, token: Option<SendToken>) -> Result<(), SendFailure> {
        let _part = self.everybodys.part(bytes.len());
        let result = self.try_push(Outgoing { bytes, token, _part, is_message: true });
        if result == Err(SendFailure::QueueFull) {
            self.close(CloseReason::TooSlow);
        }
        result
    }

    /// Answers a keep-alive, unless the peer does not even read what waits already.
    pub(crate) fn pong(&self) {
        if self.waiting_bytes.load(Ordering::Relaxed) == 0 {
            let bytes = Bytes::from_static(b"\r\n");
            let _part = self.everybodys.part(bytes.len());
            let _ = self.try_push(Outgoing { bytes, token: None, _part, is_message: false });
        }
    }

    /// Whether the peer is behind with what it was sent: nothing more is read of it then, or it could make more wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > self.behind_bytes
    }

    /// Until it is not. One at a time may wait for that.
    pub(crate) async fn caught_up(&self) {
        while self.is_behind() {
            self.written.notified().await;
        }
    }

    /// Ends the connection. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.close.send_if_modified(|current| current.replace(current.unwrap_or(reason)).is_none());
    }

    fn try_push(&self, outgoing: Outgoing) -> Result<(), SendFailure> {
        let length = outgoing.bytes.len();
        let before = self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        let is_full = before > 0 && before.saturating_add(length) > self.max_waiting_bytes;
        let result = if is_full || (before > self.behind_bytes && self.everybodys.is_too_much()) {
            Err(SendFailure::QueueFull)
        } else {
            self.waiting.try_send(outgoing).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendFailure::QueueFull,
                mpsc::error::TrySendError::Closed(_) => SendFailure::NoConnection,
            })
        };
        if result.is_err() {
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        result
    }
}

impl Writer {
    /// When the connection is to be closed from this side.
    pub(crate) async fn closing(mut close: watch::Receiver<Option<CloseReason>>) -> CloseReason {
        match close.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(CloseReason::Local),
            Err(_) => CloseReason::Local,
        }
    }

    pub(crate) fn close_signal(&self) -> watch::Receiver<Option<CloseReason>> {
        self.close.clone()
    }

    /// Takes nothing more; what waits can still be written.
    pub(crate) fn refuse_more(&mut self) {
        self.waiting.close();
    }

    /// Writes what comes until nothing more can come.
    ///
    /// # Errors
    /// Why writing ended before that.
    pub(crate) async fn write_all(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        limits: &TransportLimits,
        counters: &TransportCounters,
        mut progress: impl FnMut(),
    ) -> Result<(), CloseReason> {
        loop {
            while !self.buffer.is_empty() {
                let written = match timeout(limits.write_timeout, to.write(&self.buffer)).await {
                    Err(_) => return Err(CloseReason::TooSlow),
                    Ok(Err(error)) => return Err(CloseReason::Error(error.kind())),
                    Ok(Ok(0)) => return Err(CloseReason::Error(std::io::ErrorKind::WriteZero)),
                    Ok(Ok(written)) => written,
                };
                self.wrote(written, counters);
                progress();
            }
            // An encrypted stream may hold back what it took; a socket holds back nothing.
            match timeout(limits.write_timeout, to.flush()).await {
                Err(_) => return Err(CloseReason::TooSlow),
                Ok(Err(error)) => return Err(CloseReason::Error(error.kind())),
                Ok(Ok(())) => {}
            }
            match self.waiting.recv().await {
                Some(outgoing) => self.fill(outgoing),
                None => return Ok(()),
            }
        }
    }

    /// The next message, alone, for a carrier that keeps messages apart; the same one until [`Writer::sent`]. None: nothing more
    /// can come.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if self.buffer.is_empty() {
            let outgoing = self.waiting.recv().await?;
            self.buffer = outgoing.bytes.clone();
            self.in_buffer.push_back((outgoing, 0));
        }
        Some(self.buffer.clone())
    }

    /// The carrier took the message, and must not be given it again.
    pub(crate) fn framed(&mut self) {
        self.is_framed = true;
    }

    /// Whether the carrier has the message that [`Writer::next`] gives.
    pub(crate) fn is_framed(&self) -> bool {
        self.is_framed
    }

    /// It went out.
    pub(crate) fn sent(&mut self, counters: &TransportCounters) {
        self.is_framed = false;
        self.wrote(self.buffer.len(), counters);
    }

    /// Everything that was not written, in order, once nothing more will be.
    pub(crate) fn unsent(mut self) -> impl Iterator<Item = Option<SendToken>> {
        self.waiting.close();
        let mut waiting = Vec::new();
        while let Ok(outgoing) = self.waiting.try_recv() {
            waiting.push(outgoing);
        }
        self.in_buffer
            .into_iter()
            .map(|(outgoing, _)| outgoing)
            .chain(waiting)
            .filter(|outgoing| outgoing.is_message)
            .map(|outgoing| outgoing.token)
    }

    fn fill(&mut self, first: Outgoing) {
        let mut batch = vec![first];
        let mut length = batch.iter().map(|outgoing| outgoing.bytes.len()).sum::<usize>();
        while length < MOST_BYTES_PER_WRITE
            && let Ok(next) = self.waiting.try_recv()
        {
            length = length.saturating_add(next.bytes.len());
            batch.push(next);
        }
        self.buffer = match batch.as_slice() {
            [only] => only.bytes.clone(),
            several => {
                let mut joined = BytesMut::with_capacity(length);
                several.iter().for_each(|outgoing| joined.extend_from_slice(&outgoing.bytes));
                joined.freeze()
            }
        };
        let mut left = length;
        for outgoing in batch {
            left = left.saturating_sub(outgoing.bytes.len());
            self.in_buffer.push_back((outgoing, left));
        }
    }

    fn wrote(&mut self, written: usize, counters: &TransportCounters) {
        let _ = self.buffer.split_to(written.min(self.buffer.len()));
        self.waiting_bytes.fetch_sub(written, Ordering::Relaxed);
        self.written.notify_one();
        while let Some((outgoing, left)) = self.in_buffer.front()
            && *left >= self.buffer.len()
        {
            if outgoing.is_message {
                count(&counters.stream_messages_sent);
            }
            self.in_buffer.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> TransportLimits {
        TransportLimits { max_waiting_messages: 3, max_waiting_bytes: 100, ..TransportLimits::default() }
    }

    fn token(key: u64) -> Option<SendToken> {
        Some(SendToken { shard: 0, key })
    }

    #[test]
    fn what_waits_is_bounded_and_overflow_closes() {
        let (outbox, _writer) = Outbox::new(&limits(), &Everybodys::new(&limits()));
        outbox.push(Bytes::from(vec![0; 99]), None).unwrap();
        assert!(outbox.close.borrow().is_none());
        assert_eq!(outbox.push(Bytes::from_static(b"ab"), None), Err(SendFailure::QueueFull));
        assert_eq!(*outbox.close.borrow(), Some(CloseReason::TooSlow));
        outbox.close(CloseReason::Local);
        assert_eq!(*outbox.close.borrow(), Some(CloseReason::TooSlow), "the first reason counts");

        let (outbox, writer) = Outbox::new(&limits(), &Everybodys::new(&limits()));
        (0..3).for_each(|_| outbox.push(Bytes::from_static(b"a"), None).unwrap());
        assert_eq!(outbox.push(Bytes::from_static(b"a"), None), Err(SendFailure::QueueFull));
        drop(writer);
        assert_eq!(outbox.push(Bytes::from_static(b"a"), None), Err(SendFailure::NoConnection));
    }

    /// Takes `room` bytes, then nothing.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let length = bytes.len().min(self.room - self.taken.len());
            self.taken.extend_from_slice(&bytes[..length]);
            if length == 0 { std::task::Poll::Pending } else { std::task::Poll::Ready(Ok(length)) }
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_peer_that_stops_reading_is_found_out_and_what_it_did_not_get_is_known() {
        for (room, expected) in [(0, vec![1, 2, 3]), (3, vec![1, 2, 3]), (4, vec![2, 3]), (9, vec![3]), (11, vec![3])] {
            let limits = TransportLimits { write_timeout: Duration::from_millis(1), ..limits() };
            let everybodys = Everybodys::new(&limits);
            let (outbox, mut writer) = Outbox::new(&limits, &everybodys);
            outbox.push(Bytes::from_static(b"aaaa"), token(1)).unwrap();
            outbox.push(Bytes::from_static(b"bbbb"), token(2)).unwrap();
            outbox.push(Bytes::from_static(b"cccc"), token(3)).unwrap();
            let mut peer = Narrow { taken: Vec::new(), room };
            let counters = TransportCounters::default();
            let end = writer.write_all(&mut peer, &limits, &counters, || {}).await;
            assert_eq!(end, Err(CloseReason::TooSlow));
            assert_eq!(outbox.waiting_bytes.load(Ordering::Relaxed), 12 - room);
            assert_eq!(counters.stream_messages_sent.load(Ordering::Relaxed), 3 - expected.len() as u64);
            let unsent: Vec<u64> = writer.unsent().flatten().map(|token| token.key).collect();
            assert_eq!(unsent, expected, "room for {room}");
            assert_eq!(everybodys.waiting_bytes.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn who_is_behind_gets_no_more_while_too_much_waits_for_everybody() {
        let limits = TransportLimits { behind_bytes: 10, max_waiting_bytes_of_all: 30, ..limits() };
        let everybodys = Everybodys::new(&limits);
        let (behind, writer) = Outbox::new(&limits, &everybodys);
        behind.push(Bytes::from(vec![0; 20]), None).unwrap();
        assert!(behind.is_behind());
        let (other, _other_writer) = Outbox::new(&limits, &everybodys);
        other.push(Bytes::from(vec![0; 5]), None).unwrap();
        behind.push(Bytes::from(vec![0; 5]), None).unwrap();
        assert_eq!(behind.push(Bytes::from_static(b"a"), None), Err(SendFailure::QueueFull));
        other.push(Bytes::from(vec![0; 10]), None).unwrap();
        assert_eq!(*other.close.borrow(), None, "whoever is not behind is served on");
        drop(writer);
        assert_eq!(everybodys.waiting_bytes.load(Ordering::Relaxed), 15);
        other.push(Bytes::from(vec![0; 10]), None).unwrap();
    }
}
