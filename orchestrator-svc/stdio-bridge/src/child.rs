//! One process of a stdio server: from its start until nothing of it is left.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, sleep, timeout},
};

use crate::{
    event::{EndReason, Events},
    log::Log,
    process::{Server, StartError, ended},
    spec::{Limits, Spec, Transport},
    stdio::Session,
    stop::{self, Stop},
    told::Told,
    tree::{End, kill_server},
};

/// From SIGTERM to SIGKILL where the parent is gone.
const ABANDONED: Duration = Duration::from_secs(1);
/// From the end of a server's output to its own.
const CLOSED: Duration = Duration::from_millis(500);

/// Why a server cannot be called any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// Its process has ended.
    Process(End),
    /// It has closed its standard output, and has not ended soon afterwards.
    Output,
    /// The bridge has failed to read its standard output.
    Unread,
}

/// A stdio server's process, and the conversation with it.
pub(crate) struct Child {
    pid: i32,
    session: Arc<Session>,
    end: watch::Receiver<Option<End>>,
    /// Completes when its standard output is read no more.
    closed: Shared<BoxFuture<'static, Ended>>,
    /// What reads its standard error.
    log: Mutex<Option<JoinHandle<()>>>,
}

impl Child {
    /// Begins the conversation with a server that was started.
    pub(crate) fn begin(server: Server, spec: &Spec, events: &Events, log: &Arc<Log>) -> Self {
        let Server {
            pid,
            stdin,
            stdout,
            stderr,
            end,
        } = server;
        let follow = log.follow(stderr);
        let (session, closed) = Session::start(
            stdin,
            stdout,
            spec.limits.clone(),
            matches!(spec.transport, Transport::Stdio { one_per_session: true }),
            events.clone(),
            Arc::clone(log),
        );
        Self {
            pid,
            session,
            end,
            closed: closed
                .map(|closed| closed.map_or(Ended::Unread, |()| Ended::Output))
                .boxed()
                .shared(),
            log: Mutex::new(Some(follow)),
        }
    }

    /// Initializes it.
    ///
    /// # Errors
    /// If it refuses, does not answer in time, or ends.
    pub(crate) async fn initialize(&self, told: &Told) -> Result<(), StartError> {
        tokio::select! {
            biased;
            ended = self.ended() => Err(ended.into()),
            initialized = self.session.initialize(told) => initialized,
        }
    }

    /// The conversation with it.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits until it has ended, or cannot be read any more.
    pub(crate) async fn ended(&self) -> Ended {
        let mut end = self.end.clone();
        let closed = tokio::select! {
            biased;
            end = ended(&mut end) => return Ended::Process(end),
            closed = self.closed.clone() => closed,
        };
        timeout(CLOSED, ended(&mut end)).await.map_or(closed, Ended::Process)
    }

    /// Ends it: closes its input, then sends SIGTERM. Requests that wait for an answer fail with `why`.
    pub(crate) async fn close(&self, limits: &Limits, why: &str, stop: watch::Receiver<Stop>) {
        self.session.end(why);
        close(self.pid, true, limits, self.end.clone(), stop).await;
    }

    /// Kills what is left of it. `marker` is the one that it was started with.
    pub(crate) async fn gone(&self, why: &str, marker: &str) {
        self.session.end(why);
        kill_server(self.pid, marker).await;
        self.log_ended().await;
    }

    /// Waits until its last lines are read. All writers are dead, except a process that cannot be killed.
    pub(crate) async fn log_ended(&self) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(log) = log {
            let _ = timeout(Duration::from_millis(500), log).await;
        }
    }
}

/// Waits for the end of a server whose input has ended, if `input_ended`; then sends SIGTERM, and waits again. The caller kills what is left of it.
pub(crate) async fn close(
    pid: i32,
    input_ended: bool,
    limits: &Limits,
    mut end: watch::Receiver<Option<End>>,
    mut stop: watch::Receiver<Stop>,
) {
    if input_ended {
        tokio::select! {
            _ = ended(&mut end) => return,
            () = stop::asked(&mut stop, Stop::Abandoned) => {}
            () = sleep(limits.input_end()) => {}
        }
    }
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
    tokio::select! {
        _ = ended(&mut end) => {}
        () = sleep(limits.grace()) => {}
        () = async { stop::asked(&mut stop, Stop::Abandoned).await; sleep(ABANDONED).await } => {}
    }
}

impl Ended {
    /// The process, if that has ended.
    pub(crate) fn process(self) -> Option<End> {
        match self {
            Self::Process(end) => Some(end),
            Self::Output | Self::Unread => None,
        }
    }
}

/// The message is for people.
impl From<Ended> for StartError {
    fn from(ended: Ended) -> Self {
        let message = match ended {
            Ended::Unread => return Self::internal("failed while it read the server's standard output"),
            Ended::Output => "The server closed its standard output.".to_owned(),
            Ended::Process(End { code: Some(code), .. }) => format!("The MCP server ended with exit code {code}."),
            Ended::Process(End {
                signal: Some(signal), ..
            }) => {
                let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.as_str().to_owned());
                format!("The MCP server was ended by the signal {name}.")
            }
            Ended::Process(_) => "The MCP server ended.".to_owned(),
        };
        Self::new(EndReason::Exited, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_the_bridge_fails_to_read_is_not_the_servers_fault() {
        let reason = |ended| StartError::from(ended).reason;
        assert_eq!(reason(Ended::Output), EndReason::Exited);
        assert_eq!(reason(Ended::Unread), EndReason::BridgeFailed);
    }
}
