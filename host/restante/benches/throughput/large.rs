//! One large message in and out through MSRP.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use restante_client::{Client, ClientConfiguration, ClientEvent, LargeMessage, Source, Storage};

use super::server::Server;

/// What went through.
pub struct Exchanged {
    pub in_megabytes_per_second: f64,
    pub out_megabytes_per_second: f64,
}

/// Sends a body of so many megabytes to somebody who is away, who then registers.
pub fn exchange(server: &Server, megabytes: u32) -> Result<Exchanged> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let directory = tempfile::Builder::new().prefix("restante-bench").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let path = directory.path().join("body");
        let mut file = std::fs::File::create(&path)?;
        let block: Vec<u8> = (0..1_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for _ in 0..megabytes {
            file.write_all(&block)?;
        }
        let (alice, _alice_events) =
            Client::start(ClientConfiguration::new("sip:alice@example.org", server.sip)).await?;
        let began = Instant::now();
        let sent = alice
            .send_large(LargeMessage::new("sip:bob@example.org", "application/octet-stream", Source::File(path)))
            .await?;
        let in_seconds = began.elapsed().as_secs_f64();
        ensure!(sent.accepted, "not accepted: {} {}", sent.answer.status, sent.detail);

        let configuration = ClientConfiguration {
            storage: Storage::Directory(directory.path().to_owned()),
            ..ClientConfiguration::new("sip:bob@example.org", server.sip)
        };
        let (bob, mut bob_events) = Client::start(configuration).await?;
        bob.register(600).await?;
        // The server lets a client settle before the first push; that is no part of the transfer.
        let began = Instant::now() + Duration::from_secs(1);
        let received = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                match bob_events.next().await {
                    Some(ClientEvent::Received(message)) => return Some(message),
                    Some(_) => {}
                    None => return None,
                }
            }
        });
        let received = received.await?.context("the receiving client ended")?;
        ensure!(received.sha256 == sent.sha256, "what came is not what was sent");
        let megabytes = f64::from(megabytes);
        Ok(Exchanged {
            in_megabytes_per_second: megabytes / in_seconds,
            out_megabytes_per_second: megabytes / began.elapsed().as_secs_f64(),
        })
    })
}
