//! A few messages in page mode need no notification: they are sent as they are, in pull as in push.

use anyhow::{Result, ensure};
use restante_client::{Mode, PageMessage};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "pull-few",
    title: "a few messages for somebody who pulls, sent directly all the same",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const MESSAGES: [&str; 2] = ["Bread", "And milk, please"];

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new().policy("delivery", "pull").policy("few", 3)).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    for text in MESSAGES {
        alice.sends(PageMessage::text(BOB, text)).await?;
    }
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.receives(MESSAGES.len()).await?;
    bob.got_everything_by(Mode::Page)?;
    bob.got_everything_in_order()?;
    ensure!(bob.summaries() == 0, "Bob was notified of messages that were sent to him");
    stage.nothing_waits().await
}
