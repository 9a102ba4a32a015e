//! The reason and message of a server that failed, and the delay before it is restarted.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use stdio_bridge::EndReason;

use crate::{config::Backoff, domain::status::Told};

/// After how many failures in a row they are a loop.
pub(super) const LOOP: u32 = 3;

/// What programs write when the sandbox refuses something.
const REFUSALS: [&str; 6] = [
    "ermission denied",
    "peration not permitted",
    "ead-only file system",
    "EACCES",
    "EPERM",
    "EROFS",
];

const ALLOW_MORE: &str = "\nIf the sandbox refused this, an operator can allow more with --server-connect, --server-read and --server-write.";

/// Why a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The bridge reported this.
    Ended(EndReason),
    /// Its package could not be fetched.
    PackageNotFetched,
}

/// How far a server had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It was not ready, however long it took to fail.
    Nothing,
    Ready,
    /// It was ready, and ran for long.
    Stable,
}

/// How a failure is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// As `message`, without what the server wrote.
    pub(super) summary: String,
}

/// Describes a failure. The message quotes `lines` that the server wrote.
pub(super) fn failure(cause: Cause, message: &str, failures: u32, lines: &[String]) -> Failure {
    let looping = failures >= LOOP && cause == Cause::Ended(EndReason::Exited);
    let reason = match cause {
        Cause::PackageNotFetched | Cause::Ended(EndReason::TaskTimeout) => "PACKAGE_NOT_FETCHED",
        Cause::Ended(reason) => match reason {
            EndReason::Exited if looping => "CRASH_LOOP",
            EndReason::Exited => "EXITED",
            EndReason::CommandNotFound => "COMMAND_NOT_FOUND",
            EndReason::CommandNotExecutable => "COMMAND_NOT_EXECUTABLE",
            EndReason::InitializeFailed => "INITIALIZE_FAILED",
            EndReason::InitializeTimeout => "INITIALIZE_TIMEOUT",
            EndReason::NotMcp => "NOT_MCP",
            EndReason::PortNotOpen => "PORT_NOT_OPEN",
            EndReason::PortExposed => "PORT_EXPOSED",
            EndReason::BridgeFailed => "BRIDGE_FAILED",
            EndReason::PortInUse => "PORT_IN_USE",
            _ => "NOT_STARTED",
        },
    };
    let mut text = message.to_owned();
    let mut summary = match cause {
        // The bridge quotes the server's answer.
        Cause::Ended(EndReason::InitializeFailed) => "The server refused `initialize`.".to_owned(),
        _ => message.to_owned(),
    };
    if looping {
        let often = format!(" It has failed {failures} times in a row.");
        text.push_str(&often);
        summary.push_str(&often);
    }
    // What the server wrote does not explain a failure of the bridge.
    let lines = if cause == Cause::Ended(EndReason::BridgeFailed) {
        &[]
    } else {
        lines
    };
    if !lines.is_empty() {
        text.push_str(" It wrote:");
        for line in lines {
            text.push('\n');
            text.push_str(line);
        }
    }
    if lines
        .iter()
        .any(|line| REFUSALS.iter().any(|refusal| line.contains(refusal)))
    {
        text.push_str(ALLOW_MORE);
        summary.push_str(ALLOW_MORE);
    }
    Failure {
        reason,
        message: text,
        summary,
    }
}

/// Describes why no process can be started for another session.
pub(super) fn session_failure(reason: EndReason, message: &str) -> Told {
    let Failure { message, summary, .. } = failure(Cause::Ended(reason), message, 1, &[]);
    let shown = |why: &str| {
        format!(
            "New sessions cannot be opened, because the process of a session does not start. Open sessions are not affected. Each new client \
             starts another process, after a pause of up to a minute. The last start: {why}"
        )
    };
    Told {
        message: shown(&message),
        summary: shown(&summary),
    }
}

/// The delay before the start that follows this many failures in a row. It doubles with each, up to the longest. Up to a fifth, which differs
/// between owners, is subtracted, so that servers that failed at the same time are not all restarted at the same time.
pub(super) fn delay(backoff: &Backoff, owner: &str, failures: u32) -> Duration {
    let doubled = backoff.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let longest = doubled.min(backoff.longest);
    let hash = Sha256::digest(format!("{owner}/{failures}"));
    longest - longest.mul_f64(0.2) * u32::from(hash[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_not_for_everybody_the_same() {
        let backoff = Backoff::default();
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (100, 300)] {
            let delay = delay(&backoff, "one", failures).as_secs_f64();
            let longest = f64::from(seconds);
            assert!((longest * 0.799..=longest).contains(&delay), "{failures}: {delay}");
        }
        assert_ne!(delay(&backoff, "one", 5), delay(&backoff, "two", 5));
    }

    #[test]
    fn says_what_happened_with_the_last_lines() {
        let exited = Cause::Ended(EndReason::Exited);
        let lines = ["no config".to_owned()];
        let shown = failure(exited, "It ended.", 1, &lines);
        assert_eq!(
            (shown.reason, shown.message.as_str()),
            ("EXITED", "It ended. It wrote:\nno config")
        );
        assert_eq!(shown.summary, "It ended.");
        assert_eq!(failure(exited, "It ended.", 3, &[]).reason, "CRASH_LOOP");
        let refused = ["[Errno 13] Permission denied".to_owned()];
        let shown = failure(exited, "It ended.", 1, &refused);
        assert!(shown.message.contains("--server-connect"), "{}", shown.message);
        assert!(!shown.summary.contains("Errno"), "{}", shown.summary);
        let answered = failure(Cause::Ended(EndReason::InitializeFailed), "Refused: its text", 1, &[]);
        assert!(!answered.summary.contains("its text"), "{}", answered.summary);
        let session = session_failure(EndReason::InitializeFailed, "Refused: its text");
        assert!(session.message.ends_with("Refused: its text"), "{}", session.message);
        assert!(!session.summary.contains("its text"), "{}", session.summary);
    }
}
