//! A message whose time is up is not delivered, and its sender hears of it.

use anyhow::Result;
use restante_client::PageMessage;
use restante_cpim::imdn::{Disposition, DispositionNotification};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "expiry",
    title: "a message that nobody came for in time; its sender is told that it failed",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

const EXPIRES_SECONDS: u32 = 5;

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new()).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    alice.registers().await?;
    let notifications = DispositionNotification { negative_delivery: true, ..Default::default() };
    let message = PageMessage {
        notifications,
        expires_seconds: Some(EXPIRES_SECONDS),
        ..PageMessage::text(BOB, "Lunch in five seconds?")
    };
    let message_id = alice.sends_in_vain(message).await?;
    stage.note("Nobody comes").await?;
    alice.is_notified(&message_id, Disposition::DeliveryFailed).await?;
    // What he gets afterwards shows what he does not get any more.
    alice.sends(PageMessage::text(BOB, "Dinner, then")).await?;
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.receives(1).await?;
    stage.nothing_waits().await
}
