//! The input of the bridge.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use sandbox::Confinement;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A server to start, and how to serve it. It contains secrets: it is sent only through a pipe, `Debug` does not show them, and they are wiped on
/// drop.
#[derive(Serialize, Deserialize)]
pub struct Spec {
    /// The path of the socket to listen on; at most 107 bytes.
    pub socket: PathBuf,
    /// A file that the bridge locks while it runs, so that its successor waits until it has cleaned up.
    pub lock: PathBuf,
    /// The program; looked up on the `PATH` of `environment` if it has no slash.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment, to which only `PORT` and [`crate::MARKER`] are added.
    pub environment: BTreeMap<String, String>,
    /// Identifies the server and its descendants, in their environment; see [`crate::kill_marked`].
    pub marker: String,
    /// Its working folder, which must exist.
    pub working_folder: PathBuf,
    /// The folder for what the server has put where one of `files` belongs; on the same file system. The service removes what is in it.
    pub aside: PathBuf,
    /// Its sandbox. It may also listen on the port of `transport`.
    pub confinement: Confinement,
    /// Files that are written before it starts.
    pub files: Vec<File>,
    /// Removed from every log line.
    pub secrets: Vec<String>,
    /// How it is called.
    pub transport: Transport,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
}

/// A file that exists when the server starts.
#[derive(Serialize, Deserialize)]
pub struct File {
    /// Relative to the working folder; without `..`.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Whether it is removed when the server has stopped.
    pub secret: bool,
}

/// How a server is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Transport {
    /// Over standard input and output.
    Stdio {
        /// Whether each MCP session has a process of its own. Otherwise, one process serves all.
        #[serde(default)]
        one_per_session: bool,
    },
    /// Not at all: it is a task that runs to its end.
    Task,
    /// Over HTTP on 127.0.0.1.
    StreamableHttp {
        /// The port, which the server reads from `PORT`. 0: a free one.
        port: u16,
        /// Path of the MCP endpoint.
        path: String,
    },
}

/// Limits. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest message, in bytes.
    pub message_bytes: usize,
    /// Longest log line, in bytes; a longer one is cut.
    pub log_line_bytes: usize,
    /// Bytes of log lines that are accepted at one time. Further lines are dropped and counted. Each line counts 128 bytes more than it has.
    pub log_burst_bytes: usize,
    /// How fast the bytes of `log_burst_bytes` become available again.
    pub log_bytes_per_second: usize,
    /// Requests that wait for an answer at one time.
    pub pending_requests: usize,
    /// Requests in progress at one time; further ones are refused. As many connections are kept between requests.
    pub connections: usize,
    /// Processes of callers at one time, if each MCP session has one. One caller gets at most half of them; one more is for the gateway itself.
    pub sessions: usize,
    /// A session with a process of its own ends after this time without a request.
    pub session_idle_millis: u64,
    /// The same for the sessions of a caller who has several that are idle, except for the few that were used last.
    pub surplus_idle_millis: u64,
    /// Until the server must have answered `initialize` or listen on its port, and a task must have ended.
    pub ready_millis: u64,
    /// Until the server must have answered `server/discover`. Else it may be one of older revisions.
    pub discover_millis: u64,
    /// A request fails after this time without an answer or progress.
    pub request_millis: u64,
    /// After this time without a byte, a message of the server that has begun and not ended is considered broken off.
    pub silence_millis: u64,
    /// From the request to stop until requests under way are abandoned.
    pub drain_millis: u64,
    /// From the end of a stdio server's input to SIGTERM.
    pub input_end_millis: u64,
    /// From SIGTERM to SIGKILL.
    pub grace_millis: u64,
    /// Lines on standard output that are not JSON, before the answer to `initialize`, after which the program is not considered an MCP server.
    pub garbage_lines: u64,
    /// From the first such line until the program is not considered an MCP server, unless it has answered.
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
            surplus_idle_millis: 60_000,
            // The first start of a package runner downloads the package.
            ready_millis: 120_000,
            discover_millis: 5_000,
            request_millis: 900_000,
            // A server writes a message at once, as fast as the bridge reads it.
            silence_millis: 10_000,
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

    pub(crate) fn discover(&self) -> Duration {
        Duration::from_millis(self.discover_millis)
    }

    pub(crate) fn request(&self) -> Duration {
        Duration::from_millis(self.request_millis)
    }

    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_millis)
    }

    pub(crate) fn session_idle(&self) -> Duration {
        Duration::from_millis(self.session_idle_millis)
    }

    pub(crate) fn surplus_idle(&self) -> Duration {
        Duration::from_millis(self.surplus_idle_millis)
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

    /// From the end of a server's input until it is killed, at most.
    pub(crate) fn longest_close(&self) -> Duration {
        self.input_end() + self.grace()
    }

    /// From the request to stop until the server is killed, at most.
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
