//! For whom the sessions are received that several clients share, and what each has subscribed to.
//!
//! A session is replaced when its server is started again, or its credential is another. What takes its place has the same clients.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::per_caller::PerCaller;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::topics::{Left, Topics};
use crate::upstream::{
    CALLER_HAS_ENOUGH, Client, Heard, LONGEST_URI, MOST_SUBSCRIBED, OpenSession, Place, SharedTopics, StreamBegun,
    TOO_MANY_SUBSCRIBED, Target, URI_TOO_LONG, bytes_subscribed,
};

/// Bytes of what one caller's clients have subscribed to.
const BYTES_EACH: usize = 2 << 20;

/// Where the sessions are that are received.
pub(in crate::calls) struct Places {
    known: Mutex<Known>,
    /// The bytes of what each caller's clients have subscribed to.
    each: PerCaller,
}

#[derive(Default)]
struct Known {
    places: HashMap<Place, Received>,
    /// Where each client is, by the uids of installations: in one place of each.
    clients: HashMap<Client, HashMap<Arc<str>, Member>>,
    /// Where those were, and what they had subscribed to there, who do not reach the installation at the moment.
    absent: HashMap<Client, HashMap<Arc<str>, Member>>,
}

/// Takes a client's place out, by the uid of the installation.
fn take_one(
    clients: &mut HashMap<Client, HashMap<Arc<str>, Member>>,
    client: &Client,
    installation: &Arc<str>,
) -> Option<Member> {
    let own = clients.get_mut(client)?;
    let member = own.remove(installation);
    if own.is_empty() {
        clients.remove(client);
    }
    member
}

/// A client in one place.
struct Member {
    place: Place,
    uris: HashSet<Box<str>>,
    /// Of its caller's bytes.
    room: Option<OwnedSemaphorePermit>,
}

/// A place whose session is received.
struct Received {
    clients: HashSet<Client>,
    topics: Topics,
    /// What calls go to.
    target: Arc<Target>,
    current: watch::Sender<Option<Current>>,
    /// Whether the server is to be told of further topics.
    unsaid: Arc<Notify>,
}

/// The session in a place.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) session: OpenSession,
    pub(super) stream_begun: StreamBegun,
}

/// What receives the sessions of a place, one after the other. They end with the last client.
pub(super) struct Succession {
    pub(super) place: Place,
    pub(super) current: watch::Receiver<Option<Current>>,
    pub(super) topics: SharedTopics,
    pub(super) unsaid: Arc<Notify>,
}

/// A client is in a place.
#[derive(Default)]
pub(super) struct Joined {
    /// It is to be received: nobody was there.
    pub(super) begins: Option<Succession>,
    /// What calls wait for.
    pub(super) stream_begun: Option<StreamBegun>,
    /// What its client has left.
    pub(super) unheard: Option<Unheard>,
    /// The session that calls go to has not been seen there.
    pub(super) is_behind: bool,
}

/// What a server is to tell of no longer, in this session.
pub(super) struct Unheard {
    pub(super) session: OpenSession,
    pub(super) uris: Vec<Box<str>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            each: PerCaller::new(BYTES_EACH),
        }
    }
}

impl Places {
    /// A client hears from now on what is said where this target's sessions are. `is_called`: calls go to the target now.
    pub(super) fn join(&self, client: &Client, target: &Arc<Target>, is_called: bool) -> Joined {
        self.lock().join(client, target, is_called)
    }

