//! Where the calls of one client go, worked out once: as long as the registry says the same, they go there again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::Instant;

use crate::{
    domain::Running,
    resolve,
    snapshot::Snapshot,
    upstream::{Client, Revision, Target},
    vend::Vended,
};

/// Tools of which this is kept for one client, and installations. One who uses more begins again.
const TOOLS: usize = 32;
const SERVERS: usize = 32;

/// Where the calls of one client go by one gateway or agent, while one snapshot is in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Kept as little as possible of: it is only compared.
    snapshot: Weak<Snapshot>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tools: HashMap<Box<str>, (Arc<resolve::Target>, Arc<Server>)>,
    servers: Vec<Arc<Server>>,
}

/// What calls are sent with to the server of an installation, until that is to be vended again.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) revision: Revision,
    pub(super) running: Running,
    pub(super) vended: Arc<Vended>,
    pub(super) target: Arc<Target>,
}

impl Server {
    /// Whether these calls are sent with it at this moment.
    fn is_for(&self, client: &Client, revision: Revision, now: Instant) -> bool {
        self.client == *client && self.revision == revision && self.vended.is_good(now)
    }

    /// Whether `later` is sent in its place: by the same client, who speaks alike, to the same installation.
    fn is_replaced_by(&self, later: &Self) -> bool {
        self.client == later.client
            && self.revision == later.revision
            && self.running.installation.uid == later.running.installation.uid
    }
}

/// Where a call goes.
pub(super) struct Way {
    pub(super) to: Arc<resolve::Target>,
    /// What it is sent with, where that is known.
    pub(super) with: Option<Arc<Server>>,
    /// Whether further calls of the tool can go there.
    pub(super) lasts: bool,
}

