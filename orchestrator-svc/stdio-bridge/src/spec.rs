//! What the parent asks for.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use sandbox::Confinement;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Everything the bridge must know. It holds secrets: it travels by pipe only, prints none, and is wiped on drop.
#[derive(Serialize, Deserialize)]
pub struct Spec {
    /// Where to listen; at most 107 bytes.
    pub socket: PathBuf,
    /// Locked while the bridge lives, so that a new one waits until its predecessor has cleaned up.
    pub lock: PathBuf,
    /// The program; looked up on the `PATH` of `environment` where it holds no slash.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment: nothing else is added but `PORT` and [`crate::MARKER`].
    pub environment: BTreeMap<String, String>,
    /// Marks the server and its descendants in their environment, see [`crate::kill_marked`].
    pub marker: String,
    /// Where it runs. Must exist.
    pub working_folder: PathBuf,
    /// What it may see and do. It may listen on the port that `transport` gives it as well.
    pub confinement: Confinement,
    /// Written before it starts.
    pub files: Vec<File>,
    /// Taken out of every log line.
    pub secrets: Vec<String>,
    /// How it speaks MCP.
    pub transport: Transport,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// A file that the server finds when it starts.
#[derive(Serialize, Deserialize)]
pub struct File {
    /// Relative to the working folder; without `..`.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Whether it is removed when the server has stopped.
    pub secret: bool,
}

/// How a server speaks MCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Transport {
    /// Over standard input and output.
    Stdio {
        /// Whether each MCP session has a process of its own; else one process serves all.
        #[serde(default)]
        one_per_session: bool,
    },
    /// It does not: it is a task that runs to its end. Nothing is served for it.
    Task,
    /// Over HTTP on 127.0.0.1.
    StreamableHttp {
        /// 0: a free one, told in `PORT`.
        port: u16,
        /// Path of the MCP endpoint.
        path: String,
    },
}

/// Bounds. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest message, in bytes.
    pub message_bytes: usize,
    /// Longest log line, in bytes; the rest is cut off.
    pub log_line_bytes: usize,
    /// Bytes of log lines that are taken at once, and then by the second; further ones are dropped, and counted. Each line counts 128 bytes more
    /// than it has.
    pub log_burst_bytes: usize,
    /// See `log_burst_bytes`.
    pub log_bytes_per_second: usize,
    /// Requests that wait for an answer at one time.
    pub pending_requests: usize,
    /// Connections at one time.
    pub connections: usize,
    /// Processes at one time, where each MCP session has one.
    pub sessions: usize,
    /// Such a session ends after this time without a request.
    pub session_idle_millis: u64,
    /// Until the server must have answered `initialize`, or listen on its port, or a task must have ended.
    pub ready_millis: u64,
    /// A request fails after this time without an answer or progress.
    pub request_millis: u64,
    /// From the request to stop until requests under way are given up.
    pub drain_millis: u64,
    /// From the end of a stdio server's input to SIGTERM.
    pub input_end_millis: u64,
    /// From SIGTERM to SIGKILL.
    pub grace_millis: u64,
    /// Lines on standard output that are no JSON, before the answer to `initialize`, until the server is taken for something else.
    pub garbage_lines: u64,
    /// From the first such line until it is taken for something else, if it has not answered by then.
    pub garbage_millis: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            log_line_bytes: 16 << 10,
            log_burst_bytes: 512 << 10,
            log_bytes_per_second: 64 << 10,
            pending_requests: 1024,
            connections: 1024,
            sessions: 32,
            session_idle_millis: 900_000,
            // The first start of a package runner downloads the package.
            ready_millis: 120_000,
            request_millis: 900_000,
            drain_millis: 30_000,
            input_end_millis: 2_000,
            grace_millis: 5_000,
            garbage_lines: 1_000,
            garbage_millis: 15_000,
        }
    }
}

impl Limits {
    pub(crate) fn ready(&self) -> Duration {
        Duration::from_millis(self.ready_millis)
    }

    pub(crate) fn request(&self) -> Duration {
        Duration::from_millis(self.request_millis)
    }

    pub(crate) fn session_idle(&self) -> Duration {
        Duration::from_millis(self.session_idle_millis)
    }

    pub(crate) fn garbage(&self) -> Duration {
        Duration::from_millis(self.garbage_millis)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_millis)
    }

    pub(crate) fn input_end(&self) -> Duration {
        Duration::from_millis(self.input_end_millis)
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_millis)
    }

    /// From the end of a server's input until it is killed at the latest.
    pub(crate) fn longest_close(&self) -> Duration {
        self.input_end() + self.grace()
    }

    /// From the request to stop until the server is killed at the latest.
    pub fn longest_stop(&self) -> Duration {
        self.drain() + self.longest_close()
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("socket", &self.socket)
            .field("command", &self.command)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Spec {
    fn drop(&mut self) {
        self.arguments.iter_mut().for_each(Zeroize::zeroize);
        self.environment.values_mut().for_each(Zeroize::zeroize);
        self.files.iter_mut().for_each(|f| f.content.zeroize());
        self.secrets.iter_mut().for_each(Zeroize::zeroize);
    }
}
