//! The client is told what waits and fetches what it wants, as in the flow "Deferred Message Pulling".

use anyhow::{Context, Result, ensure};
use restante_client::{Mode, PageMessage, Selection};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "pull-fetch",
    title: "three messages are announced, two are fetched, then the third",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const MESSAGES: [&str; 3] = ["The key is under the mat", "A long story, part one", "The alarm code is in the post"];

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new().policy("delivery", "pull").policy("few", 2)).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    for text in MESSAGES {
        alice.sends(PageMessage::text(BOB, text)).await?;
    }
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.subscribes().await?;
    let summary = bob.is_told_of(MESSAGES.len()).await?;
    let ids: Vec<String> = summary.messages.iter().map(|message| message.message_id.clone()).collect();
    let [first, _, third] = ids.as_slice() else { return Err(anyhow::anyhow!("{} messages are listed", ids.len())) };
    stage.note("Bob fetches the first and the third").await?;
    let fetched = bob.fetches(Selection::Ids(vec![first.clone(), third.clone()]), 2).await?;
    let texts: Vec<&str> = fetched.messages.iter().filter_map(|message| message.text()).collect();
    let [one, _, three] = MESSAGES;
    ensure!(texts == [one, three], "fetched were {texts:?}");
    stage.only_waits(1).await.context("after two of three were fetched")?;
    stage.note("Bob fetches the rest").await?;
    bob.fetches(Selection::All, 1).await?;
    bob.got_everything_by(Mode::Fetch)?;
    stage.nothing_waits().await
}
