//! Clients that listen to what servers say outside the answers to calls, and who receives it for them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    during::{InSession, Line, tell},
    mailbox::{Happening, Mailbox},
};
use crate::upstream::{Client, Heard, OpenSession, SessionKey};

/// A client that reads nothing for this time while others wait behind it listens no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The clients that listen.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Groups>);

/// By client. Most have little, and there are many.
type Groups = HashMap<Client, Box<Group>>;

/// Whether one who listens may hear the server of the installation of this uid at this moment.
pub(crate) type MayHear = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Those of one client.
#[derive(Debug, Default)]
struct Group {
    next: u64,
    members: Vec<Member>,
    /// The sessions that are received for them, and what ends that.
    heard: HashMap<SessionKey, (OpenSession, CancellationToken)>,
    /// The installations whose sessions were received, by their uids.
    before: BTreeSet<Arc<str>>,
    /// The calls of a client without a session, by the sessions that are received for them whether anybody listens or not.
    calls: HashMap<SessionKey, InSession>,
}

#[derive(Clone)]
struct Member {
    number: u64,
    mailbox: Arc<Mailbox>,
    may_hear: MayHear,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("number", &self.number)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

/// A client that listens, until this is dropped.
pub(crate) struct Listener {
    listeners: Arc<Listeners>,
    client: Client,
    number: u64,
    mailbox: Arc<Mailbox>,
    last: Option<Last>,
}

/// Called when nobody listens any more for a client. Nobody begins to before it returns.
type Last = Box<dyn FnOnce(&Client) + Send + Sync>;

impl Listener {
    /// The next that happens; `None`: it has read too slowly, and listens no longer. Nothing is lost if this is dropped before it is ready.
    pub(super) fn next(&mut self) -> impl Future<Output = Option<Happening>> {
        self.mailbox.next()
    }

    /// Waits until something is heard; false: nothing more will be.
    #[cfg(test)]
    pub(super) async fn hears(&mut self) -> bool {
        loop {
            match self.next().await {
                Some(Happening::Heard(_)) => return true,
                Some(Happening::Look) => {}
                None => return false,
            }
        }
    }

    /// Who listens.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// What it may hear is perhaps something else by now.
    pub(crate) fn look_again(&self) {
        self.mailbox.look();
    }

    /// Has this called if this is the last that listens for its client.
    pub(super) fn when_last(mut self, last: impl FnOnce(&Client) + Send + Sync + 'static) -> Self {
        self.last = Some(Box::new(last));
        self
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("client", &self.client)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let groups = self.listeners.leave(&self.client, self.number);
        if let Some(last) = self.last.take()
            && !listens(&groups, &self.client)
        {
            last(&self.client);
        }
    }
}

/// The right to receive one session for all who listen.
#[derive(Debug)]
pub(super) struct Ear {
    listeners: Arc<Listeners>,
    client: Client,
    key: SessionKey,
    /// Uid of the one whose server speaks there.
    installation: Arc<str>,
    over: CancellationToken,
    has_heard_another: bool,
}

impl Ear {
    /// Whether the client has heard another session before, which this one takes the place of.
    pub(super) const fn has_heard_another(&self) -> bool {
        self.has_heard_another
    }

    /// Waits until nobody listens any more, or another session takes the place of this one.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Whose session it is.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Passes it on.
    pub(super) async fn pass_on(&self, heard: Heard) {
        let heard = if matches!(self.client, Client::Stateless { .. }) {
            let groups = self.listeners.groups();
            let calls = groups.get(&self.client).and_then(|group| group.calls.get(&self.key));
            tell(calls, heard)
        } else {
            Some(heard)
        };
        if let Some(heard) = heard {
            self.listeners.pass_on(&self.client, &self.installation, heard).await;
        }
    }
}

/// Whether this client listens.
fn listens(groups: &Groups, client: &Client) -> bool {
    groups.get(client).is_some_and(|group| !group.members.is_empty())
}

impl Group {
    /// Whether this session is received for calls.
    fn has_calls(&self, session: &OpenSession) -> bool {
        !session.is_modern() && self.calls.contains_key(session.key())
    }

