//! Content on its way in and out: in memory or in files, hashed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use restante_cpim::cpim::{CpimMessage, MAX_HEADER_BYTES, Prefix};
use sha2::{Digest, Sha256};

use crate::configuration::{ClientLimits, Storage};
use crate::event::Content;
use crate::outgoing::Source;

/// Read and hashed at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Why bytes are not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// More than is allowed.
    TooLarge,
    /// The file system said so.
    Storage(io::Error),
    /// Whole, but no CPIM message.
    NoCpim(&'static str),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Storage(error)
    }
}

/// A message that is coming in, in any order of its bytes.
pub(crate) enum Incoming {
    Memory { bytes: Vec<u8>, most: u64 },
    File { file: File, path: PathBuf, directory: PathBuf, most: u64 },
}

/// A message that came whole.
pub(crate) struct Stored {
    /// Its headers, without the content.
    pub(crate) cpim: CpimMessage,
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl Incoming {
    /// Makes room.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn begin(storage: &Storage, limits: &ClientLimits) -> io::Result<Incoming> {
        match storage {
            Storage::Memory => Ok(Incoming::Memory { bytes: Vec::new(), most: limits.max_memory_bytes }),
            Storage::Directory(directory) => {
                let path = directory.join(format!("restante-{}.part", crate::random::token()));
                let file = File::options().read(true).write(true).create_new(true).open(&path)?;
                Ok(Incoming::File { file, path, directory: directory.clone(), most: limits.max_file_bytes })
            }
        }
    }

    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) fn write(&mut self, offset: u64, piece: &[u8]) -> Result<(), Refusal> {
        let end = offset.saturating_add(piece.len() as u64);
        // The headers around the content do not count against its bound.
        let allowed = |most: u64| end <= most.saturating_add(MAX_HEADER_BYTES as u64);
        match self {
            Incoming::Memory { bytes, most } => {
                let (true, Ok(start), Ok(end)) = (allowed(*most), usize::try_from(offset), usize::try_from(end)) else {
                    return Err(Refusal::TooLarge);
                };
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(start..end) {
                    place.copy_from_slice(piece);
                }
                Ok(())
            }
            Incoming::File { file, most, .. } => {
                if !allowed(*most) {
                    return Err(Refusal::TooLarge);
                }
                file.seek(SeekFrom::Start(offset))?;
                Ok(file.write_all(piece)?)
            }
        }
    }

    /// Takes the content out of its CPIM and hashes it.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is left behind.
    pub(crate) fn finish(self) -> Result<Stored, Refusal> {
        match self {
            Incoming::Memory { bytes, .. } => stored_in_memory(bytes.into()),
            Incoming::File { file, path, directory, .. } => {
                let stored = stored_in_file(file, &directory);
                // Only the content is kept, under its own name.
                let _ = std::fs::remove_file(&path);
                stored
            }
        }
    }

    /// Throws it away.
    pub(crate) fn discard(self) {
        if let Incoming::File { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A whole message in memory.
///
/// # Errors
/// [`Refusal::NoCpim`]
pub(crate) fn stored_in_memory(bytes: Bytes) -> Result<Stored, Refusal> {
    let cpim = CpimMessage::parse(bytes).map_err(|_| Refusal::NoCpim("malformed CPIM"))?;
    let content = cpim.content();
    Ok(Stored { size: content.len() as u64, sha256: sha256(&content), content: Content::Memory(content), cpim })
}

fn stored_in_file(mut file: File, directory: &Path) -> Result<Stored, Refusal> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    (&mut file).take(2 * MAX_HEADER_BYTES as u64).read_to_end(&mut head)?;
    let cpim = match CpimMessage::parse_prefix(head.into()) {
        Ok(Prefix::Complete(cpim)) => cpim,
        Ok(Prefix::NeedMore) | Err(_) => return Err(Refusal::NoCpim("malformed CPIM")),
    };
    file.seek(SeekFrom::Start(cpim.content_start() as u64))?;
    let name = format!("restante-{}.{}", crate::random::token(), extension(cpim.content_type()));
    let path = directory.join(name);
    let mut kept = File::options().write(true).create_new(true).open(&path)?;
    match copy_hashed(&mut file, &mut kept) {
        Ok((size, sha256)) => Ok(Stored { cpim, content: Content::File(path), size, sha256 }),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(error.into())
        }
    }
}

