//! A file in large message mode, from disk to disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use restante_client::{LargeMessage, Mode, Source};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::sequence::grouped;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "large-file",
    title: "a file of 20 MB in large message mode, kept on disk and pushed in a session",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new()).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client_with_files("Bob", BOB).await?;
    let bytes = stage.options().large_bytes;
    let file = stage.file("holiday.mp4");
    write_noise(&file, bytes).context("the large file cannot be made")?;
    let message = LargeMessage::new(BOB, "video/mp4", Source::File(file));
    alice.sends_large(message, &format!("a file of {} bytes", grouped(bytes))).await?;
    stage.note("Bob is back").await?;
    bob.watches_incoming(bytes);
    bob.registers().await?;
    let received = bob.receives(1).await?;
    bob.got_everything_by(Mode::Push)?;
    ensure!(received.iter().all(|message| message.size == bytes), "the file came with another size");
    ensure!(bob.sees_session_end(1).await?.orderly, "the session was not ended by BYE");
    stage.nothing_waits().await
}

/// Bytes that no compression and no block that is read twice could go unnoticed in.
fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    let (mut left, mut state) = (bytes, 0x9e37_79b9_7f4a_7c15_u64);
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let length = left.min(word.len() as u64);
        file.write_all(word.get(..usize::try_from(length)?).unwrap_or(&word))?;
        left = left.saturating_sub(length);
    }
    Ok(file.flush()?)
}