    /// Ends what is received for nobody. Returns whether anybody is left.
    fn tidy(&mut self) -> bool {
        let nobody = self.members.is_empty();
        let calls = &self.calls;
        self.heard.retain(|key, (_, over)| {
            let stays = !nobody || calls.contains_key(key);
            if !stays {
                over.cancel();
            }
            stays
        });
        !nobody || !self.calls.is_empty()
    }
}

impl Listeners {
    /// Begins to listen to what it may hear.
    pub(super) fn join(self: &Arc<Self>, client: &Client, may_hear: MayHear) -> Listener {
        let mailbox = Arc::new(Mailbox::default());
        // It looks for sessions first.
        mailbox.look();
        let mut groups = self.groups();
        let group = groups.entry(client.clone()).or_default();
        let number = group.next;
        group.next += 1;
        // Most have one.
        group.members.reserve_exact(1);
        group.members.push(Member {
            number,
            mailbox: Arc::clone(&mailbox),
            may_hear,
        });
        Listener {
            listeners: Arc::clone(self),
            client: client.clone(),
            number,
            mailbox,
            last: None,
        }
    }

    /// Tells those who listen, and those who receive sessions for calls, that their client has another session; false: nobody listens.
    pub(super) fn wake(&self, client: &Client) -> bool {
        let groups = self.groups();
        let Some(group) = groups.get(client) else { return false };
        group.members.iter().for_each(|member| member.mailbox.look());
        group.calls.values().for_each(|calls| calls.wake.notify_one());
        !group.members.is_empty()
    }

    /// A call of a client without a session begins in the session of this key. Also returns whether that is received for no other call yet, not even
    /// for one that is over.
    pub(super) fn begin_call(&self, client: &Client, key: &SessionKey, line: &Arc<Line>) -> bool {
        let mut groups = self.groups();
        let calls = &mut groups.entry(client.clone()).or_default().calls;
        let is_new = !calls.contains_key(key);
        calls.entry(key.clone()).or_default().begin(line);
        is_new
    }

    /// A call is over.
    pub(super) fn end_call(&self, client: &Client, key: &SessionKey, line: &Arc<Line>) {
        if let Some(calls) = self.groups().get_mut(client).and_then(|group| group.calls.get_mut(key)) {
            calls.end(line);
        }
    }

    /// What is to be known of the calls in a session.
    pub(super) fn calls<T>(&self, client: &Client, key: &SessionKey, of: impl FnOnce(&InSession) -> T) -> Option<T> {
        let groups = self.groups();
        groups.get(client)?.calls.get(key).map(of)
    }

    /// The session is received for calls no longer; false: another has begun.
    pub(super) fn forget_calls(&self, client: &Client, key: &SessionKey) -> bool {
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(client) else {
            return true;
        };
        if group.calls.get(key).is_some_and(|calls| !calls.is_idle()) {
            return false;
        }
        group.calls.remove(key);
        if !group.tidy() {
            groups.remove(client);
        }
        true
    }

    /// For each of a client's sessions that nobody receives, the right to: where somebody may hear it, which each comes with, or calls require it. What
    /// is received of others ends. A stream that has ended for good is not opened again before its session has a successor.
    pub(super) fn ears(
        self: &Arc<Self>,
        client: &Client,
        sessions: Vec<(OpenSession, bool)>,
    ) -> Vec<(Ear, OpenSession)> {
        let mut groups = self.groups();
        let Some(group) = groups.get_mut(client) else {
            return Vec::new();
        };
        let listens = !group.members.is_empty();
        let received = sessions.into_iter();
        let received = received.filter(|(session, may_be)| listens && *may_be || group.has_calls(session));
        let received: Vec<OpenSession> = received.map(|(session, _)| session).collect();
        let keys: HashSet<&SessionKey> = received.iter().map(OpenSession::key).collect();
        group.heard.retain(|key, (_, over)| {
            let stays = keys.contains(key);
            if !stays {
                over.cancel();
            }
            stays
        });
        drop(keys);
        let mut ears = Vec::new();
        for session in received {
            let known = group.heard.get(session.key());
            if known.is_some_and(|(known, _)| known.continues_as(&session)) {
                continue;
            }
            let over = CancellationToken::new();
            let replaced = (group.heard).insert(session.key().clone(), (session.clone(), over.clone()));
            if let Some((_, over)) = replaced {
                over.cancel();
            }
            let installation = Arc::clone(session.target.installation());
            let is_first = group.before.insert(Arc::clone(&installation));
            let (listeners, client, key) = (Arc::clone(self), client.clone(), session.key().clone());
            ears.push((
                Ear {
                    listeners,
                    client,
                    key,
                    installation,
                    over,
                    // A modern server has none.
                    has_heard_another: !is_first && session.is_legacy(),
                },
                session,
            ));
        }
        ears
    }