impl Prepared {
    /// For a caller who was identified, and found to belong to the gateway or agent, by this snapshot.
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let snapshot = Arc::downgrade(snapshot);
        Self {
            snapshot,
            kept: Mutex::default(),
        }
    }

    /// Whether it is of this snapshot.
    pub(crate) fn is_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        // What a weak reference points to is not used again for another.
        std::ptr::eq(self.snapshot.as_ptr(), Arc::as_ptr(snapshot))
    }

    /// Where calls of this tool go, if that is known.
    pub(super) fn find(
        &self,
        tool: &str,
        client: &Client,
        revision: Revision,
        snapshot: &Arc<Snapshot>,
    ) -> Option<Way> {
        if !self.is_of(snapshot) {
            return None;
        }
        let (to, server) = self.lock().tools.get(tool)?.clone();
        server.is_for(client, revision, Instant::now()).then(|| Way {
            to,
            with: Some(server),
            lasts: false,
        })
    }

    /// What calls to this installation are sent with, if that is known. It must be what an installation runs in the snapshot that this is of.
    pub(super) fn server(&self, running: &Running, client: &Client, revision: Revision) -> Option<Arc<Server>> {
        let now = Instant::now();
        let is_it = |server: &&Arc<Server>| server.running.runs_as(running) && server.is_for(client, revision, now);
        self.lock().servers.iter().find(is_it).cloned()
    }

    /// Calls of this tool go there from now on, sent with that.
    pub(super) fn keep(&self, tool: &str, to: &Arc<resolve::Target>, server: Arc<Server>) {
        // These come with each request.
        if !to.consumer.passthrough_headers.is_empty() {
            return;
        }
        let mut kept = self.lock();
        if !kept.servers.iter().any(|known| Arc::ptr_eq(known, &server)) {
            kept.retain(|known| !known.is_replaced_by(&server));
            if kept.servers.len() == SERVERS {
                *kept = Kept::default();
            }
            kept.servers.push(Arc::clone(&server));
        }
        if kept.tools.len() == TOOLS && !kept.tools.contains_key(tool) {
            kept.tools.clear();
        }
        kept.tools.insert(tool.into(), (Arc::clone(to), server));
    }

    /// Forgets the headers that are not sent again: they are secrets.
    pub(crate) fn forget_over(&self) {
        let now = Instant::now();
        self.lock().retain(|server| server.vended.is_good(now));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn retain(&mut self, stays: impl Fn(&Server) -> bool) {
        self.servers.retain(|server| stays(server));
        self.tools.retain(|_, (_, server)| stays(server));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;
    use crate::{
        domain::{Caller, ConsumerKind, ConsumerRef, Links},
        snapshot::testing::{Made, Registry, person},
        upstream::{Endpoint, Scope},
    };

    const UID: &str = "i-alice";

    struct World {
        snapshot: Arc<Snapshot>,
        running: Running,
        to: Arc<resolve::Target>,
    }

    fn world() -> World {
        let registry = Registry::default()
            .entry("mail", &["send"])
            .gateway("default")
            .assign("default", "mail", "send")
            .install(Made::new(UID, "mail", "alice"))
            .tools(UID, &["send"]);
        let snapshot = Arc::new(registry.snapshot());
        let caller: Caller = person("alice");
        let gateway = ConsumerRef::new(ConsumerKind::Gateway, "default");
        let links = Links::new("http://127.0.0.1".parse().unwrap());
        let to = resolve::call(&snapshot, &caller, &gateway, "mail__send", None, &links).unwrap();
        World {
            running: to.running.clone(),
            to: Arc::new(to),
            snapshot,
        }
    }

    fn client(number: u8) -> Client {
        Client::Session([number; 12])
    }

    fn server(world: &World, client: Client, vended: &Arc<Vended>) -> Arc<Server> {
        let endpoint = Endpoint::remote(&"https://mail.example".parse().unwrap()).unwrap();
        let target = Target::new(
            endpoint,
            UID.into(),
            [0; 3],
            Revision::LATEST,
            HeaderMap::new(),
            Scope::Shared,
        );
        Arc::new(Server {
            client,
            revision: Revision::LATEST,
            running: world.running.clone(),
            vended: Arc::clone(vended),
            target: Arc::new(target),
        })
    }

    #[tokio::test]
    async fn what_two_clients_of_a_caller_are_sent_with_is_kept_for_both() {
        let world = world();
        let prepared = Prepared::new(&world.snapshot);
        let vended = Arc::new(Vended::for_test(Duration::from_secs(60)));
        for number in [1, 2, 1, 2] {
            prepared.keep("mail__send", &world.to, server(&world, client(number), &vended));
        }
        assert_eq!(prepared.lock().servers.len(), 2);
        for number in [1, 2] {
            let kept = prepared.server(&world.running, &client(number), Revision::LATEST);
            assert_eq!(kept.unwrap().client, client(number));
        }
        assert!(prepared.server(&world.running, &client(3), Revision::LATEST).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_or_was_refused_is_used_no_longer_and_forgotten() {
        let world = world();
        let prepared = Prepared::new(&world.snapshot);
        let second = Duration::from_secs(1);
        let is_known = |prepared: &Prepared, number| {
            let known = prepared
                .server(&world.running, &client(number), Revision::LATEST)
                .is_some();
            let way = prepared.find("mail__send", &client(number), Revision::LATEST, &world.snapshot);
            assert!(known || way.is_none());
            known
        };
        let (first, lasting) = (
            Arc::new(Vended::for_test(second)),
            Arc::new(Vended::for_test(60 * second)),
        );
        prepared.keep("mail__send", &world.to, server(&world, client(1), &lasting));
        prepared.keep("mail__send", &world.to, server(&world, client(2), &first));
        assert!(is_known(&prepared, 1) && is_known(&prepared, 2));
        tokio::time::advance(second).await;
        assert!(is_known(&prepared, 1) && !is_known(&prepared, 2));
        prepared.forget_over();
        assert_eq!(Arc::strong_count(&first), 1);
        lasting.set_refused();
        assert!(!is_known(&prepared, 1));
        prepared.forget_over();
        assert_eq!(Arc::strong_count(&lasting), 1);
    }
}