    /// Adds a topic of a client that is there, which tells the server itself. Returns whether it is new to the client, or the error.
    pub(super) fn subscribe(
        &self,
        client: &Client,
        subject: &Arc<str>,
        target: &Target,
        uri: &str,
    ) -> Result<bool, &'static str> {
        if uri.len() > LONGEST_URI {
            return Err(URI_TOO_LONG);
        }
        let mut known = self.lock();
        let Known { places, clients, .. } = &mut *known;
        let member = clients
            .get_mut(client)
            .and_then(|own| own.get_mut(target.installation()));
        let Some((member, received)) = member.and_then(|member| {
            let received = places.get_mut(&member.place)?;
            Some((member, received))
        }) else {
            return Ok(false);
        };
        if member.uris.contains(uri) {
            return Ok(false);
        }
        if member.uris.len() >= MOST_SUBSCRIBED {
            return Err(TOO_MANY_SUBSCRIBED);
        }
        let bytes = u32::try_from(bytes_subscribed(uri)).unwrap_or(u32::MAX);
        let Ok(more) = self.each.of(subject).try_acquire_many_owned(bytes) else {
            return Err(CALLER_HAS_ENOUGH);
        };
        match &mut member.room {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        member.uris.insert(uri.into());
        received.topics.add(client, uri, true);
        Ok(true)
    }

    /// Removes a topic of a client. Returns what remains in the place of this target.
    pub(super) fn unsubscribe(&self, client: &Client, target: &Target, uri: &str) -> Left {
        let mut known = self.lock();
        let Known { places, clients, .. } = &mut *known;
        let member = clients
            .get_mut(client)
            .and_then(|own| own.get_mut(target.installation()));
        let place = match member {
            Some(member) => {
                if member.uris.remove(uri) {
                    drop(member.room.as_mut().and_then(|room| room.split(bytes_subscribed(uri))));
                }
                member.place.clone()
            }
            None => target.key().place(),
        };
        match places.get_mut(&place) {
            Some(received) => received.topics.remove(client, uri),
            None => Left::Nobody { owed: false },
        }
    }

    /// The session where this target's are, if its server is to tell of this resource, or not to, as somebody has subscribed to it.
    pub(super) fn session_if(&self, target: &Target, uri: &str, is_subscribed: bool) -> Option<OpenSession> {
        let known = self.lock();
        let received = known.places.get(&target.key().place())?;
        if received.topics.has(uri) != is_subscribed {
            return None;
        }
        received
            .current
            .borrow()
            .as_ref()
            .map(|current| current.session.clone())
    }

    /// A session has been opened. Returns what its calls wait for if it is received.
    pub(super) fn opened(&self, session: OpenSession) -> Option<StreamBegun> {
        let mut known = self.lock();
        let received = known.places.get_mut(&session.key().place())?;
        let last = received.current.borrow().clone();
        if let Some(last) = &last {
            if last.session.key() == session.key() && last.session.continues_as(&session) {
                return Some(last.stream_begun.clone());
            }
            received.topics.forget_said();
        }
        received.target = Arc::clone(&session.target);
        let begun = StreamBegun::default();
        received.current.send_replace(Some(Current {
            session,
            stream_begun: begun.clone(),
        }));
        Some(begun)
    }

    /// The same, for a session that is spoken to with newer headers, if it is the same.
    pub(super) fn renew(&self, session: OpenSession) {
        if let Some(received) = self.lock().places.get_mut(&session.key().place()) {
            received.target = Arc::clone(&session.target);
        }
        self.opened(session);
    }

    /// What the session of this place is to be spoken to with: as calls do.
    pub(super) fn target(&self, place: &Place) -> Option<Arc<Target>> {
        let known = self.lock();
        known.places.get(place).map(|received| Arc::clone(&received.target))
    }

    /// The stream of a modern server in the place of this target, if there is one.
    pub(super) fn topics(&self, target: &Target) -> Option<SharedTopics> {
        let known = self.lock();
        let received = known.places.get(&target.key().place())?;
        let is_modern = received
            .current
            .borrow()
            .as_ref()
            .is_some_and(|current| current.session.is_modern());
        is_modern.then(|| received.topics.asked())
    }

    /// What the server of this place is to be told of.
    pub(super) fn unsaid(&self, place: &Place) -> Vec<Box<str>> {
        let known = self.lock();
        known
            .places
            .get(place)
            .map(|received| received.topics.unsaid())
            .unwrap_or_default()
    }

