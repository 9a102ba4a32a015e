//! The server that has all that the suite expects, as an entry that the bridge runs.

use contracts::registry::{Entry, ProcessModel, StdioTransport, entry::Server, self_hosted_server::Transport};
use integration_tests::{
    tools::{Tool, own},
    upstream::suite::Era,
    walk,
};

/// The entry of the server over standard input and output.
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
