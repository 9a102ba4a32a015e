//! A session with an upstream.

use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::json::Object;

/// Messages other than calls that are sent to one session at a time.
const SIDE_MESSAGES: usize = 8;

/// What a server offers, as it says in `capabilities`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offers {
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) logging: bool,
}

impl Offers {
    /// Of the result of `initialize`.
    pub(super) fn of(result: &Object<'_>) -> Self {
        let capabilities = result.get("capabilities").and_then(|text| Object::parse(text).ok());
        let has = |name| {
            capabilities
                .as_ref()
                .is_some_and(|capabilities| capabilities.get(name).is_some_and(|value| value != "null"))
        };
        Self {
            prompts: has("prompts"),
            resources: has("resources"),
            logging: has("logging"),
        }
    }

    /// Whether a server that offers this answers the method: a list that it does not offer it does not have.
    pub(super) fn answers(self, method: &str) -> bool {
        match method {
            "prompts/list" => self.prompts,
            "resources/list" | "resources/templates/list" => self.resources,
            _ => true,
        }
    }
}

/// A session that an upstream has agreed to.
#[derive(Debug)]
pub(super) struct Session {
    /// Absent where the upstream keeps no sessions.
    pub(super) id: Option<HeaderValue>,
    /// The header that names the revision; absent for revisions that know none.
    pub(super) version: Option<HeaderValue>,
    /// What the server said that it offers.
    pub(super) offers: Offers,
    /// One for each call that may be in progress.
    pub(super) permits: Arc<Semaphore>,
    /// One for each message other than a call that is being sent: each has a connection of its own.
    pub(super) side_messages: Arc<Semaphore>,
}

impl Session {
    /// A session whose revision is not agreed yet.
    pub(super) fn new(id: Option<HeaderValue>, permits: Arc<Semaphore>) -> Self {
        Self {
            id,
            version: None,
            offers: Offers::default(),
            permits,
            side_messages: Arc::new(Semaphore::new(SIDE_MESSAGES)),
        }
    }
}
