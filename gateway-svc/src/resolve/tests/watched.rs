//! Whoever may see other tools after a revision is woken by it.

use std::{sync::Arc, time::Duration};

use contracts::registry::{
    Change, ConditionStatus, EntryLifecycle, ObjectKind, Removal, change, watched_object::Object,
};
use futures::FutureExt as _;
use pretty_assertions::assert_eq;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use registry_client::watch::Sink as _;
use service_kit::Clock;
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::CallerUser,
    snapshot::{
        Feed, Snapshot, Store, Watcher,
        testing::{ISSUER, discovered, fill, put, revision, team_member},
    },
};

const ENTRIES: [&str; 3] = ["mail", "time", "wiki"];
const GATEWAYS: [&str; 3] = ["a", "b", "c"];
const TEAMS: [&str; 2] = ["core", "web"];
const PEOPLE: [&str; 2] = ["alice", "bob"];
/// Uid, entry and owner.
const INSTALLATIONS: [(&str, &str, &str); 6] = [
    ("mail-alice", "mail", "alice"),
    ("mail-bob", "mail", "bob"),
    ("mail-core", "mail", "team:core"),
    ("time-alice", "time", "alice"),
    ("time-core", "time", "team:core"),
    ("time-web", "time", "team:web"),
];
/// The hash of Bob's gateway token.
const TOKEN: [u8; 32] = [1; 32];

fn changed(object: pb::WatchedObject) -> Change {
    let change = Some(change::Change::Put(object));
    Change { change }
}

fn removed(kind: ObjectKind, key: impl Into<String>) -> Change {
    let removal = Removal {
        kind: kind.into(),
        key: key.into(),
    };
    let change = Some(change::Change::Remove(removal));
    Change { change }
}

fn shut_out(person: &str) -> pb::WatchedObject {
    let user = user_id(person).resource_name();
    put(person, Object::DeactivatedUser(pb::DeactivatedUser { user }))
}

fn token(hash: [u8; 32]) -> pb::WatchedObject {
    let bob = caller_user("bob");
    let gateway_token = pb::GatewayToken {
        name: "gatewayTokens/t".to_owned(),
        subject: Some(pb::gateway_token::Subject::User(bob.id.resource_name())),
        ..pb::GatewayToken::default()
    };
    let watched = pb::WatchedGatewayToken {
        gateway_token: Some(gateway_token),
        token_hash: hash.to_vec(),
        issuer: bob.issuer,
        subject: bob.subject,
    };
    put("t", Object::GatewayToken(watched))
}

struct Random(StdRng);

