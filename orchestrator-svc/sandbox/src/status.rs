//! The output of the launcher: lines of JSON.

use serde::{Deserialize, Serialize};

/// A step in the life of a program. If the stream ends before [`Status::Started`] or [`Status::NotStarted`], the launcher itself failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// The process that represents the program: it ends when the program does, and everything that the program started ends with it.
    Process {
        /// Its id in the parent's namespace.
        pid: i32,
    },
    /// The program was not started.
    NotStarted {
        /// What failed, for people.
        what: String,
        /// The error number of the call that failed.
        errno: i32,
        /// Whether it was the program itself that could not be executed.
        program: bool,
    },
    /// The program runs.
    Started,
    /// The program has ended. The process that represents it cannot itself end by the signal that ended the program.
    Ended(Exit),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}
