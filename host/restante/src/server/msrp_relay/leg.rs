//! One connection of a client's relaying: bytes in, whole frames out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use restante_msrp::relay::LegId;
use restante_transport::ConnectionPermit;
use restante_transport::msrp::MsrpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::media::Place;

/// Frames that wait for a peer.
const MAX_WAITING: usize = 8;
/// Read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Time for a peer to take a frame.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// Time without a byte of a peer.
const IDLE: Duration = Duration::from_secs(600);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What legs tell their client: bytes, or that they are over.
pub(super) type FromLegs = mpsc::Sender<(LegId, Option<Bytes>)>;

/// Where the stream of a leg comes from.
pub(super) enum Source {
    /// It is there, with what was read from it already.
    Stream(MsrpStream, Bytes, Option<ConnectionPermit>),
    /// It is to be made.
    Place(Box<Place>),
}

/// Serves a leg; what is given is written to it, and it ends when that is dropped.
pub(super) fn start(id: LegId, source: Source, to_client: FromLegs) -> mpsc::Sender<Bytes> {
    let (frames, waiting) = mpsc::channel(MAX_WAITING);
    tokio::spawn(async move {
        let stream = match source {
            Source::Stream(stream, first, permit) => Some((stream, first, permit)),
            Source::Place(place) => place.connect(CONNECT_TIMEOUT).await.map(|stream| (stream, Bytes::new(), None)),
        };
        if let Some((stream, first, permit)) = stream {
            carry(id, stream, first, (&to_client, waiting)).await;
            drop(permit);
        }
        let _ = to_client.send((id, None)).await;
    });
    frames
}

async fn carry(
    id: LegId,
    stream: MsrpStream,
    first: Bytes,
    (to_client, mut waiting): (&FromLegs, mpsc::Receiver<Bytes>),
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        if !first.is_empty() && to_client.send((id, Some(first))).await.is_err() {
            return;
        }
        let mut input = BytesMut::new();
        loop {
            input.reserve(READ_BYTES);
            match timeout(IDLE, reader.read_buf(&mut input)).await {
                Ok(Ok(length)) if length > 0 => {}
                _ => return,
            }
            if to_client.send((id, Some(input.split().freeze()))).await.is_err() {
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
            if !matches!(timeout(STALL, written).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
