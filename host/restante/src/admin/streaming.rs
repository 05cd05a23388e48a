//! Answers that are not held in memory.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::mpsc::{Receiver, channel};

/// Read and sent at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Read and not yet sent.
const MAX_WAITING_BLOCKS: usize = 4;

/// What a thread of its own reads, no faster than it is taken; the answer breaks off where that fails.
pub fn streamed(mut source: impl Read + Send + 'static) -> Body {
    let (sender, blocks) = channel(MAX_WAITING_BLOCKS);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let read = match source.read(&mut block) {
                Ok(0) => return,
                Ok(length) => {
                    block.truncate(length);
                    Ok(Bytes::from(block))
                }
                Err(error) => Err(error),
            };
            let is_last = read.is_err();
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    Body::new(Streamed(blocks))
}

struct Streamed(Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|block| block.map(|block| block.map(Frame::data)))
    }
}
