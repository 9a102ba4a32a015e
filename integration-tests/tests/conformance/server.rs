//! The server that has all that the suite expects, `node/conformance_server.mjs`.

use contracts::registry::{Entry, ProcessModel, StdioTransport, entry::Server, self_hosted_server::Transport};
use integration_tests::{
    eventually,
    process::Program,
    script::node_command,
    tools::{Tool, own},
    walk,
};

/// What a server, or a client, speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    /// The revisions up to 2025-11-25.
    Legacy,
    /// Revision 2026-07-28.
    Modern,
    /// All, at one endpoint.
    Both,
}

impl Era {
    fn argument(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
            Self::Both => "both",
        }
    }
}

/// The server over HTTP.
pub(super) struct Remote {
    pub(super) url: String,
    _program: Program,
}

impl Remote {
    pub(super) async fn start(era: Era) -> Self {
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

/// The entry of the server over standard input and output, which the bridge runs.
pub(super) fn local(era: Era, model: ProcessModel) -> Entry {
    let (hook, script) = (own("node/resolve.mjs"), own("node/conformance_server.mjs"));
    let arguments = [
        "--import",
        &hook.to_string_lossy(),
        &script.to_string_lossy(),
        "stdio",
        era.argument(),
    ];
    let mut entry = walk::stdio(&Tool::Node.path().to_string_lossy(), &arguments);
    if let Some(Server::SelfHosted(server)) = &mut entry.server {
        let modules = Tool::NodeModules.path().to_string_lossy().into_owned();
        server
            .environment
            .insert("CHANDLERY_TEST_NODE_MODULES".to_owned(), modules);
        server.transport = Some(Transport::Stdio(StdioTransport {
            process_model: model.into(),
        }));
    }
    entry
}

/// The folders that it reads, for `--server-read`.
pub(super) fn folders() -> String {
    format!("{},{}", Tool::NodeModules.path().display(), own("node").display())
}