fn copy_hashed(from: &mut File, to: &mut File) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut size: u64 = 0;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        let piece = buffer.get(..length).unwrap_or_default();
        if piece.is_empty() {
            return Ok((size, HEXLOWER.encode(&hasher.finalize())));
        }
        hasher.update(piece);
        to.write_all(piece)?;
        size = size.saturating_add(length as u64);
    }
}

/// An ending for a file name, from a fixed list: nothing of what a peer wrote gets into a name.
fn extension(content_type: &str) -> &'static str {
    match restante_cpim::media_type::essence(content_type).as_str() {
        "text/plain" => "txt",
        "text/html" => "html",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "video/mp4" => "mp4",
        "audio/mpeg" => "mp3",
        "application/pdf" => "pdf",
        "application/zip" => "zip",
        _ => "bin",
    }
}

/// Content on its way out, read piece by piece.
#[derive(Debug)]
pub(crate) enum Reader {
    Memory(Bytes),
    File(File, u64),
}

impl Reader {
    /// Opens the source and hashes it; blocks.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn open(source: &Source) -> io::Result<(Reader, String)> {
        match source {
            Source::Bytes(bytes) => Ok((Reader::Memory(bytes.clone()), sha256(bytes))),
            Source::File(path) => {
                let mut file = File::open(path)?;
                let (size, sha256) = hash_file(&mut file)?;
                Ok((Reader::File(file, size), sha256))
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Reader::Memory(bytes) => bytes.len() as u64,
            Reader::File(_, size) => *size,
        }
    }

    /// At most `most` bytes from an offset.
    ///
    /// # Errors
    /// Whatever the file system says; also when the file became shorter.
    pub(crate) fn read_at(&mut self, offset: u64, most: usize) -> io::Result<Bytes> {
        let left = self.len().saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        match self {
            Reader::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start.saturating_add(length).min(bytes.len())))
            }
            Reader::File(file, _) => {
                let mut piece = vec![0; length];
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(&mut piece)?;
                Ok(piece.into())
            }
        }
    }
}

fn hash_file(file: &mut File) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut size: u64 = 0;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((size, HEXLOWER.encode(&hasher.finalize())));
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
        size = size.saturating_add(length as u64);
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"From: <sip:a@b>\r\n\r\nContent-Type: text/plain\r\n\r\nhello";

    fn limits() -> ClientLimits {
        ClientLimits { max_memory_bytes: 100, max_file_bytes: 100, ..ClientLimits::default() }
    }

    #[test]
    fn pieces_in_any_order_make_the_same_message_in_memory_and_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for storage in [Storage::Memory, Storage::Directory(directory.path().to_owned())] {
            let mut incoming = Incoming::begin(&storage, &limits()).unwrap();
            incoming.write(30, &MESSAGE[30..]).unwrap();
            incoming.write(0, &MESSAGE[..35]).unwrap();
            let stored = incoming.finish().unwrap();
            assert_eq!((stored.size, stored.sha256.as_str()), (5, sha256(b"hello").as_str()));
            match stored.content {
                Content::Memory(bytes) => assert_eq!(bytes, b"hello"[..]),
                Content::File(path) => {
                    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
                    assert_eq!(
                        (path.extension().unwrap().to_str(), path.parent()),
                        (Some("txt"), Some(directory.path()))
                    );
                }
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "only the content is left");
    }

    #[test]
    fn what_is_too_large_or_no_message_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for storage in [Storage::Memory, Storage::Directory(directory.path().to_owned())] {
            let mut incoming = Incoming::begin(&storage, &limits()).unwrap();
            let far = MAX_HEADER_BYTES as u64 + 100;
            assert!(matches!(incoming.write(far, b"x"), Err(Refusal::TooLarge)));
            assert!(matches!(incoming.write(u64::MAX, b"x"), Err(Refusal::TooLarge)));
            incoming.discard();
            let mut incoming = Incoming::begin(&storage, &limits()).unwrap();
            incoming.write(0, b"not CPIM").unwrap();
            assert!(matches!(incoming.finish(), Err(Refusal::NoCpim(_))));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_source_is_read_in_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("source");
        std::fs::write(&path, b"0123456789").unwrap();
        for source in [Source::Bytes(Bytes::from_static(b"0123456789")), Source::File(path)] {
            let (mut reader, hash) = Reader::open(&source).unwrap();
            assert_eq!((reader.len(), hash), (10, sha256(b"0123456789")));
            for (offset, most, expected) in [(0, 3, &b"012"[..]), (8, 9, b"89"), (10, 5, b""), (99, 5, b"")] {
                assert_eq!(reader.read_at(offset, most).unwrap(), expected, "{offset} {most}");
            }
        }
    }
}
