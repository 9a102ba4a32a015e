//! The resources and tasks that clients have subscribed to: for the streams of modern servers (`subscriptions/listen`), and for sessions that take the place of
//! lost ones.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use service_kit::per_caller::PerCaller;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use super::{
    client::Client,
    message::{Outgoing, Reply},
    modern::names::FOLLOW_TASK,
};
use crate::json::{self, Object};

/// Of one client at one server.
pub(crate) const MOST_SUBSCRIBED: usize = 128;
/// Bytes of a URI that is subscribed to, at most.
pub(crate) const LONGEST_URI: usize = 2 << 10;
/// The errors for a client that subscribes to what is longer, and to more.
pub(crate) const URI_TOO_LONG: &str = r#"{"code":-32602,"message":"params.uri must be a URI of at most 2048 bytes"}"#;
pub(crate) const TOO_MANY_SUBSCRIBED: &str =
    r#"{"code":-32602,"message":"128 resources of this server are subscribed to: unsubscribe from others first"}"#;
/// The error for a caller who subscribes to more than their share.
pub(crate) const CALLER_HAS_ENOUGH: &str = r#"{"code":-32602,"message":"you have subscribed to as many resources as one caller may: unsubscribe from those that you do not need, or end their sessions or streams"}"#;
/// Those of a client that neither listens nor subscribes for this time are forgotten.
const IDLE: Duration = Duration::from_secs(20 * 60);
/// Clients at servers: far more than there are sessions, so that nobody's are forgotten while a stream watches them.
const MOST: u64 = 200_000;
/// Bytes of all callers. Nobody's are forgotten for others.
const BYTES: usize = 256 << 20;
/// Bytes of one caller, whose clients may be many.
const BYTES_EACH: usize = 4 << 20;
/// How long a client waits for a server to acknowledge.
const ACKNOWLEDGED: Duration = Duration::from_secs(3);

/// A client, and the uid of an installation.
type Key = (Client, Arc<str>);

/// Resources, by their URIs.
pub(super) type Uris = BTreeSet<Box<str>>;

/// What a client wants to be told of by one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topics {
    uris: Uris,
    /// Ids, in the order in which the client has named them.
    tasks: VecDeque<Box<str>>,
}

impl Topics {
    fn all(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().chain(&self.tasks).map(|topic| &**topic)
    }
}

/// What clients have subscribed to.
pub(super) struct Subscribed {
    kept: Cache<Key, Arc<Own>>,
    room: Room,
}

/// For how many bytes there is room.
struct Room {
    each: PerCaller,
    all: Arc<Semaphore>,
}

/// What is taken of it: of the caller's, and of all.
type Taken = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Room {
    /// For so many bytes of this caller's; `None`: there is none.
    fn take(&self, caller: &Arc<str>, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes).ok()?;
        let own = self.each.of(caller).try_acquire_many_owned(bytes).ok()?;
        Some((own, Arc::clone(&self.all).try_acquire_many_owned(bytes).ok()?))
    }
}

/// What one client has subscribed to at one server.
#[derive(Debug, Default)]
pub(super) struct Own {
    topics: watch::Sender<Topics>,
    /// What a modern server has acknowledged.
    told: watch::Sender<Topics>,
    /// That its topics take.
    taken: Mutex<Option<Taken>>,
    /// Resources that the server has not agreed to yet, with the requests to subscribe to each that are under way.
    claims: Mutex<HashMap<Box<str>, Vec<u64>>>,
}

/// A request to subscribe to a resource whose server may refuse it. Until then, the client counts as subscribed.
#[derive(Debug)]
pub(super) struct Claim {
    own: Arc<Own>,
    uri: Box<str>,
    /// Id of the request.
    request: u64,
}

impl Claim {
    /// The server has agreed: the resource stays subscribed to, whatever comes of other requests for it.
    pub(super) fn keep(self) {
        let mut claims = self.own.claims();
        if claims
            .get(&self.uri)
            .is_some_and(|requests| requests.contains(&self.request))
        {
            claims.remove(&self.uri);
        }
    }

