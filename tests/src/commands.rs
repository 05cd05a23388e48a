//! Commands that ask the server of a story.

use serde_json::Value;

use crate::http::{HttpAnswer, http_request};
use crate::program::{Finished, run};
use crate::world::World;

impl World {
    /// Runs a command against the server.
    ///
    /// # Panics
    /// It cannot be run.
    pub async fn command(&self, arguments: &[&str]) -> Finished {
        let socket = self.configuration().data.join("admin.sock").display().to_string();
        let arguments: Vec<String> =
            arguments.iter().map(|it| (*it).to_owned()).chain(["--socket".to_owned(), socket]).collect();
        // The server answers on this thread's runtime.
        let ran = tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        ran.await.expect("the command runs")
    }

    /// Runs a command that succeeds and says JSON.
    ///
    /// # Panics
    /// It does not.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.command(&[arguments, &["--json"]].concat()).await;
        assert!(finished.status.success(), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    /// Sends a request to the administration interface, with a body of this type where there is one.
    pub async fn administer(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> HttpAnswer {
        http_request(&self.configuration().data.join("admin.sock"), method, path, body).await
    }
}
