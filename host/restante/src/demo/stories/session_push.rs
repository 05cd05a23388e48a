//! More than a few messages: one session carries them all, as in the flow "Deferred Message Pushing".

use anyhow::{Result, ensure};
use restante_client::{Mode, PageMessage};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "session-push",
    title: "more than a few messages, pushed in one session and in order",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const MESSAGES: [&str; 5] = ["The train is late", "Twenty minutes", "Forty", "It is here", "Keep some soup"];

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new().policy("few", 3)).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    for text in MESSAGES {
        alice.sends(PageMessage::text(BOB, text)).await?;
    }
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.receives(MESSAGES.len()).await?;
    let session = bob.sees_session_end(1).await?;
    ensure!(session.orderly, "the session was not ended by BYE");
    ensure!(session.messages == MESSAGES.len(), "the session brought {} messages", session.messages);
    bob.got_everything_by(Mode::Push)?;
    bob.got_everything_in_order()?;
    stage.nothing_waits().await
}