    /// The client has not subscribed by this request. Returns the resource, unless it is subscribed to by another, or not at all any more.
    pub(super) fn withdraw(self) -> Option<Box<str>> {
        let Self { own, uri, request } = self;
        let was_last = own.topics.send_if_modified(|Topics { uris, .. }| {
            let mut claims = own.claims();
            let Some(requests) = claims.get_mut(&uri).filter(|requests| requests.contains(&request)) else {
                return false;
            };
            requests.retain(|other| *other != request);
            if !requests.is_empty() {
                return false;
            }
            claims.remove(&uri);
            own.returns(&uri);
            uris.remove(&uri)
        });
        was_last.then_some(uri)
    }
}

/// What a URI or the id of a task costs.
pub(crate) fn bytes(topic: &str) -> usize {
    2 * (32 + topic.len())
}

impl Own {
    /// Takes room for a URI or a task; false: there is none.
    fn takes(&self, room: &Room, caller: &Arc<str>, topic: &str) -> bool {
        let Some(more) = room.take(caller, bytes(topic)) else {
            return false;
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *taken {
            Some((own, all)) => {
                own.merge(more.0);
                all.merge(more.1);
            }
            none => *none = Some(more),
        }
        true
    }

    /// Returns that room.
    fn returns(&self, topic: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((own, all)) = taken.as_mut() {
            drop((own.split(bytes(topic)), all.split(bytes(topic))));
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<u64>>> {
        // Nothing panics between two changes that belong together.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes which resources are subscribed to.
    pub(super) fn change(&self, change: impl FnOnce(&mut Uris) -> bool) {
        self.topics.send_if_modified(|Topics { uris, .. }| change(uris));
    }

    /// Waits until a modern server has acknowledged what is subscribed to at this moment.
    pub(super) async fn acknowledged(&self) {
        let wanted = self.topics.borrow().clone();
        // A server that takes long tells of changes later.
        let _ = timeout(ACKNOWLEDGED, self.told.subscribe().wait_for(|told| *told == wanted)).await;
    }

    /// What the client has subscribed to, now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Topics> {
        self.topics.subscribe()
    }

    /// The server tells of these from now on.
    pub(super) fn acknowledge(&self, topics: &Topics) {
        self.told.send_if_modified(|told| {
            let changed = told != topics;
            told.clone_from(topics);
            changed
        });
    }
}

impl Default for Subscribed {
    fn default() -> Self {
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self {
            kept: cache.max_capacity(MOST).time_to_idle(IDLE).build(),
            room: Room {
                each: PerCaller::new(BYTES_EACH),
                all: Arc::new(Semaphore::new(BYTES)),
            },
        }
    }
}

impl Subscribed {
    /// What this client has subscribed to at this installation's server.
    pub(super) fn of_lost(&self, client: &Client, installation: &Arc<str>) -> Uris {
        let known = self.kept.get(&(client.clone(), Arc::clone(installation)));
        known.map(|own| own.topics.borrow().uris.clone()).unwrap_or_default()
    }

    /// Whether this client has subscribed to this resource at this installation's server.
    pub(super) fn has(&self, client: &Client, installation: &Arc<str>, uri: &str) -> bool {
        let known = self.kept.get(&(client.clone(), Arc::clone(installation)));
        known.is_some_and(|own| own.topics.borrow().uris.contains(uri))
    }

    /// Waits until a modern server has acknowledged what this client has subscribed to at this moment.
    pub(super) async fn acknowledged(&self, client: &Client, installation: &Arc<str>) {
        self.of(client, installation).acknowledged().await;
    }

    /// Keeps them while the client listens.
    pub(super) fn touch(&self, client: &Client, installation: &Arc<str>) {
        self.kept.get(&(client.clone(), Arc::clone(installation)));
    }

    /// Carries out `resources/subscribe`, `resources/unsubscribe`, or the wish to be told of a task, for a client of this caller.
    pub(super) fn answer(
        &self,
        client: &Client,
        caller: &Arc<str>,
        installation: &Arc<str>,
        request: &Outgoing,
    ) -> Reply {
        let params = Object::parse(request.params()).ok();
        let param = |name| params.as_ref()?.string(name).map(Box::<str>::from);
        if &*request.method == FOLLOW_TASK {
            let subscribed = self.of(client, installation);
            let follow = |topics: &mut Topics| {
                param("taskId").is_some_and(|task| self.follow(&subscribed, topics, caller, task))
            };
            subscribed.topics.send_if_modified(follow);
            return Reply::of_result("{}");
        }
        match self.change(client, caller, installation, request, false) {
            Ok(_) => Reply::of_result("{}"),
            Err(refused) => refused,
        }
    }

    /// Carries out `resources/subscribe` or `resources/unsubscribe` of a client of this caller, of which the server is yet to be asked. Returns the claim
    /// that is to be kept if it agrees, where the client subscribes to what it had not; or the reply, where the server must not be asked.
    pub(super) fn begin(
        &self,
        client: &Client,
        caller: &Arc<str>,
        installation: &Arc<str>,
        request: &Outgoing,
    ) -> Result<Option<Claim>, Reply> {
        self.change(client, caller, installation, request, true)
    }

    fn change(
        &self,
        client: &Client,
        caller: &Arc<str>,
        installation: &Arc<str>,
        request: &Outgoing,
        claims: bool,
    ) -> Result<Option<Claim>, Reply> {
        let params = Object::parse(request.params()).ok();
        let uri = params.as_ref().and_then(|params| params.string("uri"));
        let uri: Box<str> = match uri.filter(|uri| uri.len() <= LONGEST_URI) {
            Some(uri) => uri.into(),
            None => return Err(Reply::of_error(URI_TOO_LONG)),
        };
        let (mut refused, mut claimed) = (None, false);
        let own = self.of(client, installation);
        own.topics.send_if_modified(|Topics { uris, .. }| {
            if &*request.method != "resources/subscribe" {
                own.claims().remove(&uri);
                let known = uris.remove(&uri);
                if known {
                    own.returns(&uri);
                }
                return known;
            }
            if uris.contains(&uri) {
                let mut kept = own.claims();
                match kept.get_mut(&uri) {
                    Some(requests) if claims => {
                        requests.push(request.id);
                        claimed = true;
                    }
                    _ => drop(kept.remove(&uri)),
                }
                return false;
            }
            if uris.len() >= MOST_SUBSCRIBED {
                refused = Some(TOO_MANY_SUBSCRIBED);
            } else if !own.takes(&self.room, caller, &uri) {
                refused = Some(CALLER_HAS_ENOUGH);
            }
            if refused.is_some() {
                return false;
            }
            if claims {
                own.claims().insert(uri.clone(), vec![request.id]);
                claimed = true;
            }
            uris.insert(uri.clone())
        });
        if let Some(error) = refused {
            return Err(Reply::of_error(error));
        }
        let request = request.id;
        Ok(claimed.then(|| Claim { own, uri, request }))
    }

    /// Adds a task. Of too many, the first is forgotten: it is probably over. A client that is not told asks.
    fn follow(&self, own: &Own, topics: &mut Topics, caller: &Arc<str>, task: Box<str>) -> bool {
        if topics.tasks.contains(&task) {
            return false;
        }
        if topics.tasks.len() == MOST_SUBSCRIBED
            && let Some(first) = topics.tasks.pop_front()
        {
            own.returns(&first);
        }
        let takes = own.takes(&self.room, caller, &task);
        if takes {
            topics.tasks.push_back(task);
        }
        takes
    }

    /// Forgets what this client has subscribed to at this installation's server.
    pub(super) fn take(&self, client: &Client, installation: &Arc<str>) -> Uris {
        let Some(own) = self.kept.remove(&(client.clone(), Arc::clone(installation))) else {
            return Uris::new();
        };
        // The cache may hold it for a while, and a request that is under way.
        let topics = own.topics.send_replace(Topics::default());
        own.claims().clear();
        topics.all().for_each(|topic| own.returns(topic));
        topics.uris
    }

    pub(super) fn of(&self, client: &Client, installation: &Arc<str>) -> Arc<Own> {
        let key = (client.clone(), Arc::clone(installation));
        self.kept.get_with(key, Arc::default)
    }
}

/// `params` of the request for the stream: all lists, and these resources and tasks.
pub(super) fn wanted(topics: &Topics) -> Vec<u8> {
    let mut out = Vec::from(
        &br#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true"#[..],
    );
    push_list(&mut out, "resourceSubscriptions", topics.uris.iter());
    push_list(&mut out, "taskIds", topics.tasks.iter());
    out.extend_from_slice(b"}}");
    out
}

/// Appends a list, unless it is empty.
fn push_list<'a>(out: &mut Vec<u8>, name: &str, items: impl Iterator<Item = &'a Box<str>>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    json::push_member(out, name, "[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_string(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    /// One caller's clients do not take what others' could have, and what is forgotten is theirs again.
    #[test]
    fn a_caller_subscribes_to_so_much() {
        let (all, installation) = (Subscribed::default(), Arc::from("i"));
        // Sessions, too: a caller may have any number of them.
        let client = |subject: &str, number| (Arc::<str>::from(subject), Client::Session([number; 12]));
        let ask = |method: &str, (caller, client): &(Arc<str>, Client), uri: &str| {
            let params = serde_json::json!({"uri": uri}).to_string();
            let request = Outgoing::new(1, method, params.as_bytes(), &[], None);
            let answered = all.answer(client, caller, &installation, &request);
            answered.result().is_some()
        };
        let uri = |n: usize| format!("x:{n:0>width$}", width = LONGEST_URI - 2);
        let mut profiles = 0;
        let mut subscribed = 0;
        while (0..MOST_SUBSCRIBED).all(|n| {
            let more = ask("resources/subscribe", &client("users/a", profiles), &uri(n));
            subscribed += usize::from(more);
            more
        }) {
            profiles += 1;
        }
        assert_eq!(subscribed, BYTES_EACH / bytes(&uri(0)));
        assert!(ask("resources/subscribe", &client("users/b", 0), &uri(0)));
        let one = client("users/a", 0);
        assert!(ask("resources/subscribe", &one, &uri(0)), "it is subscribed to");
        assert!(ask("resources/unsubscribe", &one, &uri(0)) && ask("resources/subscribe", &one, &uri(0)));
        assert_eq!(all.take(&one.1, &installation).len(), MOST_SUBSCRIBED);
        let other = client("users/a", u8::MAX);
        assert!((0..MOST_SUBSCRIBED).all(|n| ask("resources/subscribe", &other, &uri(n))));
        assert!(
            !ask("resources/subscribe", &other, &uri(MOST_SUBSCRIBED)),
            "of one server"
        );
    }

    /// A client that gives up a request often repeats it before that is known here.
    #[test]
    fn a_resource_stays_that_another_request_has_subscribed_to() {
        let (client, installation) = (Client::Session([1; 12]), Arc::from("i"));
        let all = Subscribed::default();
        let begin = |id, method: &str| {
            let request = Outgoing::new(id, method, br#"{"uri":"x:/"}"#, &[], None);
            all.begin(&client, &"users/a".into(), &installation, &request).unwrap()
        };
        let (subscribe, unsubscribe) = ("resources/subscribe", "resources/unsubscribe");
        let has = || all.has(&client, &installation, "x:/");
        let (first, second) = (begin(1, subscribe).unwrap(), begin(2, subscribe).unwrap());
        assert_eq!((first.withdraw(), has()), (None, true));
        second.keep();
        assert!(begin(3, subscribe).is_none(), "the server has agreed");
        // One that is answered after all has no say in what the client has asked for since.
        begin(4, unsubscribe);
        let late = begin(5, subscribe).unwrap();
        begin(6, unsubscribe);
        let last = begin(7, subscribe).unwrap();
        assert_eq!((late.withdraw(), has()), (None, true));
        assert_eq!((last.withdraw().as_deref(), has()), (Some("x:/"), false));
        let own = all.of(&client, &installation);
        assert!(own.claims().is_empty());
        assert_eq!(own.taken.lock().unwrap().as_ref().unwrap().0.num_permits(), 0);
    }

    #[test]
    fn a_server_is_told_which_tasks_are_followed() {
        let (client, installation) = (Client::Caller("users/a".into()), Arc::from("i"));
        let subscribed = Subscribed::default();
        let follow = |task: &str| {
            let params = format!(r#"{{"taskId":"{task}"}}"#);
            let request = Outgoing::new(1, FOLLOW_TASK, params.as_bytes(), &[], None);
            subscribed.answer(&client, &"users/a".into(), &installation, &request);
            subscribed.of(&client, &installation).topics.borrow().clone()
        };
        follow("t");
        let sent = wanted(&follow("t"));
        let sent = std::str::from_utf8(&sent).unwrap();
        assert!(
            sent.ends_with(r#""resourcesListChanged":true,"taskIds":["t"]}}"#),
            "{sent}"
        );
        (0..MOST_SUBSCRIBED).for_each(|number| drop(follow(&number.to_string())));
        let Topics { tasks, .. } = follow("0");
        assert_eq!(
            (tasks.len(), tasks.front().map(|task| &**task)),
            (MOST_SUBSCRIBED, Some("0"))
        );
    }
}
