//! Who waits until they may see other tools.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use super::{
    concerned::{Concerned, Topic},
    teams::CallerTeams,
};
use crate::domain::ConsumerRef;

/// How many are woken while the lock is held.
const AT_A_TIME: usize = 64;

/// A topic, and the number of a watcher that is woken by it.
type Place = (Topic, u64);

/// All watchers.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// One tree for all topics: most have one watcher.
    places: BTreeMap<Place, Arc<Notify>>,
}

/// Is woken by each revision that may concern its caller at a gateway or agent, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    watchers: Arc<Watchers>,
    number: u64,
    consumer: ConsumerRef,
    /// `users/{user}` or `teams/{team}`.
    subject: Arc<str>,
    /// The caller's teams, at the last look.
    teams: Arc<CallerTeams>,
    woken: Arc<Notify>,
}

impl Watchers {
    pub(super) fn join(self: &Arc<Self>, subject: &Arc<str>, consumer: &ConsumerRef) -> Watcher {
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let watcher = Watcher {
            watchers: Arc::clone(self),
            number,
            consumer: consumer.clone(),
            subject: Arc::clone(subject),
            teams: Arc::default(),
            woken: Arc::default(),
        };
        for topic in watcher.own_topics() {
            waiting.places.insert((topic, number), Arc::clone(&watcher.woken));
        }
        watcher
    }

    /// Wakes whom a revision may concern, once it is in force.
    pub(super) fn wake(&self, concerned: &Concerned) {
        match concerned {
            // Each is at one gateway or agent, and these come first.
            Concerned::Everybody => self.wake_while(Bound::Unbounded, |topic| matches!(topic, Topic::Consumer(_))),
            Concerned::These(topics) => {
                for topic in topics {
                    self.wake_while(Bound::Included((topic.clone(), 0)), |other| other == topic);
                }
            }
        }
    }

    fn wake_while(&self, mut from: Bound<Place>, belongs: impl Fn(&Topic) -> bool) {
        loop {
            let waiting = self.lock();
            let mut last = None;
            let places = waiting.places.range((from, Bound::Unbounded));
            for (place, woken) in places.take(AT_A_TIME) {
                if !belongs(&place.0) {
                    return;
                }
                woken.notify_one();
                last = Some(place.clone());
            }
            drop(waiting);
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits until a revision may concern the caller; at once where one did since this was last ready.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.woken.notified()
    }

    /// Takes other teams of the caller into account from now on. False: they are those that it had before.
    pub(super) fn follow(&mut self, teams: &Arc<CallerTeams>) -> bool {
        if self.teams == *teams {
            return false;
        }
        let mut waiting = self.watchers.lock();
        for topic in self.team_topics() {
            waiting.places.remove(&(topic, self.number));
        }
        self.teams = Arc::clone(teams);
        // The topic of a team's own token is one of both.
        for topic in self.own_topics().into_iter().chain(self.team_topics()) {
            waiting.places.insert((topic, self.number), Arc::clone(&self.woken));
        }
        true
    }

    fn own_topics(&self) -> [Topic; 2] {
        [
            Topic::Consumer(self.consumer.clone()),
            Topic::Subject(Arc::clone(&self.subject)),
        ]
    }

    fn team_topics(&self) -> impl Iterator<Item = Topic> {
        let name = |team: &Arc<str>| Topic::Subject(format!("teams/{team}").into());
        self.teams.iter().map(name)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut waiting = self.watchers.lock();
        for topic in self.own_topics().into_iter().chain(self.team_topics()) {
            waiting.places.remove(&(topic, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{domain::ConsumerKind, snapshot::testing::person};

    fn is_woken(watcher: &Watcher) -> bool {
        watcher.woken().now_or_never().is_some()
    }

    #[test]
    fn all_of_a_topic_are_woken_however_many_and_no_others() {
        let watchers = Arc::new(Watchers::default());
        let gateway = |slug: &str| ConsumerRef::new(ConsumerKind::Gateway, slug);
        let alice = person("alice").subject_name().into();
        let join = |slug| watchers.join(&alice, &gateway(slug));
        let many: Vec<Watcher> = (0..=3 * AT_A_TIME).map(|_| join("b")).collect();
        let others = [join("a"), join("c")];
        let mut concerned = Concerned::nobody();
        concerned.consumer(&gateway("b"));
        watchers.wake(&concerned);
        assert!(many.iter().all(is_woken));
        assert!(!others.iter().chain(&many).any(is_woken), "nobody is woken twice");
        watchers.wake(&Concerned::Everybody);
        assert!(others.iter().chain(&many).all(is_woken));
        drop((many, others));
        assert!(watchers.lock().places.is_empty());
    }
}
