//! How a server does.

use std::time::{Duration, SystemTime};

use stdio_bridge::EndReason;

use super::package::Package;
use crate::config::Backoff;

/// Longest message the registry takes, in characters, with room to spare.
const MESSAGE: usize = 3_500;
/// Failures in a row until it is called a crash loop.
const LOOP: u32 = 3;

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not started yet.
    Pending,
    /// Runs and answers.
    Running,
    /// Does not.
    Failed,
}

/// How a server does, for people and the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// UPPER_SNAKE_CASE; empty while all is well.
    pub(crate) reason: String,
    /// For people; without secrets.
    pub(crate) message: String,
    pub(crate) start_time: Option<SystemTime>,
    pub(crate) restart_count: u32,
    /// `unix:/path` while it runs.
    pub(crate) endpoint: String,
    /// Of the plan without its secrets, in hex, while it runs.
    pub(crate) spec_digest: String,
    /// Whether there should be a server at all.
    pub(crate) wanted: bool,
    /// The installation's generation it speaks of.
    pub(crate) generation: i64,
    /// The last restart, asked for by a person, that this status is the outcome of.
    pub(crate) restart: u64,
    /// What was fetched for it, if its command names a package.
    pub(crate) package: Option<Package>,
}

impl Status {
    pub(crate) fn new(generation: i64) -> Self {
        Self {
            state: State::Pending,
            reason: "STARTING".to_owned(),
            message: "The server is being started.".to_owned(),
            start_time: None,
            restart_count: 0,
            endpoint: String::new(),
            spec_digest: String::new(),
            wanted: true,
            generation,
            restart: 0,
            package: None,
        }
    }

    pub(crate) fn set(&mut self, state: State, reason: &str, message: impl Into<String>) {
        self.state = state;
        reason.clone_into(&mut self.reason);
        // A server may write anything; what people read, and the registry takes, is text.
        let message: String = message.into();
        self.message = message
            .chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .collect();
        self.message.truncate(self.message.floor_char_boundary(MESSAGE));
        self.endpoint.clear();
        self.spec_digest.clear();
        self.wanted = true;
    }
}

/// What a program says that meets its sandbox.
const REFUSALS: [&str; 6] = [
    "ermission denied",
    "peration not permitted",
    "ead-only file system",
    "EACCES",
    "EPERM",
    "EROFS",
];

/// The reason to report for an end, and what to say, with the last lines the server wrote.
pub(crate) fn failure(
    reason: EndReason,
    message: &str,
    failures: u32,
    last_lines: &[String],
) -> (&'static str, String) {
    let code = match reason {
        EndReason::Stopped | EndReason::NotStarted => "NOT_STARTED",
        EndReason::CommandNotFound => "COMMAND_NOT_FOUND",
        EndReason::CommandNotExecutable => "COMMAND_NOT_EXECUTABLE",
        EndReason::Exited if failures >= LOOP => "CRASH_LOOP",
        EndReason::Exited => "EXITED",
        EndReason::InitializeFailed => "INITIALIZE_FAILED",
        EndReason::InitializeTimeout => "INITIALIZE_TIMEOUT",
        EndReason::NotMcp => "NOT_MCP",
        EndReason::PortNotOpen => "PORT_NOT_OPEN",
        EndReason::PortInUse => "PORT_IN_USE",
        EndReason::TaskTimeout | EndReason::PackageNotFetched => "PACKAGE_NOT_FETCHED",
    };
    let mut text = message.to_owned();
    if failures >= LOOP && reason == EndReason::Exited {
        text.push_str(&format!(" It has ended {failures} times in a row."));
    }
    if !last_lines.is_empty() {
        text.push_str(" Its last lines:");
        for line in last_lines {
            let end = line.floor_char_boundary(300);
            text.push('\n');
            text.push_str(&line[..end]);
        }
    }
    if last_lines
        .iter()
        .any(|line| REFUSALS.iter().any(|refusal| line.contains(refusal)))
    {
        text.push_str(
            "\nIf its sandbox refused that: --server-connect, --server-read and --server-write are what an operator lets servers do.",
        );
    }
    (code, text)
}

/// How long to wait before the start that follows so many failures in a row.
pub(crate) fn delay(backoff: &Backoff, failures: u32) -> Duration {
    let doubled = backoff.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(backoff.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = [1, 2, 3, 9, 10, 100].map(|n| delay(&backoff, n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn says_what_happened_with_the_last_lines() {
        let lines = ["no config".to_owned()];
        let (reason, message) = failure(EndReason::Exited, "It ended.", 1, &lines);
        assert_eq!(
            (reason, message.as_str()),
            ("EXITED", "It ended. Its last lines:\nno config")
        );
        assert_eq!(failure(EndReason::Exited, "It ended.", 3, &[]).0, "CRASH_LOOP");
        let refused = ["[Errno 13] Permission denied".to_owned()];
        let (_, message) = failure(EndReason::Exited, "It ended.", 1, &refused);
        assert!(message.contains("--server-connect"), "{message}");
        let mut status = Status::new(1);
        status.set(State::Failed, "X", "ü".repeat(10_000));
        assert!(status.message.len() <= MESSAGE);
    }
}