    /// The server has been told of this in this session.
    pub(super) fn say(&self, place: &Place, session: &OpenSession, uri: &str) {
        if let Some(received) = self.lock().places.get_mut(place)
            && received
                .current
                .borrow()
                .as_ref()
                .is_some_and(|current| current.session.continues_as(session))
        {
            received.topics.say(uri);
        }
    }

    /// Whom this is for.
    pub(super) fn told(&self, place: &Place, heard: &Heard) -> HashSet<Client> {
        let known = self.lock();
        let Some(received) = known.places.get(place) else {
            return HashSet::new();
        };
        match heard {
            Heard::Changed(_) => received.clients.clone(),
            Heard::Updated(updated) => received.topics.told(&updated.uri),
            _ => HashSet::new(),
        }
    }

    /// What calls of this client go to, where it is.
    pub(super) fn targets(&self, client: &Client) -> Vec<Arc<Target>> {
        let known = self.lock();
        let own = known.clients.get(client).into_iter().flat_map(HashMap::values);
        let places = own.filter_map(|member| known.places.get(&member.place));
        places.map(|received| Arc::clone(&received.target)).collect()
    }

    /// A client is not where the sessions of this installation are until it joins again.
    pub(super) fn leave_one(&self, client: &Client, installation: &Arc<str>) -> Option<Unheard> {
        let mut known = self.lock();
        let member = take_one(&mut known.clients, client, installation)?;
        let unheard = known.depart(client, &member.place, member.uris.iter());
        let absent = known.absent.entry(client.clone()).or_default();
        absent.insert(Arc::clone(installation), member);
        unheard
    }

    /// Somebody is there again who listens: what waits before the session is received again waits no longer.
    pub(super) fn wake(&self, target: &Target) {
        if let Some(received) = self.lock().places.get(&target.key().place()) {
            received.unsaid.notify_one();
        }
    }

    /// Those who are in a place.
    pub(super) fn clients(&self, place: &Place) -> HashSet<Client> {
        let known = self.lock();
        known
            .places
            .get(place)
            .map(|received| received.clients.clone())
            .unwrap_or_default()
    }

