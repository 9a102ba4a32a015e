//! The server that has all that the official conformance suite expects, `node/conformance_server.mjs`, over HTTP.

use crate::{process::Program, script::node_command, wait::eventually};

/// What a server, or a client, speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// The revisions up to 2025-11-25.
    Legacy,
    /// Revision 2026-07-28.
    Modern,
    /// All, at one endpoint.
    Both,
}

impl Era {
    /// As the server's argument.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Both => "both",
        }
    }
}

/// The running server.
#[derive(Debug)]
pub struct Remote {
    /// Its MCP endpoint.
    pub url: String,
    _program: Program,
}

impl Remote {
    /// Starts the server and waits until it listens.
    pub async fn start(era: Era) -> Self {
        let mut command = node_command("conformance_server.mjs");
        command.args(["http", era.argument()]);
        let program = Program::start(command);
        let lines = program.lines().clone();
        let url = eventually("the server prints its URL", || {
            let line = lines.all().into_iter().find(|line| line.starts_with("http://"));
            async move { line }
        })
        .await;
        Self { url, _program: program }
    }
}
