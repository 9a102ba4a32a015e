//! npm's `@modelcontextprotocol/server-everything` over streamable HTTP, on 127.0.0.1.

use std::time::Duration;

use tokio::{net::TcpStream, process::Command};

use crate::{
    process::{Program, free_port},
    tools::{Tool, npm_command, own},
    wait::eventually_within,
};

/// The running server.
#[derive(Debug)]
pub struct Everything {
    port: u16,
    _program: Program,
}

impl Everything {
    /// Starts the server and waits until it listens.
    pub async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(Tool::Node.path());
        command.arg("--require").arg(own("node/loopback.cjs"));
        command
            .arg(npm_command("mcp-server-everything"))
            .arg("streamableHttp")
            .env("PORT", port.to_string());
        let program = Program::start(command);
        eventually_within(Duration::from_secs(60), "server-everything listens", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self {
            port,
            _program: program,
        }
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}
