//! Converts between the messages of the contract and the domain.

use contracts::{
    orchestrator::{
        Package, Protection, ProtectionLevel, RestartRuntimeRequest, Runtime, RuntimeState, StreamRuntimeLogsRequest,
        StreamRuntimeLogsResponse,
    },
    registry,
};
use prost_types::Timestamp;
use service_kit::{clock::from_micros, status::Violations};
use tonic::Status;

use uuid::Uuid;

use crate::domain::{
    logs::{KEPT_LINES, LogLine, LogQuery},
    protection,
    status::{self, State},
};

const DEFAULT_TAIL: usize = 100;

const NAME: &str = "must be installations/{installation}/runtime or entries/{entry}/runtime";

/// What a runtime belongs to, by resource name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// `installations/{installation}`.
    Installation(String),
    /// `entries/{entry}`, whose installations share the server.
    Entry(String),
}

impl Parent {
    /// The name of the runtime.
    pub(super) fn runtime(&self) -> String {
        let (Self::Installation(name) | Self::Entry(name)) = self;
        format!("{name}/runtime")
    }
}

/// The error for a name that the registry found invalid.
pub(super) fn refused_name() -> Status {
    let mut violations = Violations::new();
    violations.add("name", NAME);
    violations.into()
}

/// The parent of the runtime of this name. The other `violations` are those of the rest of the request.
pub(super) fn parent(name: &str, mut violations: Violations) -> Result<Parent, Status> {
    let valid =
        |id: &str| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let parent = name
        .strip_suffix("/runtime")
        .and_then(|parent| match parent.split_once('/') {
            Some(("installations", id)) if valid(id) => Some(Parent::Installation(parent.to_owned())),
            Some(("entries", id)) if valid(id) => Some(Parent::Entry(parent.to_owned())),
            _ => None,
        });
    match parent {
        Some(parent) => violations.into_result(parent).map_err(Status::from),
        None => {
            violations.add("name", NAME);
            Err(violations.into())
        }
    }
}

/// The id of a restart: the caller's, or a new one.
pub(super) fn restart_id(request: &RestartRuntimeRequest) -> (String, Violations) {
    let mut violations = Violations::new();
    let id = match request.request_id.as_str() {
        "" => service_kit::random::uuid().to_string(),
        id => Uuid::parse_str(id).map(|id| id.to_string()).unwrap_or_else(|_| {
            violations.add("request_id", "must be a UUID, or empty");
            String::new()
        }),
    };
    (id, violations)
}

pub(super) fn log_query(request: &StreamRuntimeLogsRequest, now: i64) -> (LogQuery, Violations) {
    let mut violations = Violations::new();
    let tail = match usize::try_from(request.tail_lines) {
        Ok(0) => DEFAULT_TAIL,
        Ok(lines) => lines.min(KEPT_LINES),
        Err(_) => {
            violations.add("tail_lines", "must not be negative");
            0
        }
    };
    let mut since = 0;
    if let Some(duration) = &request.since {
        if duration.seconds < 0 || duration.nanos < 0 {
            violations.add("since", "must not be negative");
        }
        let micros = duration
            .seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(duration.nanos) / 1_000);
        since = now.saturating_sub(micros);
    }
    if request.follow && request.previous {
        violations.add(
            "previous",
            "must not be set together with follow: the previous process has ended and writes no more lines",
        );
    }
    let query = LogQuery {
        tail,
        since,
        follow: request.follow,
        previous: request.previous,
    };
    (query, violations)
}

/// What the caller sees of a server; what it wrote, only if they may read its log.
pub(super) fn runtime(
    name: String,
    status: status::Status,
    reads_log: bool,
    protections: Vec<protection::Protection>,
) -> Runtime {
    let state = match status.state {
        State::Pending => RuntimeState::Pending,
        State::Running => RuntimeState::Running,
        State::Failed => RuntimeState::Failed,
    };
    let told = status.told();
    let message = if reads_log { told.message } else { told.summary };
    Runtime {
        name,
        state: state.into(),
        reason: status.reason,
        message,
        start_time: status.start_time.map(Timestamp::from),
        restart_count: i32::try_from(status.restart_count).unwrap_or(i32::MAX),
        protections: protections.into_iter().map(protected).collect(),
        restart_id: status.requested_restart,
        observed_restart_id: status.observed_restart,
        package: status.package.map(|package| Package {
            ecosystem: package.ecosystem.name().to_owned(),
            name: package.name,
            requested: package.requested,
            version: package.version,
            lock_digest: package.lock_digest,
        }),
    }
}

/// The status that was last reported to the registry, for a server that another orchestrator runs, or that is not known here yet.
pub(super) fn reported(runtime: registry::Runtime) -> status::Status {
    let mut status = status::Status::starting(runtime.observed_generation);
    match runtime.state() {
        registry::RuntimeState::Running => status.set(State::Running, "", runtime.message),
        registry::RuntimeState::Failed => status.set(State::Failed, &runtime.reason, runtime.message),
        _ => status.set(State::Pending, &runtime.reason, runtime.message),
    }
    status
}

fn protected(protection: protection::Protection) -> Protection {
    use protection::ProtectionLevel as Level;
    let level = match protection.level {
        Level::None => ProtectionLevel::None,
        Level::Partial => ProtectionLevel::Partial,
        Level::Enforced => ProtectionLevel::Enforced,
    };
    Protection {
        subject: protection.subject.to_owned(),
        level: level.into(),
        explanation: protection.explanation,
    }
}

pub(super) fn line(line: LogLine) -> StreamRuntimeLogsResponse {
    let time = (line.time > 0).then(|| Timestamp::from(from_micros(line.time)));
    StreamRuntimeLogsResponse {
        line: line.text.to_string(),
        time,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    #[test]
    fn takes_names_of_runtimes_only() {
        for name in ["installations/a-1/runtime", "entries/a-1/runtime"] {
            assert_eq!(parent(name, Violations::new()).unwrap().runtime(), name);
        }
        for bad in [
            "",
            "installations/a",
            "installations//runtime",
            "installations/a/b/runtime",
            "installations/ü/runtime",
            "runtime",
            "entries//runtime",
            "gateways/a/runtime",
        ] {
            assert!(parent(bad, Violations::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_all_that_is_wrong_and_bounds_the_rest() {
        let bad = StreamRuntimeLogsRequest {
            tail_lines: -1,
            since: Some(Duration { seconds: -1, nanos: 0 }),
            follow: true,
            previous: true,
            ..Default::default()
        };
        assert_eq!(log_query(&bad, 0).1.iter().count(), 3);
        let much = StreamRuntimeLogsRequest {
            tail_lines: i32::MAX,
            since: Some(Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        let (query, violations) = log_query(&much, 5_000_000);
        assert!(violations.is_empty());
        assert_eq!((query.tail, query.since), (KEPT_LINES, 4_000_000));
    }

    #[test]
    fn the_message_of_a_server_that_runs_elsewhere_is_shown() {
        let elsewhere = registry::Runtime {
            state: registry::RuntimeState::Running.into(),
            reason: "RUNNING".to_owned(),
            message: "The package was not updated.".to_owned(),
            ..registry::Runtime::default()
        };
        let shown = runtime(
            "installations/one/runtime".to_owned(),
            reported(elsewhere),
            true,
            Vec::new(),
        );
        assert_eq!((shown.state(), shown.reason.as_str()), (RuntimeState::Running, ""));
        assert_eq!(shown.message, "The package was not updated.");
    }
}
