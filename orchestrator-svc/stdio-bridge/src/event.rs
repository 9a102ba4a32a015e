//! What the parent is told.

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
    /// The server said that its list of tools changed. One that says so all the time is passed on less and less often, down to once a minute.
    ToolsChanged,
    /// The server wrote a line that is not of the protocol.
    Log {
        /// The line, without secrets.
        line: String,
        /// Microseconds since 1970.
        time: i64,
    },
    /// The server has ended, or never began; nothing of it is left. Last.
    Ended {
        /// Why.
        reason: EndReason,
        /// For people, without secrets.
        message: String,
        /// Its exit code, if it ended by itself.
        exit_code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

/// Why a server is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndReason {
    /// The parent asked for it.
    Stopped,
    /// What it was told could not be prepared: a file, the sandbox.
    NotStarted,
    /// The bridge itself failed: nothing of this is the server's fault.
    BridgeFailed,
    /// There is no such program.
    CommandNotFound,
    /// It is not a program, or may not be run.
    CommandNotExecutable,
    /// It ended by itself.
    Exited,
    /// It answered `initialize` with an error.
    InitializeFailed,
    /// It did not answer `initialize` in time.
    InitializeTimeout,
    /// What it writes to standard output is not MCP.
    NotMcp,
    /// It does not listen on its port.
    PortNotOpen,
    /// It listens on its port to others than this machine.
    PortExposed,
    /// Its port is taken by another process.
    PortInUse,
    /// A task did not end in time.
    TaskTimeout,
    /// Its package could not be fetched. Never of a bridge.
    PackageNotFetched,
}

/// Sends events to the parent, in order. A parent that is gone is noticed elsewhere.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<Event>);

impl Events {
    /// Writes to standard output until all senders are gone.
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
        // The receiver lives until all senders are gone.
        let _ = self.0.send(event).await;
    }

    pub(crate) async fn log(&self, line: String) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.send(Event::Log { line, time }).await;
    }
}
