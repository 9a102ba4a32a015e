//! `node/session_server.mjs`: a server with sessions, which tells each message it gets, and breaks off calls that it has carried out.

use serde_json::Value;

use crate::{process::Program, script::node_command, wait::eventually};

/// The running server.
#[derive(Debug)]
pub struct SessionServer {
    /// Its MCP endpoint.
    pub url: String,
    program: Program,
}

impl SessionServer {
    /// Starts the server and waits until it listens.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts it at the same URL once more, after it was killed. It has forgotten everything.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub async fn start_again(&mut self) {
        let port = self.url.rsplit([':', '/']).nth(1).and_then(|port| port.parse().ok());
        *self = Self::start_at(port.expect("its URL has a port")).await;
    }

    async fn start_at(port: u16) -> Self {
        let mut command = node_command("session_server.mjs");
        command.arg(port.to_string());
        let program = Program::start(command);
        let lines = program.lines().clone();
        let url = eventually("the server prints its URL", || {
            let line = lines.all().into_iter().find(|line| line.starts_with("http://"));
            async move { line }
        })
        .await;
        Self { url, program }
    }

    /// The messages of this method, or HTTP method, that it has got: `session` and `params`.
    pub fn got(&self, method: &str) -> Vec<Value> {
        let lines = self.program.lines().all();
        let messages = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        messages.filter(|message| message["method"] == method).collect()
    }

    /// How many calls with this argument it has carried out.
    pub fn carried_out(&self, how: &str) -> usize {
        let calls = self.got("tools/call");
        calls
            .iter()
            .filter(|call| call["params"]["arguments"]["how"] == how)
            .count()
    }

    /// Ends its process at once.
    pub async fn kill(&mut self) {
        self.program.kill().await;
    }
}
