//! The status of a server.

use std::time::SystemTime;

use super::package::Package;

/// The longest message, in bytes; the registry accepts somewhat longer ones.
const MESSAGE: usize = 3_500;

/// Whether a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Being started, or held.
    Pending,
    /// Can be called.
    Running,
    /// Failed, and will be retried.
    Failed,
}

/// The status of an owner's server, as people see it and as it is reported to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// For programs, in UPPER_SNAKE_CASE; empty while the server runs. `proto/chandlery/registry/v1/runtime.proto` lists the values.
    pub(crate) reason: String,
    /// For people: what is wrong and what to do; empty while all is well. Without secrets. May quote what the server wrote, which those may
    /// read who may manage the installation.
    pub(crate) message: String,
    /// As `message`, without what the server wrote.
    pub(crate) summary: String,
    /// For people, below the message: why no process can be started for another session, where each has its own; empty otherwise.
    pub(crate) sessions: Told,
    /// For people, below that: that the package is being updated; empty otherwise.
    pub(crate) update: String,
    /// When the present process was started.
    pub(crate) start_time: Option<SystemTime>,
    /// How often the server was restarted after it had failed.
    pub(crate) restart_count: u32,
    /// How many notifications about a changed list of tools the server has sent since it was started.
    pub(crate) tool_list_changes: i64,
    /// Where the server can be called, in the format of the registry's `Runtime.endpoint`; empty unless it runs. Each start has another
    /// endpoint: callers recognize a new process by it.
    pub(crate) endpoint: String,
    /// [`super::spec::ServerSpec::digest`] of what runs; empty unless it runs.
    pub(crate) spec_digest: String,
    /// Whether a server should run here, now or once the reason why it does not is gone.
    pub(crate) expected: bool,
    /// [`super::spec::ServerSpec::generation`] of the spec, or [`Held::generation`], that this is the status of.
    pub(crate) generation: i64,
    /// The id of the last restart that was accepted.
    pub(crate) requested_restart: String,
    /// The id of the last restart that has an outcome, which this is.
    pub(crate) observed_restart: String,
    /// The package that was fetched for the server, if its command names one.
    pub(crate) package: Option<Package>,
}

/// A text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// As [`Status::message`].
    pub(crate) message: String,
    /// As [`Status::summary`].
    pub(crate) summary: String,
}

/// Why nothing should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// UPPER_SNAKE_CASE.
    pub(crate) reason: &'static str,
    /// For people: what to do, or what the server waits for.
    pub(crate) message: String,
    /// As [`Status::generation`].
    pub(crate) generation: i64,
    /// As [`Status::expected`].
    pub(crate) expected: bool,
}

impl Status {
    pub(crate) fn starting(generation: i64) -> Self {
        Self {
            state: State::Pending,
            reason: "STARTING".to_owned(),
            message: "The server is being started.".to_owned(),
            summary: "The server is being started.".to_owned(),
            sessions: Told::default(),
            update: String::new(),
            start_time: None,
            restart_count: 0,
            tool_list_changes: 0,
            endpoint: String::new(),
            spec_digest: String::new(),
            expected: true,
            generation,
            requested_restart: String::new(),
            observed_restart: String::new(),
            package: None,
        }
    }

    /// Changes the state. Clears what is about the process before; the caller sets the endpoint and the digest of a running server.
    pub(crate) fn set(&mut self, state: State, reason: &str, message: impl Into<String>) {
        self.state = state;
        reason.clone_into(&mut self.reason);
        self.message.clear();
        self.summary.clear();
        self.explain(&message.into());
        self.sessions = Told::default();
        self.endpoint.clear();
        self.spec_digest.clear();
        self.expected = true;
    }

    /// Sets the state of a server that failed. `message` may quote what it wrote; `summary` may not.
    pub(crate) fn fail(&mut self, reason: &str, message: &str, summary: &str) {
        self.set(State::Failed, reason, summary);
        self.message.clear();
        add(&mut self.message, message);
    }

    /// Adds a line to the message, within its longest length.
    pub(crate) fn explain(&mut self, message: &str) {
        add(&mut self.message, message);
        add(&mut self.summary, message);
    }

    /// What those are told who may read what the server wrote, and those who may not.
    pub(crate) fn told(&self) -> Told {
        let lines = |first: &str, second: &str| {
            let mut told = first.to_owned();
            for line in [second, &self.update] {
                if !line.is_empty() {
                    add(&mut told, line);
                }
            }
            told
        };
        Told {
            message: lines(&self.message, &self.sessions.message),
            summary: lines(&self.summary, &self.sessions.summary),
        }
    }

    /// Sets the state of a server that is held.
    pub(crate) fn hold(&mut self, held: &Held) {
        self.set(State::Pending, held.reason, held.message.clone());
        self.expected = held.expected;
        self.generation = held.generation;
        self.start_time = None;
    }
}

fn add(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    // It may quote what the server wrote, which may be anything; the registry accepts text without control characters.
    let line = line.chars().filter(|&c| !masking::is_hidden(c) || c == '\n');
    text.extend(line);
    text.truncate(text.floor_char_boundary(MESSAGE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_text_of_a_bounded_length() {
        let mut status = Status::starting(1);
        status.set(State::Failed, "X", format!("\u{1b}[31m{}", "ü".repeat(10_000)));
        assert!(status.message.len() <= MESSAGE && status.message.starts_with("[31mü"));
        status.set(State::Failed, "X", "One.");
        status.explain("Two.");
        assert_eq!(status.message, "One.\nTwo.");
        status.fail("X", "It ended. It wrote:\nline", "It ended.");
        status.explain("Two.");
        assert_eq!(status.message, "It ended. It wrote:\nline\nTwo.");
        assert_eq!(status.summary, "It ended.\nTwo.");
        assert_eq!(status.told().summary, status.summary);
        status.update = "It is being updated.".to_owned();
        assert_eq!(status.told().summary, "It ended.\nTwo.\nIt is being updated.");
        status.set(State::Running, "", "");
        assert_eq!(status.told().message, "It is being updated.");
        status.sessions = Told {
            message: "None starts: its text".to_owned(),
            summary: "None starts.".to_owned(),
        };
        let told = status.told();
        assert_eq!(told.message, "None starts: its text\nIt is being updated.");
        assert_eq!(told.summary, "None starts.\nIt is being updated.");
        status.set(State::Pending, "STARTING", "");
        assert_eq!(status.sessions, Told::default());
    }
}