impl Random {
    fn one_in(&mut self, of: u32) -> bool {
        self.0.random_ratio(1, of)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len())]
    }

    fn labels(&mut self) -> std::collections::HashMap<String, String> {
        let all = [("for", "all"), ("area", "text")];
        let some = all.into_iter().filter(|_| self.one_in(2));
        some.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn visibility(&mut self) -> Option<pb::Visibility> {
        let author = pb::visibility::Audience::Author(pb::AuthorAudience {});
        match self.0.random_range(0..4) {
            0 => visible_to_team(self.of(&TEAMS)),
            1 => Some(pb::Visibility { audience: Some(author) }),
            _ => None,
        }
    }

    /// What an entry or installation was discovered to have, with what the registry sends before.
    fn tools(&mut self, owner: &str) -> (Vec<pb::DiscoveredSet>, Vec<Change>) {
        let tools: [&[&str]; 4] = [&["x"], &["x", "y"], &["y"], &[]];
        let tools = self.of(&tools);
        if tools.is_empty() {
            return Default::default();
        }
        let (set, objects) = discovered(owner, tools);
        (vec![set], objects.into_iter().map(changed).collect())
    }

    fn status(&mut self) -> ConditionStatus {
        self.of(&[ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown])
    }

    fn entry(&mut self) -> Vec<Change> {
        let slug = self.of(&ENTRIES);
        let uid = format!("e-{slug}");
        if self.one_in(8) {
            return vec![removed(ObjectKind::Entry, uid)];
        }
        let (discovered, mut changes) = self.tools(&uid);
        let lifecycles = [EntryLifecycle::Draft, EntryLifecycle::Approved];
        changes.push(changed(entry(pb::Entry {
            labels: self.labels(),
            visibility: self.visibility(),
            lifecycle: self.of(&lifecycles).into(),
            conditions: entry_credential(self.status(), "REPORTED"),
            delete_time: self.one_in(8).then(Default::default),
            discovered,
            ..plain_entry(slug)
        })));
        changes
    }

    fn installation(&mut self) -> Vec<Change> {
        let (uid, entry, owner) = self.of(&INSTALLATIONS);
        if self.one_in(6) {
            return vec![removed(ObjectKind::Installation, uid)];
        }
        let (discovered, mut changes) = self.tools(uid);
        let made = Made {
            once_ready: !self.one_in(4),
            deleted: self.one_in(6),
            created: self.of(&[1000, 2000, 3000]),
            credential: (self.status(), "REPORTED"),
            ..Made::new(uid, entry, owner)
        };
        let mut object = made.object();
        if let Some(Object::Installation(installation)) = &mut object.object {
            installation.discovered = discovered;
        }
        changes.extend([changed(made.revision()), changed(object)]);
        changes
    }

    fn gateway(&mut self) -> Change {
        let slug = self.of(&GATEWAYS);
        if self.one_in(8) {
            return removed(ObjectKind::Gateway, format!("g-{slug}"));
        }
        let modes = [pb::AssignmentMode::Automatic, pb::AssignmentMode::Manual];
        changed(gateway(pb::Gateway {
            labels: self.labels(),
            visibility: self.visibility(),
            assignment_mode: self.of(&modes).into(),
            omit_entry_prefix: Some(self.one_in(2)),
            tool_listing: self.one_in(3).into(),
            description: self.of(&["one", "another"]).to_owned(),
            ..plain_gateway(slug)
        }))
    }

    fn assignment(&mut self) -> Change {
        let (gateway, tool) = (self.of(&GATEWAYS), self.of(&["*", "x"]));
        let (pinned, entry, _) = self.of(&INSTALLATIONS);
        let made = plain_assignment(gateway, entry, tool, self.one_in(2).then_some(pinned));
        if self.one_in(3) {
            return removed(ObjectKind::ToolAssignment, made.uid);
        }
        changed(assignment(made))
    }

    fn team(&mut self) -> Change {
        let slug = self.of(&TEAMS);
        if self.one_in(4) {
            return removed(ObjectKind::Team, format!("t-{slug}"));
        }
        let mapping = pb::TeamMapping {
            issuer: ISSUER.to_owned(),
            selector: Some(pb::team_mapping::Selector::Group("eng".to_owned())),
        };
        let mut object = Registry::default().team(slug, &[]).objects.remove(0);
        if let Some(Object::Team(team)) = &mut object.object {
            team.mappings = Vec::from_iter(self.one_in(2).then_some(mapping));
        }
        changed(object)
    }

    fn member(&mut self) -> Change {
        let member = team_member(self.of(&TEAMS), self.of(&PEOPLE));
        if self.one_in(2) {
            return removed(ObjectKind::TeamMember, member.key);
        }
        changed(member)
    }

    fn person(&mut self) -> Change {
        let person = self.of(&PEOPLE);
        if self.one_in(4) {
            return changed(shut_out(person));
        }
        removed(ObjectKind::DeactivatedUser, person)
    }

    fn token(&mut self) -> Change {
        match self.0.random_range(0..3) {
            0 => removed(ObjectKind::GatewayToken, "t"),
            1 => changed(token([2; 32])),
            _ => changed(token(TOKEN)),
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        match self.0.random_range(0..10) {
            0 | 1 => self.entry(),
            2 | 3 => self.installation(),
            4 => vec![self.gateway()],
            5 => vec![self.assignment()],
            6 => vec![self.team()],
            7 => vec![self.member()],
            8 => vec![self.person()],
            _ => vec![self.token()],
        }
    }
}

/// A caller who waits, and what they saw at the last look.
struct Waiting {
    caller: Caller,
    token: Option<[u8; 32]>,
    at: ConsumerRef,
    watcher: Watcher,
    saw: Option<u64>,
}

impl Waiting {
    /// By the plain rule: what is seen in the present snapshot.
    fn sees(&self, snapshot: &Snapshot) -> Option<u64> {
        if self.token.is_some_and(|hash| snapshot.gateway_token(&hash).is_none()) {
            return None;
        }
        let tools = list(snapshot, &self.caller, &self.at).ok()?;
        let sees = fingerprint(&tools);
        // Whoever sees the same has the same list, also in later snapshots.
        let (table, seen) = (snapshot.table(&self.at)?, seen(snapshot, &self.caller, &self.at).ok()?);
        assert_eq!(table.fingerprint(&seen).unwrap_or(sees), sees, "{seen:?}");
        table.keep_fingerprint(seen, sees);
        Some(sees)
    }

    fn is_woken(&self) -> bool {
        self.watcher.woken().now_or_never().is_some()
    }
}

/// Everybody who may wait, at every gateway.
fn everybody(store: &Store) -> Vec<Waiting> {
    let with = |user: CallerUser| Caller::person(user);
    let team = Caller {
        subject: Subject::Team("core".into()),
        consumers: None,
        token: None,
        creator: None,
    };
    let callers = [
        (person("alice"), None),
        (person("bob"), None),
        (person("bob"), Some(TOKEN)),
        (
            with(CallerUser {
                groups: vec!["eng".to_owned()],
                ..caller_user("carol")
            }),
            None,
        ),
        (
            with(CallerUser {
                admin: true,
                ..caller_user("admin")
            }),
            None,
        ),
        (
            with(CallerUser {
                machine: true,
                ..caller_user("alice")
            }),
            None,
        ),
        (person("author"), None),
        (team, None),
    ];
    let mut all = Vec::new();
    for slug in GATEWAYS {
        for (caller, token) in callers.clone() {
            let at = ConsumerRef::new(ConsumerKind::Gateway, slug);
            let watcher = store.watch(&caller.subject_name().into(), &at);
            all.push(Waiting {
                caller,
                token,
                at,
                watcher,
                saw: None,
            });
        }
    }
    all
}

/// A store with these objects, and everybody at their first look.
async fn begun(registry: Registry) -> (Arc<Store>, Feed, Vec<Waiting>) {
    let store = Store::new(Duration::from_secs(300), Clock::System);
    let (to_discovery, _) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Arc::clone(&store), to_discovery);
    fill(&mut feed, 1, registry.objects).await;
    feed.connected(true);
    let mut waiting = everybody(&store);
    for one in &mut waiting {
        let snapshot = store.look(&mut one.watcher, &one.caller).unwrap();
        one.saw = one.sees(&snapshot);
    }
    (store, feed, waiting)
}

