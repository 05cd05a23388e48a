//! Through a core: it registers its user by a third-party REGISTER, every request to the user goes through it, and it brings
//! the server's own delivery back once, as filter criteria do that match everything.

use anyhow::{Result, ensure};
use restante_client::proxy::Passage;
use restante_client::{Mode, PageMessage};

use super::ALICE;
use crate::demo::Story;
use crate::demo::stage::{CORE, SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "outbound-proxy",
    title: "for a telephone number that a core registers, sent through the core, looped back once, delivered once",
    columns: &["Alice", SERVER, CORE, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const BOB: &str = "tel:+15550123";
/// The same number as people write it.
const BOB_WRITTEN: &str = "tel:+1-555-0123";
const LIFETIME_SECONDS: u32 = 600;

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new().with_core()).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    alice.sends(PageMessage::text(BOB_WRITTEN, "Call me back")).await?;
    stage.note("Bob's phone is on: the core registers it, and will loop the next request back once").await?;
    let core = stage.core()?;
    core.route(BOB, &format!("sip:bob@{}", bob.client().sip_address()));
    core.loop_back(1);
    let answer = core.register(BOB, LIFETIME_SECONDS).await?;
    ensure!(answer.is_success(), "the third-party REGISTER was answered {} {}", answer.status, answer.reason);
    bob.receives(1).await?;
    bob.got_everything_by(Mode::Page)?;
    stage.nothing_waits().await?;
    let passed = stage.core()?.passed();
    let of = |passage: Passage| passed.iter().filter(|it| it.method == "MESSAGE" && it.passage == passage).count();
    ensure!(of(Passage::LoopedBack) == 1, "{} MESSAGEs were looped back, expected 1", of(Passage::LoopedBack));
    ensure!(of(Passage::ToUser) == 1, "{} MESSAGEs went to Bob, expected 1", of(Passage::ToUser));
    Ok(())
}
