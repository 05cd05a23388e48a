//! Accepted means not lost: the server is killed between its 202 and the delivery.

use anyhow::Result;
use bytes::Bytes;
use restante_client::{LargeMessage, Mode, PageMessage, Source};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "crash",
    title: "the server is killed after its 202, started again on the same directory, and delivers",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

/// More than fits a row of the store: a file of its own.
const LARGE_BYTES: usize = 300_000;

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new().as_process()).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    alice.sends(PageMessage::text(BOB, "Do not lose this")).await?;
    // No picture that anybody could look at, but one that can be read on the wire.
    let picture: Vec<u8> = (0..LARGE_BYTES).map(|at| b'!' + (at % 89) as u8).collect();
    let message = LargeMessage::new(BOB, "image/png", Source::Bytes(Bytes::from(picture)));
    alice.sends_large(message, "nor this picture").await?;
    stage.kill_server()?;
    stage.note("The server is killed with SIGKILL").await?;
    stage.restart_server().await?;
    stage.note("It is started again; Bob is back").await?;
    bob.registers().await?;
    bob.receives(2).await?;
    bob.sees_session_end(1).await?;
    bob.got_everything_by(Mode::Push)?;
    bob.got_everything_in_order()?;
    stage.nothing_waits().await
}
