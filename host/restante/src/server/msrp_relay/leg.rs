//! One connection of a client's relaying: bytes in, whole frames out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante_msrp::relay::LegId;
use restante_transport::ConnectionPermit;
use restante_transport::msrp::MsrpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::client::PEER_STALL;
use crate::server::media::Place;

/// Frames that wait for a peer.
const MAX_WAITING: usize = 8;
/// What waits for a leg beyond that: no content of the client's is read meanwhile, but what answers its peers comes.
const MAX_BEHIND_BYTES: usize = 1024 * 1024;
/// Read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time for a peer to take a frame.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// Time without a byte of a peer.
const IDLE: Duration = Duration::from_secs(600);
/// Time to connect: less than a client waits for room.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const _: () = assert!(CONNECT_TIMEOUT.as_secs() < PEER_STALL.as_secs(), "who connects is not who stalls");
/// Time for the last answer of a peer that takes no more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What legs tell their client.
#[derive(Clone)]
pub(super) struct FromLegs {
    /// Bytes, or that they are over.
    pub(super) read: mpsc::Sender<(LegId, Option<Bytes>)>,
    /// That they wrote something.
    pub(super) wrote: Arc<Notify>,
}

/// A leg as its client has it; it ends when this is dropped.
pub(super) struct Leg {
    frames: mpsc::Sender<Bytes>,
    /// What there was no room for.
    behind: VecDeque<Bytes>,
    behind_bytes: usize,
    /// Since when it has taken nothing, where something waits for it.
    waits_since: Option<Instant>,
    patience: Duration,
    /// Frames count as written when they are taken.
    is_client: bool,
    written: Arc<AtomicU64>,
}

impl Leg {
    /// The client's own.
    pub(super) fn of_client(frames: mpsc::Sender<Bytes>) -> Leg {
        Leg { is_client: true, patience: STALL, ..Leg::new(frames, Arc::default()) }
    }

    fn new(frames: mpsc::Sender<Bytes>, written: Arc<AtomicU64>) -> Leg {
        let (behind, behind_bytes, waits_since) = (VecDeque::new(), 0, None);
        Leg { frames, behind, behind_bytes, waits_since, patience: PEER_STALL, is_client: false, written }
    }

    /// Takes a frame. False: nobody is there, or too much waits.
    pub(super) fn put(&mut self, bytes: Bytes, now: Instant) -> bool {
        self.behind_bytes = self.behind_bytes.saturating_add(bytes.len());
        self.behind.push_back(bytes);
        self.waits_since.get_or_insert(now);
        self.go_on(now) && self.behind_bytes <= MAX_BEHIND_BYTES
    }

    /// Passes on what there is room for. False: nobody is there.
    pub(super) fn go_on(&mut self, now: Instant) -> bool {
        while let Some(first) = self.behind.front() {
            match self.frames.try_send(first.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return true,
                Err(TrySendError::Closed(_)) => return false,
            }
            if self.is_client {
                self.written.fetch_add(1, Ordering::Release);
            }
            self.behind_bytes = self.behind_bytes.saturating_sub(first.len());
            self.behind.pop_front();
            self.waits_since = (!self.behind.is_empty()).then_some(now);
        }
        true
    }

    /// Whether something waits for it.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// When it has taken nothing for too long.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        self.waits_since.map(|since| since + self.patience)
    }

    /// Frames that were written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// Where the stream of a leg comes from.
pub(super) enum Source {
    /// It is there, with what was read from it already.
    Stream(MsrpStream, Bytes, Option<ConnectionPermit>),
    /// It is to be made.
    Place(Box<Place>),
}

/// Serves a leg.
pub(super) fn start(id: LegId, source: Source, to_client: FromLegs) -> Leg {
    let (frames, waiting) = mpsc::channel(MAX_WAITING);
    let leg = Leg::new(frames, Arc::default());
    let written = leg.written.clone();
    tokio::spawn(async move {
        let stream = match source {
            Source::Stream(stream, first, permit) => Some((stream, first, permit)),
            Source::Place(place) => place.connect(CONNECT_TIMEOUT).await.map(|stream| (stream, Bytes::new(), None)),
        };
        if let Some((stream, first, permit)) = stream {
            carry(id, stream, first, (&to_client, waiting, &written)).await;
            drop(permit);
        }
        let _ = to_client.read.send((id, None)).await;
    });
    leg
}

async fn carry(
    id: LegId,
    stream: MsrpStream,
    first: Bytes,
    (to_client, mut waiting, count): (&FromLegs, mpsc::Receiver<Bytes>, &AtomicU64),
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        if !first.is_empty() && to_client.read.send((id, Some(first))).await.is_err() {
            return;
        }
        let mut input = BytesMut::new();
        loop {
            input.reserve(READ_BYTES);
            match timeout(IDLE, reader.read_buf(&mut input)).await {
                Ok(Ok(length)) if length > 0 => {}
                _ => return,
            }
            if to_client.read.send((id, Some(input.split().freeze()))).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some(bytes) = waiting.recv().await {
            let written = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            match timeout(STALL, written).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                Err(_) => return false,
            }
            count.fetch_add(1, Ordering::Release);
            to_client.wrote.notify_one();
        }
        false
    };
    tokio::pin!(read);
    tokio::select! {
        () = &mut read => {}
        // A peer that closed may have said why.
        may_have_spoken = write => if may_have_spoken {
            let _ = timeout(LAST_WORDS, read).await;
        },
    }
}