    /// A client is nowhere any more.
    pub(super) fn leave(&self, client: &Client) -> Vec<Unheard> {
        let mut known = self.lock();
        known.absent.remove(client);
        let own = known.clients.remove(client).unwrap_or_default();
        let left = own
            .into_values()
            .filter_map(|member| known.depart(client, &member.place, member.uris.iter()));
        left.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics between two changes that belong together.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn join(&mut self, client: &Client, target: &Arc<Target>, is_called: bool) -> Joined {
        let (mut joined, place) = (Joined::default(), target.key().place());
        let own = self.clients.entry(client.clone()).or_default();
        let mut uris = HashSet::new();
        let member = own.entry(Arc::clone(target.installation())).or_insert_with(|| {
            let before = take_one(&mut self.absent, client, target.installation());
            let (known, room) = before.map(|before| (before.uris, before.room)).unwrap_or_default();
            uris.clone_from(&known);
            Member {
                place: place.clone(),
                uris: known,
                room,
            }
        });
        if member.place != place {
            // It goes on with other headers of its own.
            let from = std::mem::replace(&mut member.place, place.clone());
            uris.clone_from(&member.uris);
            joined.unheard = self.depart(client, &from, uris.iter());
        }
        let received = self.places.entry(place.clone()).or_insert_with(|| {
            let (current, topics) = (watch::Sender::new(None), Topics::default());
            let unsaid = Arc::new(Notify::new());
            joined.begins = Some(Succession {
                place,
                current: current.subscribe(),
                topics: topics.asked(),
                unsaid: Arc::clone(&unsaid),
            });
            Received {
                clients: HashSet::new(),
                topics,
                target: Arc::clone(target),
                current,
                unsaid,
            }
        });
        if is_called && !Arc::ptr_eq(&received.target, target) {
            received.target = Arc::clone(target);
        }
        if !received.clients.contains(client) {
            received.clients.insert(client.clone());
        }
        if !uris.is_empty() {
            uris.iter().for_each(|uri| received.topics.add(client, uri, false));
            received.unsaid.notify_one();
        }
        let current = received.current.borrow().clone();
        joined.is_behind = current
            .as_ref()
            .is_none_or(|current| current.session.key() != received.target.key());
        joined.stream_begun = current.map(|current| current.stream_begun);
        joined
    }

    /// Takes a client out of a place. Nobody is left: its session is received no longer.
    fn depart<'a>(
        &mut self,
        client: &Client,
        place: &Place,
        uris: impl Iterator<Item = &'a Box<str>>,
    ) -> Option<Unheard> {
        let received = self.places.get_mut(place)?;
        let over = uris.filter(|uri| matches!(received.topics.remove(client, uri), Left::Nobody { .. }));
        let uris: Vec<_> = over.cloned().collect();
        let session = received
            .current
            .borrow()
            .as_ref()
            .map(|current| current.session.clone());
        received.clients.remove(client);
        if received.clients.is_empty() {
            self.places.remove(place);
        }
        session
            .filter(|_| !uris.is_empty())
            .map(|session| Unheard { session, uris })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One caller's clients do not take what others' could have, and what is forgotten is theirs again.
    #[test]
    fn a_caller_subscribes_to_so_much() {
        let (places, alice, bob) = (Places::default(), "users/alice".into(), "users/bob".into());
        let client = |id| Client::Session([id; 12]);
        let target = OpenSession::for_tests(&client(0)).target;
        let uri = |n: usize| format!("x:{n:0>width$}", width = LONGEST_URI - 2);
        let ask = |id, subject, n| {
            places.join(&client(id), &target, true);
            places.subscribe(&client(id), subject, &target, &uri(n))
        };
        let mut subscribed = 0;
        let mut id = 1;
        let refused = loop {
            let refused = (0..=MOST_SUBSCRIBED).find_map(|n| {
                let refused = ask(id, &alice, n).err();
                subscribed += usize::from(refused.is_none());
                refused
            });
            match refused {
                Some(TOO_MANY_SUBSCRIBED) => id += 1,
                refused => break refused,
            }
        };
        assert_eq!(refused, Some(CALLER_HAS_ENOUGH));
        assert_eq!(subscribed, BYTES_EACH / bytes_subscribed(&uri(0)));
        assert_eq!(ask(100, &bob, 0), Ok(true));
        assert_eq!(ask(1, &alice, 0), Ok(false), "it has it");
        places.leave(&client(1));
        assert_eq!(ask(101, &alice, 0), Ok(true));
        assert_eq!(
            places.subscribe(&client(101), &alice, &target, &uri(0).repeat(2)),
            Err(URI_TOO_LONG)
        );
        (1..=101).for_each(|id| drop(places.leave(&client(id))));
        let known = places.lock();
        assert!(known.places.is_empty() && known.clients.is_empty() && known.absent.is_empty());
    }

    /// The server is told of it again.
    #[test]
    fn who_comes_back_has_subscribed_to_what_they_had() {
        let (places, client) = (Places::default(), Client::Session([1; 12]));
        let target = OpenSession::for_tests(&client).target;
        let unsaid = || places.unsaid(&target.key().place());
        let join = || places.join(&client, &target, false);
        join();
        let subscribed = places.subscribe(&client, &"users/alice".into(), &target, "x:/a");
        assert_eq!((subscribed, unsaid()), (Ok(true), Vec::new()));
        for _ in 0..2 {
            places.leave_one(&client, target.installation());
            assert!(places.lock().places.is_empty());
            join();
            assert_eq!(unsaid(), ["x:/a".into()]);
        }
        places.leave_one(&client, target.installation());
        places.leave(&client);
        join();
        assert_eq!(unsaid(), Vec::new());
    }
}
