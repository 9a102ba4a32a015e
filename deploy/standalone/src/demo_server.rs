//! The demo MCP server. It is a part of the program, so that a first tool call requires no download.

use rmcp::{
    ServerHandler, ServiceExt as _,
    handler::server::wrapper::Parameters,
    model::{Implementation, ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router, transport,
};
use serde::Deserialize;

/// The first argument with which the program runs as the demo server.
pub(crate) const COMMAND: &str = "demo-server";

/// Serves on standard input and output until they are closed.
pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let serving = DemoServer.serve(transport::stdio()).await?;
        serving.waiting().await?;
        Ok(())
    })
}

#[derive(Clone, Debug)]
struct DemoServer;

/// Whom to greet.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Greeting {
    /// The name of a person.
    name: String,
}

/// Two numbers.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Numbers {
    /// The first.
    a: f64,
    /// The second.
    b: f64,
}

#[tool_router]
impl DemoServer {
    #[tool(description = "Greets somebody, to show that a call has come all the way.")]
    fn hello(&self, Parameters(Greeting { name }): Parameters<Greeting>) -> String {
        format!("Hello, {name}! This came from the demo MCP server, through Chandlery.")
    }

    #[tool(description = "Adds two numbers.")]
    fn add(&self, Parameters(Numbers { a, b }): Parameters<Numbers>) -> String {
        (a + b).to_string()
    }
}

#[tool_handler]
impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("chandlery-demo", env!("CARGO_PKG_VERSION")))
            .with_instructions("A server to try Chandlery with.")
    }
}
