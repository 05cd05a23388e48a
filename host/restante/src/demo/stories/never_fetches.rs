//! A client that is told and never fetches starves nobody: after the fetch deadline the messages are pushed.

use anyhow::Result;
use restante_client::{Mode, PageMessage};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "never-fetches",
    title: "announced and never fetched: pushed after the fetch deadline",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const MESSAGES: [&str; 2] = ["Did you read this?", "Or this?"];
const FETCH_SECONDS: i64 = 2;

async fn tell(stage: &mut Stage) -> Result<()> {
    let setting = Setting::new().policy("delivery", "pull").policy("few", 1).policy("fetch_seconds", FETCH_SECONDS);
    stage.serve(setting).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    for text in MESSAGES {
        alice.sends(PageMessage::text(BOB, text)).await?;
    }
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.subscribes().await?;
    bob.is_told_of(MESSAGES.len()).await?;
    stage.note("Bob was told and does not fetch").await?;
    bob.receives(MESSAGES.len()).await?;
    bob.got_everything_by(Mode::Page)?;
    bob.got_everything_in_order()?;
    stage.nothing_waits().await
}
