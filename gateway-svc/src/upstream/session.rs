//! A session with an upstream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::{Semaphore, SetOnce},
    time::Instant,
};

use super::{
    client::Era,
    modern::{
        self,
        names::{FOLLOW_TASK, TASKS},
    },
    stream_begun::StreamBegun,
};
use crate::json::Object;

/// Messages other than calls that are sent to one session at a time.
const SIDE_MESSAGES: usize = 8;

/// What a server offers, as it says in `capabilities`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// To tell that its list of tools has changed.
    pub(super) tools_change: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) logging: bool,
    /// To tell of changes of single resources.
    pub(super) subscriptions: bool,
    /// To list tasks.
    pub(super) task_list: bool,
    /// Tasks of 2026-07-28.
    pub(super) tasks: bool,
}

impl Offers {
    /// Of a server that does not say it.
    pub(super) const ALL: Self = Self {
        tools_change: true,
        prompts: true,
        resources: true,
        logging: true,
        subscriptions: true,
        task_list: true,
        tasks: true,
    };

    /// Of the result of `initialize` or `server/discover`.
    pub(super) fn of(result: &Object<'_>) -> Self {
        let capabilities = result.get("capabilities").and_then(|text| Object::parse(text).ok());
        let has = |name| {
            capabilities
                .as_ref()
                .is_some_and(|capabilities| capabilities.get(name).is_some_and(|value| value != "null"))
        };
        let within = |name, member| {
            let capability = Object::parse(capabilities.as_ref()?.get(name)?).ok()?;
            capability.get(member)
        };
        Self {
            tools_change: within("tools", "listChanged") == Some("true"),
            prompts: has("prompts"),
            resources: has("resources"),
            logging: has("logging"),
            subscriptions: within("resources", "subscribe") == Some("true"),
            tasks: within("extensions", TASKS).is_some_and(|value| value != "null"),
            task_list: within("tasks", "list").is_some_and(|value| value != "null"),
        }
    }

    /// Whether a server that offers this answers the method: a list that it does not offer it does not have.
    fn answers(self, method: &str) -> bool {
        match method {
            "prompts/list" => self.prompts,
            "resources/list" | "resources/templates/list" => self.resources,
            "tasks/list" => self.task_list,
            _ => true,
        }
    }
}

/// A session that an upstream has agreed to, or what takes the place of one at a server that has none.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) era: Era,
    /// Absent where the upstream keeps no sessions.
    pub(super) id: Option<HeaderValue>,
    /// The header that names the revision; absent for revisions that know none.
    pub(super) version: Option<HeaderValue>,
    /// What the server said that it offers.
    pub(super) offers: Offers,
    /// When it said it.
    pub(super) since: Instant,
    /// One for each call that may be in progress.
    pub(super) permits: Arc<Semaphore>,
    /// One for each message other than a call that is being sent: each has a connection of its own.
    pub(super) side_messages: Arc<Semaphore>,
    /// Whether its stream outside calls has begun.
    pub(super) stream_begun: StreamBegun,
    /// Set once its server is known to have lost it.
    pub(super) lost: SetOnce<()>,
    /// Set once it is not kept any more, and for ever.
    pub(super) forgotten: AtomicBool,
}

/// Whether the method changes what a client has subscribed to.
pub(super) fn is_subscription(method: &str) -> bool {
    matches!(method, "resources/subscribe" | "resources/unsubscribe" | FOLLOW_TASK)
}

impl Session {
    /// A session whose revision is not agreed yet.
    pub(super) fn new(id: Option<HeaderValue>, permits: Arc<Semaphore>) -> Self {
        Self {
            era: Era::Legacy,
            id,
            version: None,
            offers: Offers::default(),
            since: Instant::now(),
            permits,
            side_messages: Arc::new(Semaphore::new(SIDE_MESSAGES)),
            stream_begun: StreamBegun::default(),
            lost: SetOnce::new(),
            forgotten: AtomicBool::new(false),
        }
    }

    /// What takes the place of a session at a modern server.
    pub(super) fn modern(offers: Offers, permits: Arc<Semaphore>) -> Self {
        Self {
            era: Era::Modern,
            version: Some(HeaderValue::from_static(modern::names::REVISION)),
            offers,
            ..Self::new(None, permits)
        }
    }

    /// It is not kept any more: calls that begin from now on must not use it.
    pub(super) fn set_forgotten(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// Whether it is not kept any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Whether the server answers requests of this method.
    pub(super) fn answers(&self, method: &str) -> bool {
        if method == FOLLOW_TASK {
            return self.era == Era::Modern && self.offers.tasks;
        }
        self.offers.answers(method) && (self.offers.subscriptions || !self.subscribes(method))
    }

    /// Whether the method stands for a change of the stream that a modern server tells of changes in.
    pub(super) fn subscribes(&self, method: &str) -> bool {
        self.era == Era::Modern && is_subscription(method)
    }

    /// Whether the server is to be asked again what it offers.
    pub(super) fn is_outdated(&self, after: Duration) -> bool {
        self.era == Era::Modern && self.since.elapsed() >= after
    }

    /// Whether the server speaks a newer revision than a client of this era.
    pub(super) fn is_newer_than(&self, client: Era) -> bool {
        self.era == Era::Modern && client == Era::Legacy
    }
}
