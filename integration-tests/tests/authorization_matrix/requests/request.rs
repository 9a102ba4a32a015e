//! A request of the matrix, and the meaning of the table's words for resources.

use prost::Message;

use crate::world::{Seen, Team, Who};

/// A request to send.
#[derive(Debug)]
pub(crate) struct Request {
    /// The encoded message.
    pub(crate) message: Vec<u8>,
    /// The id of the resource that the call is about, if the call requires one. With an id that does not exist, a caller who
    /// may not see the resource must get the same response.
    pub(crate) about: Option<String>,
    /// The resource name that a list must contain if the caller may see the resource.
    pub(crate) listed: Option<String>,
    /// The reason of an error that only callers with permission get.
    pub(crate) error_if_allowed: Option<&'static str>,
    /// Whether the caller may see the resource. If not, a refusal must not reveal that it exists.
    pub(crate) visible: bool,
}

impl Request {
    pub(super) fn new(message: impl Message) -> Self {
        Self {
            message: message.encode_to_vec(),
            about: None,
            listed: None,
            error_if_allowed: None,
            visible: true,
        }
    }

    /// A request about the resource of this name.
    pub(super) fn on(name: &str, message: impl Message) -> Self {
        // The parent decides who can see a runtime, a revision or an assignment.
        let id = name.split('/').nth(1).expect("a resource name has an id");
        Self {
            about: Some(id.to_owned()),
            ..Self::new(message)
        }
    }

    pub(super) fn lists(mut self, name: &str) -> Self {
        self.listed = Some(name.to_owned());
        self
    }

    pub(super) fn invisible(mut self) -> Self {
        self.visible = false;
        self
    }

    pub(super) fn fails_with_if_allowed(mut self, reason: &'static str) -> Self {
        self.error_if_allowed = Some(reason);
        self
    }
}

/// The visibility that a word of the table means.
pub(super) fn seen(about: &str) -> Option<Seen> {
    match about {
        "everybody's" => Some(Seen::ByAll),
        "the teams'" => Some(Seen::ByTeams),
        _ => None,
    }
}

/// The team that a word of the table means; `None` within for the owner's personal resource.
pub(super) fn scope(about: &str, who: Who) -> Option<Option<Team>> {
    match about {
        "personal" => Some(None),
        "a team's" => Some(Some(who.team())),
        _ => None,
    }
}
