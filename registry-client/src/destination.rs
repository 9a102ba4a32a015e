//! Where an entry's secrets go. A stored secret is bound to this, and is not vended anywhere else until its owner agrees.

use contracts::registry::{EntryRevision, SelfHostedServer, entry_revision::Server};
use url::Url;

/// Programs that run whatever package their first argument names.
const LAUNCHERS: [&str; 4] = ["npx", "bunx", "uvx", "pnpx"];
/// Programs that run whatever their arguments say.
const INTERPRETERS: [&str; 9] = ["sh", "bash", "env", "node", "deno", "bun", "python", "python3", "uv"];

/// The destination of an entry revision: a remote server's origin, such as `https://mcp.example.com`; a self-hosted server's program,
/// such as `command:mcp-server-time`, with the package for launchers (`command:npx @scope/server`) and all arguments
/// for interpreters. A new version of the same program is the same destination. `None` for one without server.
pub fn of(revision: &EntryRevision) -> Option<String> {
    match revision.server.as_ref()? {
        Server::Remote(remote) => of_url(&remote.url),
        Server::SelfHosted(server) => Some(of_command(server)),
    }
}

fn of_url(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

fn of_command(server: &SelfHostedServer) -> String {
    let program = server.command.rsplit('/').next().unwrap_or_default();
    if LAUNCHERS.contains(&program) {
        let package = server
            .arguments
            .iter()
            .find(|argument| !argument.starts_with('-'))
            .map(String::as_str);
        return format!(
            "command:{} {}",
            server.command,
            without_version(package.unwrap_or_default())
        );
    }
    if INTERPRETERS.contains(&program) {
        return format!("command:{} {}", server.command, server.arguments.join(" "));
    }
    format!("command:{}", server.command)
}

/// `@scope/name@1.2` and `name==1.2` without their versions.
fn without_version(package: &str) -> &str {
    let package = package.split("==").next().unwrap_or_default();
    match package.char_indices().skip(1).find(|(_, c)| *c == '@') {
        Some((at, _)) => &package[..at],
        None => package,
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::RemoteServer;

    use super::*;

    fn remote(url: &str) -> Option<String> {
        let server = Some(Server::Remote(RemoteServer { url: url.to_owned() }));
        of(&EntryRevision {
            server,
            ..EntryRevision::default()
        })
    }

    fn command(command: &str, arguments: &[&str]) -> String {
        let server = SelfHostedServer {
            command: command.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            ..SelfHostedServer::default()
        };
        of(&EntryRevision {
            server: Some(Server::SelfHosted(server)),
            ..EntryRevision::default()
        })
        .unwrap()
    }

    #[test]
    fn is_the_origin_of_a_remote_server() {
        assert_eq!(
            remote("https://MCP.example.com:443/a?b=c").unwrap(),
            "https://mcp.example.com"
        );
        assert_eq!(remote("http://127.0.0.1:3001/mcp").unwrap(), "http://127.0.0.1:3001");
        assert_eq!(remote("nonsense"), None);
        assert_eq!(of(&EntryRevision::default()), None);
    }

    #[test]
    fn outlives_a_new_version_but_not_another_program() {
        assert_eq!(
            command("mcp-server-time", &["--local-timezone", "UTC"]),
            "command:mcp-server-time"
        );
        assert_eq!(
            command("npx", &["-y", "@scope/server@1.2.3", "/data"]),
            "command:npx @scope/server"
        );
        assert_eq!(command("uvx", &["mcp-server-time==2"]), "command:uvx mcp-server-time");
        assert_ne!(command("python3", &["-m", "good"]), command("python3", &["-m", "evil"]));
    }
}
