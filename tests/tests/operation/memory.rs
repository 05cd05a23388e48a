//! What it needs does not grow with the size of a message.

use std::path::Path;

use restante_client::{Client, ClientConfiguration, LargeMessage, Source, Storage};
use restante_tests::{Person, Program, Recorder, pattern};
use restante_transport::Protocol;

const MOST_BYTES: u64 = 16 * 1024 * 1024;

async fn person(program: &Program, name: &str, storage: Storage) -> Person {
    let mut configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), program.sip());
    configuration.transport = Protocol::Tcp;
    configuration.storage = storage;
    let (client, events) = Client::start(configuration).await.expect("sockets");
    Person::new(client, events, std::sync::Arc::<Recorder>::default())
}

/// Peak memory of a server of its own that took and delivered one message of this size.
async fn peak_bytes(directory: &Path, size: usize) -> u64 {
    let program = Program::patient("");
    let served = program.serve().await;
    let source = directory.join(format!("source-{size}"));
    std::fs::write(&source, pattern(size)).unwrap();
    let alice = person(&program, "alice", Storage::Memory).await;
    let mut bob = person(&program, "bob", Storage::Directory(directory.to_owned())).await;
    let message = LargeMessage::new(bob.address(), "application/octet-stream", Source::File(source));
    let sent = alice.client.send_large(message).await.unwrap();
    assert!(sent.accepted, "{sent:?}");
    bob.register().await;
    let received = bob.received().await;
    assert_eq!((received.sha256, received.size), (sent.sha256, size as u64));
    bob.session_ended().await;
    served.peak_memory_bytes()
}

#[tokio::test]
async fn a_hundred_megabytes_take_hardly_more_memory_than_one() {
    let directory = tempfile::tempdir().unwrap();
    let small = peak_bytes(directory.path(), 1_000_000).await;
    let large = peak_bytes(directory.path(), 100_000_000).await;
    let more = large.saturating_sub(small);
    println!("peak memory: {small} bytes for 1 MB, {large} for 100 MB");
    assert!(more <= MOST_BYTES, "{more} bytes more for 100 MB than for 1 MB");
}