    /// Whether this client listens.
    pub(super) fn listens(&self, client: &Client) -> bool {
        listens(&self.groups(), client)
    }

    /// Whether one who listens for this client may hear the server of this installation.
    pub(super) fn may_hear(&self, client: &Client, installation: &str) -> bool {
        let members = self.members(client);
        members.iter().any(|member| (member.may_hear)(installation))
    }

    /// What the server of an installation says. To one stream of a client with a session, the last that it has opened: a message goes to one. To
    /// all of a client without, each of which has asked for it. One who may not hear it learns that there is less to be heard.
    pub(super) async fn pass_on(&self, client: &Client, installation: &str, heard: Heard) {
        let mut members = self.members(client);
        members.retain(|member| {
            let may_hear = (member.may_hear)(installation);
            if !may_hear {
                member.mailbox.look();
            }
            may_hear
        });
        if matches!(client, Client::Session(_)) {
            members.drain(..members.len().saturating_sub(1));
        }
        let Some(last) = members.pop() else {
            return heard.for_nobody();
        };
        for member in members {
            // What only one may answer goes to none.
            let Some(copy) = heard.copy() else { return };
            self.send(client, &member, copy).await;
        }
        self.send(client, &last, heard).await;
    }

    fn members(&self, client: &Client) -> Vec<Member> {
        let groups = self.groups();
        groups
            .get(client)
            .map(|group| group.members.clone())
            .unwrap_or_default()
    }

    /// It listens no longer: it has read nothing for too long.
    pub(super) fn dismiss(&self, client: &Client) {
        let mut groups = self.groups();
        if let Some(group) = groups.get_mut(client) {
            group.members.drain(..).for_each(|member| member.mailbox.close());
            if !group.tidy() {
                groups.remove(client);
            }
        }
    }

    async fn send(&self, client: &Client, member: &Member, heard: Heard) {
        if timeout(PATIENCE, member.mailbox.put(heard)).await.is_err() {
            drop(self.leave(client, member.number));
        }
    }

    /// Returns those that are left, and no other comes meanwhile.
    fn leave(&self, client: &Client, number: u64) -> MutexGuard<'_, Groups> {
        let mut groups = self.groups();
        if let Some(group) = groups.get_mut(client) {
            let left = group.members.iter().position(|member| member.number == number);
            if let Some(left) = left {
                group.members.remove(left).mailbox.close();
            }
            if !group.tidy() {
                groups.remove(client);
            }
        }
        groups
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::{super::mailbox::WAITING, *};
    use crate::upstream::List;

    fn everything() -> MayHear {
        Arc::new(|_| true)
    }

    #[tokio::test]
    async fn a_session_is_received_once_until_another_takes_its_place() {
        let listeners = Arc::new(Listeners::default());
        let client = Client::Session([1; 12]);
        let [first, second] = [(); 2].map(|()| OpenSession::for_tests(&client));
        let ears = |session: &OpenSession| listeners.ears(&client, vec![(session.clone(), true)]);
        assert!(ears(&first).is_empty(), "nobody listens");
        let [one, two] = [(); 2].map(|()| listeners.join(&client, everything()));
        let (ear, _) = ears(&first).pop().unwrap();
        assert!(ears(&first).is_empty());
        assert!(listeners.ears(&client, vec![(first.clone(), false)]).is_empty());
        ear.over().await;
        let (ear, _) = ears(&first).pop().unwrap();
        let (later, _) = ears(&second).pop().unwrap();
        ear.over().await;
        drop(one);
        assert!(!later.over.is_cancelled());
        drop(two);
        later.over().await;
        assert!(listeners.groups().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_listens_no_longer() {
        let listeners = Arc::new(Listeners::default());
        let subject = Arc::from("users/a");
        let profile = Arc::default();
        let client = Client::Stateless { subject, profile };
        let [mut stuck, mut other] = [(); 2].map(|()| listeners.join(&client, everything()));
        let (ear, _) = listeners
            .ears(&client, vec![(OpenSession::for_tests(&client), true)])
            .pop()
            .unwrap();
        let said = async {
            for _ in 0..=WAITING {
                ear.pass_on(Heard::Changed(List::Prompts)).await;
            }
        };
        let read = async {
            for _ in 0..=WAITING {
                assert!(other.hears().await);
            }
        };
        tokio::join!(said, read);
        for _ in 0..WAITING {
            assert!(stuck.hears().await);
        }
        assert!(!stuck.hears().await);
        assert_eq!(listeners.groups()[&client].members.len(), 1);
    }
}
