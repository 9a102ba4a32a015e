//! How a server does.

use std::time::SystemTime;

use super::package::Package;

/// Longest message the registry takes, in characters, with room to spare.
const MESSAGE: usize = 3_500;

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not started yet.
    Pending,
    /// Runs and answers.
    Running,
    /// Does not.
    Failed,
}

/// How a server does, for people and the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// UPPER_SNAKE_CASE; empty while all is well.
    pub(crate) reason: String,
    /// For people; without secrets.
    pub(crate) message: String,
    pub(crate) start_time: Option<SystemTime>,
    pub(crate) restart_count: u32,
    /// How often the server has said, since it was started, that its list of tools changed.
    pub(crate) tool_list_changes: i64,
    /// Where it can be called while it runs, as the registry's `Runtime.endpoint`.
    pub(crate) endpoint: String,
    /// [`super::spec::ServerSpec::digest`] of what runs; empty while nothing does.
    pub(crate) spec_digest: String,
    /// Whether there should be a server at all.
    pub(crate) expected: bool,
    /// The generation it speaks of.
    pub(crate) generation: i64,
    /// The last restart that was accepted.
    pub(crate) requested_restart: String,
    /// The last restart that this status is the outcome of.
    pub(crate) observed_restart: String,
    /// What was fetched for it, if its command names a package.
    pub(crate) package: Option<Package>,
}

/// Why nothing should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// UPPER_SNAKE_CASE.
    pub(crate) reason: &'static str,
    /// For people: what to do, or what is waited for.
    pub(crate) message: String,
    /// As [`Status::generation`].
    pub(crate) generation: i64,
    /// Whether a server is to run here once the reason is gone.
    pub(crate) expected: bool,
}

impl Status {
    pub(crate) fn starting(generation: i64) -> Self {
        Self {
            state: State::Pending,
            reason: "STARTING".to_owned(),
            message: "The server is being started.".to_owned(),
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

    /// Another state, in which nothing can be called until it is said where.
    pub(crate) fn set(&mut self, state: State, reason: &str, message: impl Into<String>) {
        self.state = state;
        reason.clone_into(&mut self.reason);
        // A server may write anything; what people read, and the registry takes, is text.
        let message: String = message.into();
        self.message = message
            .chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .collect();
        self.message.truncate(self.message.floor_char_boundary(MESSAGE));
        self.endpoint.clear();
        self.spec_digest.clear();
        self.expected = true;
    }

    /// Nothing runs, and people are shown why.
    pub(crate) fn hold(&mut self, held: &Held) {
        self.set(State::Pending, held.reason, held.message.clone());
        self.expected = held.expected;
        self.generation = held.generation;
        self.start_time = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_text_of_a_bounded_length() {
        let mut status = Status::starting(1);
        status.set(State::Failed, "X", format!("\u{1b}[31m{}", "ü".repeat(10_000)));
        assert!(status.message.len() <= MESSAGE && status.message.starts_with("[31mü"));
    }
}
