//! What is known of the tools that servers show in clients' own sessions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::kept::KeptLists;
use crate::{
    domain::{ListedTools, OwnTools},
    upstream::Client,
};

/// Clients of which it is remembered what servers have said, and how long.
const CLIENTS: u64 = 50_000;
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long a client waits for a list.
pub(super) const WAITED: Duration = Duration::from_secs(1);
/// How long a server is left alone that did not list its tools: at first, and after further times. What it says meanwhile makes no difference.
const PAUSE: Duration = Duration::from_secs(5);
const MOST_DOUBLED: u32 = 6;
/// How often a server is asked whose client does not hear that its list has changed.
const UNHEARD: Duration = Duration::from_secs(5);

/// What is known of the tools in the sessions of clients.
pub(in crate::calls) struct KnownTools {
    servers: Cache<Client, Arc<Mutex<Servers>>>,
    tools: KeptLists,
}

/// Of one client, by the uids of installations.
type Servers = HashMap<Arc<str>, Server>;

#[derive(Default)]
struct Server {
    /// How often it has said that its list changed.
    changes: u64,
    listed: Option<Listed>,
    /// How often it has not listed its tools, since it did the last time.
    failures: u32,
    asked: Option<Asked>,
}

/// A list that a server has given.
#[derive(Clone, Copy)]
struct Listed {
    /// Which of the changes it has.
    changes: u64,
    /// Whether it is kept, since it is not what the registry knows.
    own: bool,
}

/// A list that was asked for.
#[derive(Clone)]
pub(super) struct Asked {
    since: Instant,
    over: CancellationToken,
}

impl Asked {
    /// Waits until it has come, or for as long as a client waits.
    pub(super) async fn wait(&self) {
        let _ = tokio::time::timeout_at(self.since + WAITED, self.over.cancelled()).await;
    }
}

/// A list that is to be asked for now.
pub(super) struct Due {
    pub(super) installation: Arc<str>,
    changes: u64,
    since: Instant,
    /// Those who wait are told when this is dropped.
    _over: DropGuard,
}

impl Due {
    /// Whether those who waited have gone on without it.
    pub(super) fn is_late(&self) -> bool {
        self.since.elapsed() >= WAITED
    }
}

impl Server {
    /// Whether there is another list than the one that is known, if its own is `kept`.
    fn has_news(&self, kept: bool, unheard: bool) -> bool {
        let Some(listed) = self.listed else { return true };
        let is_old = || self.asked.as_ref().is_none_or(|asked| asked.since.elapsed() >= UNHEARD);
        listed.changes != self.changes || listed.own && !kept || unheard && is_old()
    }

    fn is_left_alone(&self) -> bool {
        let Some(doubled) = self.failures.checked_sub(1) else {
            return false;
        };
        let pause = PAUSE * 2_u32.pow(doubled.min(MOST_DOUBLED));
        self.asked.as_ref().is_some_and(|asked| asked.since.elapsed() < pause)
    }
}

impl Default for KnownTools {
    fn default() -> Self {
        let servers = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self {
            servers: servers.max_capacity(CLIENTS).time_to_idle(REMEMBERED).build(),
            tools: KeptLists::default(),
        }
    }
}

impl KnownTools {
    /// A server has said in a session of this client that its list changed.
    pub(in crate::calls) fn changed(&self, client: &Client, installation: &Arc<str>) {
        let servers = self.servers.get_with_by_ref(client, Arc::default);
        with(&servers, |servers| {
            servers.entry(Arc::clone(installation)).or_default().changes += 1
        });
    }

    /// The client has another session, maybe in the place of one whose list was asked for.
    pub(in crate::calls) fn reopened(&self, client: &Client) {
        if let Some(servers) = self.servers.get(client) {
            with(&servers, |servers| {
                servers.values_mut().for_each(|server| server.changes += 1)
            });
        }
    }

    /// What servers list for this client alone.
    pub(in crate::calls) fn of(&self, client: &Client) -> Arc<OwnTools> {
        self.tools.get(client).unwrap_or_default()
    }

    /// Whose lists are to be asked for, which are then under way, and all that are under way. `unheard` are those servers whose changes the client does not
    /// hear of; `shows` says whose lists make a difference.
    pub(super) fn due(
        &self,
        client: &Client,
        unheard: &[Arc<str>],
        shows: impl Fn(&str) -> bool,
    ) -> (Vec<Due>, Vec<Asked>) {
        let servers = match self.servers.get(client) {
            Some(servers) => servers,
            None if unheard.is_empty() => return (Vec::new(), Vec::new()),
            None => self.servers.get_with_by_ref(client, Arc::default),
        };
        let kept = self.of(client);
        with(&servers, |servers| {
            for uid in unheard.iter().filter(|uid| shows(uid)) {
                servers.entry(Arc::clone(uid)).or_default();
            }
            let (mut due, mut asked) = (Vec::new(), Vec::new());
            for (uid, server) in servers.iter_mut().filter(|(uid, _)| shows(uid)) {
                let under_way = server.asked.as_ref().filter(|asked| !asked.over.is_cancelled());
                if let Some(under_way) = under_way {
                    asked.push(under_way.clone());
                } else if server.has_news(kept.of(uid).is_some(), unheard.contains(uid)) && !server.is_left_alone() {
                    let (since, over) = (Instant::now(), CancellationToken::new());
                    let begun = Asked {
                        since,
                        over: over.clone(),
                    };
                    asked.push(begun.clone());
                    server.asked = Some(begun);
                    due.push(Due {
                        installation: Arc::clone(uid),
                        changes: server.changes,
                        since,
                        _over: over.drop_guard(),
                    });
                }
            }
            (due, asked)
        })
    }

