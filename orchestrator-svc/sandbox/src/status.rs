//! What the launcher tells whoever asked, as lines of JSON.

use serde::{Deserialize, Serialize};

/// What became of an spec. The end of the stream before [`Status::Started`] says that the launcher itself failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// The process that stands for the program: it ends when the program does, and with it all that the program has started.
    Process {
        /// As whoever asked sees it.
        pid: i32,
    },
    /// The program was not started.
    NotStarted {
        /// What failed, for people.
        what: String,
        /// Of the failed call.
        errno: i32,
        /// Whether it was the program itself that could not be executed.
        program: bool,
    },
    /// The program runs.
    Started,
    /// The program has ended. The process that stands for it cannot itself end by a signal as the program did.
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
