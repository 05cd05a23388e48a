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

/// Letters of a line; with its end as many as the text of a MIME part has.
const LINE_LETTERS: usize = 76;

/// Lines of letters by chance: no block that is lost or read twice could go unnoticed in them. They are text so that whoever
/// looks at the wire can read it, and so that a dissector that takes content for lines is not led astray.
fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut file = BufWriter::new(File::create_new(path)?);
    let (mut left, mut state) = (bytes, 0x9e37_79b9_7f4a_7c15_u64);
    let mut line = Vec::with_capacity(LINE_LETTERS + 1);
    while left > 0 {
        line.clear();
        while line.len() < LINE_LETTERS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            line.extend(state.to_le_bytes().map(|byte| LETTERS[usize::from(byte % 64)]));
        }
        line.truncate(LINE_LETTERS);
        line.push(b'\n');
        let length = left.min(line.len() as u64);
        file.write_all(line.get(..usize::try_from(length)?).unwrap_or(&line))?;
        left = left.saturating_sub(length);
    }
    Ok(file.flush()?)
}