    /// A server has listed this; `None`: what the registry knows. Returns whether it is something else than before.
    pub(super) fn listed(&self, client: &Client, caller: &Arc<str>, due: &Due, tools: Option<ListedTools>) -> bool {
        let before = self.of(client);
        let installation = &due.installation;
        let known = before.of(installation);
        let mut differs = match (known, &tools) {
            (Some(known), Some(tools)) => !known.is_same(tools),
            (known, tools) => known.is_some() != tools.is_some(),
        };
        let mut own = tools.is_some();
        if differs && !self.tools.put(client, caller, before.with(installation, tools)) {
            tracing::info!(installation.uid = %installation, "the tools of a client's session are too large to be kept: it gets those that the registry knows");
            (own, differs) = (false, known.is_some());
            self.tools.put(client, caller, before.with(installation, None));
        }
        self.answered(client, installation, |server| {
            server.failures = 0;
            server.listed = Some(Listed {
                changes: due.changes,
                own,
            });
        });
        differs
    }

    /// A server has not listed its tools.
    pub(super) fn failed(&self, client: &Client, installation: &str) {
        self.answered(client, installation, |server| server.failures += 1);
    }

    /// The client has ended.
    pub(in crate::calls) fn forget(&self, client: &Client) {
        self.servers.invalidate(client);
        self.tools.remove(client);
    }

    fn answered(&self, client: &Client, installation: &str, change: impl FnOnce(&mut Server)) {
        if let Some(servers) = self.servers.get(client) {
            with(&servers, |servers| servers.get_mut(installation).map(change));
        }
    }
}

fn with<T>(servers: &Mutex<Servers>, work: impl FnOnce(&mut Servers) -> T) -> T {
    // Nothing panics between two changes that belong together.
    work(&mut servers.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use tokio::time::advance;

    use super::*;
    use crate::domain::Definition;

    fn tools(names: &[&str]) -> ListedTools {
        let definition = Arc::new(Definition::parse("{}").unwrap());
        let tool = |name: &&str| ((*name).into(), ("h".into(), Arc::clone(&definition)));
        names.iter().map(tool).collect()
    }

    /// A session with the server `i`.
    struct One(KnownTools, Client, Arc<str>);

    impl One {
        fn new() -> Self {
            Self(KnownTools::default(), Client::Session([1; 12]), "i".into())
        }

        fn changed(&self) {
            self.0.changed(&self.1, &self.2);
        }

        fn due(&self) -> Option<Due> {
            self.0.due(&self.1, &[], |_| true).0.pop()
        }

        fn unheard(&self) -> Option<Due> {
            self.0.due(&self.1, std::slice::from_ref(&self.2), |_| true).0.pop()
        }

        fn listed(&self, due: &Due, names: Option<&[&str]>) -> bool {
            self.0.listed(&self.1, &"users/a".into(), due, names.map(tools))
        }
    }

    /// A change that comes while the list is under way is not lost.
    #[test]
    fn a_list_is_asked_for_once_for_each_change() {
        let one = One::new();
        one.0.reopened(&one.1);
        assert!(one.due().is_none());
        one.changed();
        let first = one.due().unwrap();
        one.changed();
        assert!(one.due().is_none(), "it is under way");
        assert!(one.listed(&first, Some(&["a"])));
        drop(first);
        let second = one.due().unwrap();
        assert!(one.listed(&second, Some(&["b"])) && !one.listed(&second, Some(&["b"])));
        drop(second);
        assert!(one.due().is_none());
        assert!(one.0.of(&one.1).of("i").unwrap().get("b").is_some());
        // Another session may show others.
        one.0.reopened(&one.1);
        assert!(one.listed(&one.due().unwrap(), None));
        assert!(one.0.of(&one.1).of("i").is_none() && one.due().is_none());
        assert!(one.0.of(&Client::Session([2; 12])).is_empty());
    }

    /// Else what it shows would be gone for good.
    #[test]
    fn a_list_that_is_no_longer_kept_is_asked_for_again() {
        let one = One::new();
        one.changed();
        one.listed(&one.due().unwrap(), Some(&["a"]));
        one.0.tools.remove(&one.1);
        assert!(one.listed(&one.due().unwrap(), Some(&["a"])));
        one.changed();
        one.listed(&one.due().unwrap(), None);
        one.0.tools.remove(&one.1);
        assert!(one.due().is_none());
    }

    /// However often it says that its list has changed.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_list_its_tools_is_left_alone_for_longer_each_time() {
        let one = One::new();
        for doubled in 0..10 {
            one.changed();
            drop(one.due().unwrap());
            one.0.failed(&one.1, &one.2);
            advance(PAUSE * 2_u32.pow(doubled.min(MOST_DOUBLED)) - Duration::from_millis(1)).await;
            one.changed();
            assert!(one.due().is_none(), "{doubled}");
            advance(Duration::from_millis(1)).await;
        }
        one.listed(&one.due().unwrap(), Some(&["a"]));
        one.changed();
        assert!(one.due().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_asked_now_and_then_whose_changes_are_not_heard() {
        let one = One::new();
        assert!(one.listed(&one.unheard().unwrap(), Some(&["a"])));
        assert!(one.unheard().is_none());
        advance(UNHEARD).await;
        assert!(one.due().is_none(), "the client listens by now");
        assert!(!one.listed(&one.unheard().unwrap(), Some(&["a"])));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_list_that_is_under_way_waits_no_longer_than_the_first() {
        let one = One::new();
        one.changed();
        let (due, _) = one.0.due(&one.1, &[], |_| true);
        advance(WAITED / 2).await;
        let (_, asked) = one.0.due(&one.1, &[], |_| true);
        let since = Instant::now();
        asked[0].wait().await;
        assert_eq!(since.elapsed(), WAITED / 2);
        assert!(due[0].is_late());
    }
}