#[tokio::test]
async fn nobody_misses_a_change_of_what_they_see() {
    let (mut saw_others, mut woken) = (0, 0);
    for seed in 0..12 {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (store, mut feed, mut waiting) = begun(Registry::default()).await;
        for number in 2..200 {
            let changes: Vec<Change> = (0..random.0.random_range(1..3))
                .flat_map(|_| random.changes())
                .collect();
            feed.changes(number, changes.clone()).await;
            for one in &mut waiting {
                let sees = one.sees(&store.last());
                // The stream of a caller who sees nothing any more has ended, and they may open another.
                if one.is_woken() || one.saw.is_none() {
                    store.look(&mut one.watcher, &one.caller).unwrap();
                    woken += 1;
                } else {
                    let who = one.caller.subject_name();
                    assert_eq!(
                        sees, one.saw,
                        "{seed}, {number}: {who} at {} slept: {changes:#?}",
                        one.at
                    );
                }
                saw_others += usize::from(sees != one.saw);
                one.saw = sees;
            }
        }
    }
    assert!(saw_others > 1_000, "{saw_others}, of {woken} who were woken");
}

/// Who is woken by a revision, by subject, at the gateway `a`.
async fn woken_by(changes: Vec<Change>) -> Vec<String> {
    let registry = Registry::default()
        .entry("mail", &["x"])
        .entry("time", &["x"])
        .gateway("a")
        .gateway("b")
        .assign("a", "mail", "x")
        .team("core", &["bob"])
        .install(Made::new("mail-alice", "mail", "alice"))
        .tools("mail-alice", &["x"]);
    let (_, mut feed, waiting) = begun(registry).await;
    feed.changes(2, changes).await;
    let woken = waiting.iter().filter(|one| one.is_woken());
    let mut names: Vec<_> = (woken.filter(|one| *one.at.slug == *"a"))
        .map(|one| one.caller.subject_name())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test]
async fn a_report_that_changes_no_list_wakes_nobody() {
    let reported = Made {
        credential: (ConditionStatus::False, "EXPIRED"),
        ..Made::new("mail-alice", "mail", "alice")
    };
    let mut reported = reported.object();
    let (set, _) = discovered("mail-alice", &["x"]);
    if let Some(Object::Installation(installation)) = &mut reported.object {
        installation.discovered = vec![set];
    }
    let (set, _) = discovered("e-mail", &["x"]);
    let entry = entry(pb::Entry {
        conditions: entry_credential(ConditionStatus::False, "EXPIRED"),
        description: "another text".to_owned(),
        discovered: vec![set],
        ..plain_entry("mail")
    });
    let described = gateway(pb::Gateway {
        description: "another text".to_owned(),
        ..plain_gateway("a")
    });
    let same_team = Registry::default().team("core", &[]).objects.remove(0);
    let silent = [
        reported,
        runtime("mail-alice", "unix:/x"),
        revision(plain_revision("mail")),
        entry,
        described,
        same_team,
        token([3; 32]),
    ];
    assert_eq!(woken_by(silent.map(changed).into()).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_concerns_one_wakes_no_other() {
    let alice = || user_id("alice").resource_name();
    let gone = removed(ObjectKind::Installation, "mail-alice");
    assert_eq!(woken_by(vec![gone]).await, [alice()]);
    let of_bob = Made::new("mail-bob", "mail", "bob").object();
    assert_eq!(woken_by(vec![changed(of_bob)]).await, [user_id("bob").resource_name()]);
    let of_core = Made::new("mail-core", "mail", "team:core").object();
    let members = ["teams/core".to_owned(), user_id("bob").resource_name()];
    assert_eq!(woken_by(vec![changed(of_core)]).await, members);
    assert_eq!(woken_by(vec![changed(shut_out("alice"))]).await, [alice()]);
    let elsewhere = assignment(plain_assignment("b", "time", "*", None));
    assert_eq!(woken_by(vec![changed(elsewhere)]).await, Vec::<String>::new());
    let here = assignment(plain_assignment("a", "time", "*", None));
    assert_eq!(woken_by(vec![changed(here)]).await.len(), 6, "all who wait there");
}
