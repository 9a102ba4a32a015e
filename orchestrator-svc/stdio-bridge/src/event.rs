//! What the bridge reports to its parent.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, sync::mpsc, task::JoinHandle};

/// One line of JSON on the bridge's standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The server was started.
    Started {
        /// Its process id.
        pid: i32,
    },
    /// The server can be called on the socket.
    Ready,
    /// The server has announced that its list of tools changed. Frequent announcements are reported at growing intervals, up to a minute.
    ToolsChanged,
    /// Where each session has a process of its own: why none can be started for another session, or `None` when one can be again. Frequent
    /// changes are reported at growing intervals, up to a minute.
    SessionStarts {
        /// Why the last start failed.
        failure: Option<StartFailure>,
    },
    /// The server wrote a line that is not of the protocol.
    Log {
        /// The line, without secrets.
        line: String,
        /// Microseconds since 1970.
        time: i64,
    },
    /// The server has ended or was not started, and no process of it is left. The last event.
    Ended {
        /// Why.
        reason: EndReason,
        /// For people, without secrets.
        message: String,
        /// Its exit code, if it exited.
        exit_code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

/// Why the process of a session could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// For programs.
    pub reason: EndReason,
    /// For people, without secrets. May quote what the server answered to `initialize`.
    pub message: String,
}

/// Why a server does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndReason {
    /// The parent asked for it.
    Stopped,
    /// A file or the sandbox could not be prepared.
    NotStarted,
    /// The bridge failed, which is not the server's fault.
    BridgeFailed,
    /// There is no such program.
    CommandNotFound,
    /// It is not a program, or may not be executed.
    CommandNotExecutable,
    /// It exited, or was ended by a signal that the bridge did not send.
    Exited,
    /// It answered `initialize` with an error.
    InitializeFailed,
    /// It did not answer `initialize` in time.
    InitializeTimeout,
    /// What it writes to standard output is not MCP.
    NotMcp,
    /// It does not listen on its port.
    PortNotOpen,
    /// Other machines can connect to its port.
    PortExposed,
    /// Another process uses its port.
    PortInUse,
    /// A task did not end in time.
    TaskTimeout,
    /// Its package could not be fetched. The bridge does not send this.
    PackageNotFetched,
}

/// Sends events to the parent, in order. The end of the parent is noticed elsewhere ([`crate::stop`]).
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<Event>);

impl Events {
    /// Writes to standard output until all senders are dropped.
    pub(crate) fn to_stdout() -> (Self, JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::channel::<Event>(256);
        let task = tokio::spawn(async move {
            let mut out = tokio::io::stdout();
            let mut alive = true;
            while let Some(event) = receiver.recv().await {
                let mut line = serde_json::to_vec(&event).expect("an event has only strings and numbers");
                line.push(b'\n');
                alive = alive && out.write_all(&line).await.is_ok() && out.flush().await.is_ok();
            }
        });
        (Self(sender), task)
    }

    pub(crate) async fn send(&self, event: Event) {
        // The receiver lives until all senders are dropped.
        let _ = self.0.send(event).await;
    }

    pub(crate) async fn log(&self, line: String) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.send(Event::Log { line, time }).await;
    }
}
