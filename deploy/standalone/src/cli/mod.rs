//! The command line.

mod caller_limits;
mod serve;
mod values;
mod vault;

use std::{fmt, io::Write as _, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use credential_svc::Transit;

use self::{serve::Serve, vault::VaultOptions};
use crate::{demo_server, rotate_keys, run, token};

/// A private MCP registry: the catalog of approved MCP servers, their installations, credentials and runtime, and the
/// gateway through which agents call their tools.
///
/// Without a command, it runs all services in one process and requires no setup. The first start adds a demo MCP server
/// and prints how to call it.
#[derive(Debug, Parser)]
#[command(name = "chandlery", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a token of the development issuer, and nothing else, to standard output. `dev-issuer.log` in the data
    /// folder records who created it, for which user, and when it expires.
    ///
    /// The server need not be running, but must have been started once: its data folder then has the signing key. Example:
    /// TOKEN=$(chandlery token --user alice@example.com --admin)
    Token(Token),
    /// Rotates the keys in the data folder, while the server is stopped.
    ///
    /// Stored secrets are encrypted again with a new key, and the old key is removed. What the other keys have sealed or signed (sessions,
    /// sign-ins, tokens of the development issuer) stays valid until the next rotation; with --revoke it becomes invalid at once. If this is
    /// interrupted, run it again. Delete older backups when you no longer need them: they contain the old keys.
    RotateKeys(Box<RotateKeys>),
    /// The demo MCP server, on standard input and output.
    #[command(name = demo_server::COMMAND, hide = true)]
    DemoServer,
}

/// The arguments of `token`.
#[derive(Debug, Args)]
struct Token {
    /// Data folder of the server that is to accept the token.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    data_dir: PathBuf,
    /// The user's email address; it is also their subject.
    #[arg(long, value_name = "EMAIL", value_parser = token::email)]
    user: String,
    /// A group of the user, in the token's `groups` claim; teams can map it. Repeat for more.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Make the user an admin.
    #[arg(long)]
    admin: bool,
    /// Lifetime of the token in seconds; at most 86400, a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = token::ttl)]
    ttl: u64,
}

/// The arguments of `rotate-keys`.
#[derive(Debug, Args)]
struct RotateKeys {
    /// Data folder of the server.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    data_dir: PathBuf,
    /// Invalidate sessions, sign-ins and tokens made with the old keys at once, for example when the keys may have been copied.
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    vault: VaultOptions,
}

impl Cli {
    /// Runs the command.
    pub(crate) fn dispatch(self) -> Result<(), Box<dyn std::error::Error>> {
        match self.command {
            None => run::run(self.serve.into()),
            Some(Command::Token(arguments)) => token::print(&arguments.into()),
            Some(Command::RotateKeys(arguments)) => {
                let transit = arguments.vault.transit();
                let transit = transit.map(|(vault, key)| Transit::new(vault, key)).transpose()?;
                rotate_keys::run(&arguments.data_dir, arguments.revoke, transit)
            }
            Some(Command::DemoServer) => demo_server::run(),
        }
    }
}

impl From<Token> for token::Request {
    fn from(arguments: Token) -> Self {
        Self {
            data_dir: arguments.data_dir,
            user: arguments.user,
            groups: arguments.group,
            admin: arguments.admin,
            ttl: Duration::from_secs(arguments.ttl),
        }
    }
}

/// Reports an error on standard error.
pub(crate) fn report(error: &dyn fmt::Display) {
    // If standard error cannot be written, nothing is left to try.
    let _ = writeln!(std::io::stderr(), "chandlery: {error}");
}
