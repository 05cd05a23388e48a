//! The least there is: a message, kept until its recipient registers, and the notification that it was delivered.

use anyhow::Result;
use restante_client::{Mode, PageMessage};
use restante_cpim::imdn::{Disposition, DispositionNotification};

use super::{ALICE, BOB};
use crate::demo::Story;
use crate::demo::stage::{SERVER, Setting, Stage};

pub const STORY: Story = Story {
    name: "page-push",
    title: "a message for somebody who is away, pushed when he is back; its sender is told",
    columns: &["Alice", SERVER, "Bob"],
    tell: |stage| Box::pin(tell(stage)),
};

async fn tell(stage: &mut Stage) -> Result<()> {
    stage.serve(Setting::new()).await?;
    let alice = stage.client("Alice", ALICE).await?;
    let bob = stage.client("Bob", BOB).await?;
    alice.registers().await?;
    let notifications = DispositionNotification { positive_delivery: true, ..Default::default() };
    let message_id = alice.sends(PageMessage { notifications, ..PageMessage::text(BOB, "See you at six") }).await?;
    stage.note("Bob is back").await?;
    bob.registers().await?;
    bob.receives(1).await?;
    bob.got_everything_by(Mode::Page)?;
    alice.is_notified(&message_id, Disposition::Delivered).await?;
    stage.nothing_waits().await
}
