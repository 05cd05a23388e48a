//! Bodies on their way between a session and the disk, in blocks and without blocking the session's thread.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use restante_deferral::model::{Body, BodyId};
use restante_store::spool::{BodyWriter, Spool};
use thiserror::Error;

use super::room::Quota;
use crate::server::usage::Coming;

/// Bodies up to this size stay in memory and in their row.
const MAX_INLINE_BYTES: usize = 64 * 1024;
/// Bytes of a large body that are written or read at once.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// Beginning of a body that is kept to read its CPIM headers from.
const PREFIX_BYTES: usize = restante_cpim::cpim::MAX_HEADER_BYTES;

/// Why a body is not taken in.
#[derive(Debug, Error)]
pub(super) enum NotTaken {
    /// Its tenant stores no more.
    #[error("there is no room for it")]
    NoRoom,
    /// What the system says.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Takes a body in: small ones in memory, larger ones in a file, in blocks.
pub(super) struct Sink {
    spool: Spool,
    prefix: BytesMut,
    /// Bytes not in the file yet, and where they belong.
    block: BytesMut,
    block_offset: u64,
    size_bytes: u64,
    file: Option<BodyWriter>,
    /// What was written, some of it perhaps twice.
    written_bytes: u64,
    room: Option<(Arc<Quota>, Coming)>,
}

impl Sink {
    /// Of somebody's quota, where what comes is for somebody.
    pub(super) fn new(spool: Spool, quota: Option<&Arc<Quota>>) -> Sink {
        Sink {
            spool,
            prefix: BytesMut::new(),
            block: BytesMut::new(),
            block_offset: 0,
            size_bytes: 0,
            file: None,
            written_bytes: 0,
            room: quota.map(|quota| (Arc::clone(quota), quota.coming())),
        }
    }

    /// Takes bytes in. At most `max_block_bytes` and these wait for the disk afterwards.
    pub(super) async fn write(&mut self, offset: u64, bytes: Bytes, max_block_bytes: usize) -> Result<(), NotTaken> {
        self.size_bytes = self.size_bytes.max(offset.saturating_add(bytes.len() as u64));
        place(&mut self.prefix, PREFIX_BYTES, offset, &bytes);
        if self.file.is_none() && self.size_bytes <= MAX_INLINE_BYTES as u64 {
            place(&mut self.block, MAX_INLINE_BYTES, offset, &bytes);
            return Ok(());
        }
        let follows = offset == self.block_offset.saturating_add(self.block.len() as u64);
        if !follows || self.block.len().saturating_add(bytes.len()) > max_block_bytes {
            self.flush().await?;
            self.block_offset = offset;
        }
        self.block.extend_from_slice(&bytes);
        Ok(())
    }

    /// Writes what waits for the disk. What is on the disk has its room, as messages have that are stored.
    async fn flush(&mut self) -> Result<(), NotTaken> {
        self.written_bytes = self.written_bytes.saturating_add(self.block.len() as u64);
        // What leaves holes takes no more than what came, what comes twice no more than the whole.
        let on_disk = self.written_bytes.min(self.size_bytes);
        if self.room.as_mut().is_some_and(|(quota, coming)| !quota.grow(coming, on_disk)) {
            return Err(NotTaken::NoRoom);
        }
        let (file, spool) = (self.file.take(), self.spool.clone());
        let (block, offset) = (std::mem::take(&mut self.block).freeze(), self.block_offset);
        let written = tokio::task::spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => spool.create()?,
            };
            file.write_at(offset, &block)?;
            Ok::<_, io::Error>((file, block))
        });
        let (file, block) = written.await.map_err(io::Error::other)??;
        self.file = Some(file);
        // The buffer is used again where nobody else holds it.
        self.block = block.try_into_mut().unwrap_or_default();
        self.block.clear();
        Ok(())
    }

    /// The body, durable if it is a file, its beginning, and the room that it has taken.
    pub(super) async fn finish(mut self) -> Result<(Body, Bytes, Option<Coming>), NotTaken> {
        let prefix = self.prefix.split().freeze();
        if self.file.is_none() && self.size_bytes <= MAX_INLINE_BYTES as u64 {
            return Ok((Body::Inline(self.block.freeze()), prefix, None));
        }
        self.flush().await?;
        let Some(file) = self.file else { return Err(io::Error::other("no body file").into()) };
        let (id, size_bytes) = tokio::task::spawn_blocking(move || file.finish()).await.map_err(io::Error::other)??;
        Ok((Body::Spooled { id, size_bytes }, prefix, self.room.map(|(_, coming)| coming)))
    }
}

/// Puts bytes where they belong in a buffer of at most `most` bytes.
fn place(buffer: &mut BytesMut, most: usize, offset: u64, bytes: &[u8]) {
    let Some(start) = usize::try_from(offset).ok().filter(|start| *start < most) else { return };
    let length = bytes.len().min(most - start);
    if buffer.len() < start + length {
        buffer.resize(start + length, 0);
    }
    if let (Some(to), Some(from)) = (buffer.get_mut(start..start + length), bytes.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// Reads a stored body in blocks.
pub(super) struct ReadAhead {
    source: Source,
    block: Bytes,
    block_offset: u64,
}

enum Source {
    Inline(Bytes),
    File(Spool, BodyId, Option<Arc<std::fs::File>>),
}

impl ReadAhead {
    pub(super) fn new(spool: &Spool, body: &Body) -> ReadAhead {
        let source = match body {
            Body::Inline(bytes) => Source::Inline(bytes.clone()),
            Body::Spooled { id, .. } => Source::File(spool.clone(), *id, None),
        };
        ReadAhead { source, block: Bytes::new(), block_offset: 0 }
    }

    pub(super) async fn read(&mut self, offset: u64, max_bytes: usize) -> io::Result<Bytes> {
        if let Source::Inline(bytes) = &self.source {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(bytes.slice(start..bytes.len().min(start.saturating_add(max_bytes))));
        }
        if !(self.block_offset..self.block_offset + self.block.len() as u64).contains(&offset) {
            self.fill(offset).await?;
        }
        let start = usize::try_from(offset - self.block_offset).unwrap_or(usize::MAX).min(self.block.len());
        Ok(self.block.slice(start..self.block.len().min(start.saturating_add(max_bytes))))
    }

    async fn fill(&mut self, offset: u64) -> io::Result<()> {
        let Source::File(spool, id, open) = &mut self.source else { return Ok(()) };
        let (spool, id, file) = (spool.clone(), *id, open.clone());
        let read = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(spool.read(id)?),
            };
            let mut block = vec![0; BLOCK_BYTES];
            let length = file.read_at(&mut block, offset)?;
            block.truncate(length);
            Ok::<_, io::Error>((file, Bytes::from(block)))
        });
        let (file, block) = read.await.map_err(io::Error::other)??;
        *open = Some(file);
        (self.block, self.block_offset) = (block, offset);
        Ok(())
    }
}
