//! `restante policy` against the server of a story.

use restante_tests::{Finished, World, run};
use serde_json::Value;

/// Runs a command. Those that need no server are not told where it is.
pub async fn command(world: &World, arguments: &[&str]) -> Finished {
    let mut arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    if arguments.get(1).is_none_or(|name| name != "replay") {
        let socket = world.configuration().data.join("admin.sock").display().to_string();
        arguments.extend(["--socket".to_owned(), socket]);
    }
    // The server answers on this thread's runtime.
    let ran = tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    ran.await.expect("the command runs")
}

/// The output of one that succeeds.
pub async fn done(world: &World, arguments: &[&str]) -> String {
    let finished = command(world, arguments).await;
    assert!(finished.status.success(), "{arguments:?}: {finished:?}");
    finished.stdout
}

/// `restante policy status example`
pub async fn status(world: &World) -> Value {
    let shown = done(world, &["policy", "status", "example", "--json"]).await;
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// A settings file of this story.
pub fn settings(world: &World, text: &str) -> String {
    let path = world.directory().join(format!("{}.json", text.len()));
    std::fs::write(&path, text).expect("settings");
    path.display().to_string()
}
