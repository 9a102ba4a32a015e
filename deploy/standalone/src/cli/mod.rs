//! The command line.

mod caller_limits;
mod serve;
mod values;

use std::{fmt, io::Write as _, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use self::serve::Serve;
use crate::{demo_server, rotate_keys, run, token};

/// First argument of the program when it is to be a stdio bridge.
pub(crate) const BRIDGE: &str = "stdio-bridge";

/// A private MCP registry: the catalog of approved MCP servers, their installations, credentials and runtime, and the
/// gateway through which agents call their tools.
///
/// Without a command it serves all of it from one process; nothing needs to be set up. On the first start it adds a demo
/// MCP server and prints how to call it.
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
    /// Prints a token of the development issuer, and nothing else, on standard output. `dev-issuer.log` in the data folder keeps who made
    /// it, for whom and until when.
    ///
    /// The server need not run, but must have been started once: then its data folder has the key that signs tokens. Example:
    /// TOKEN=$(chandlery token --user alice@example.com --admin)
    Token(Token),
    /// Makes new keys in place of those in the data folder, while the server is stopped.
    ///
    /// Stored secrets are sealed anew with the new key, and the old one is removed. What was sealed or signed with the other keys
    /// (sessions, sign-ins, tokens of the development issuer) is good until the next time, so that nobody notices; with --revoke it ends at
    /// once. May be cut off at any moment: run it again. Keep the backups from before only as long as they are needed: they hold the old keys.
    RotateKeys(RotateKeys),
    /// The demo MCP server, on standard input and output.
    #[command(name = demo_server::COMMAND, hide = true)]
    DemoServer,
}

/// Which token to print.
#[derive(Debug, Args)]
struct Token {
    /// Data folder of the server that is to accept the token.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    data_dir: PathBuf,
    /// The user's email address; it is also their subject.
    #[arg(long, value_name = "EMAIL", value_parser = token::email)]
    user: String,
    /// A group of the user, in the token's `groups`. A team whose mappings name it takes the user in. Repeat for more.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Make the user an admin.
    #[arg(long)]
    admin: bool,
    /// How long the token is valid, in seconds: at most 86400, a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = token::ttl)]
    ttl: u64,
}

/// Which keys to exchange, and how.
#[derive(Debug, Args)]
struct RotateKeys {
    /// Data folder of the server.
    #[arg(long, env = "CHANDLERY_DATA_DIR", default_value = "./.chandlery", value_name = "DIR")]
    data_dir: PathBuf,
    /// End sessions, sign-ins and tokens made with the old keys at once: for when somebody may have copied them.
    #[arg(long)]
    revoke: bool,
}

impl Cli {
    /// Does what the command says.
    pub(crate) fn dispatch(self) -> Result<(), Box<dyn std::error::Error>> {
        match self.command {
            None => run::run(self.serve.into()),
            Some(Command::Token(arguments)) => token::print(&arguments.into()),
            Some(Command::RotateKeys(arguments)) => rotate_keys::run(&arguments.data_dir, arguments.revoke),
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

/// Says what went wrong, on standard error.
pub(crate) fn complain(error: &dyn fmt::Display) {
    // Nothing is left to do where even this cannot be written.
    let _ = writeln!(std::io::stderr(), "chandlery: {error}");
}
