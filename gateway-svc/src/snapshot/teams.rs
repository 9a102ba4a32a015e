//! Who belongs to which teams.

use std::{sync::Arc, time::SystemTime};

use moka::sync::Cache;
use rpds::{HashTrieMapSync, HashTrieSetSync};

use crate::domain::{Caller, CallerUser, Subject};

/// Callers whose teams are remembered.
const REMEMBERED: u64 = 50_000;

/// A team, and the identity-provider groups and issuers that it maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    /// The id in `teams/{team}`.
    pub(crate) slug: Arc<str>,
    /// When it was created: a team that had the name before is another.
    pub(crate) created: SystemTime,
    /// (issuer, group) pairs whose users belong to it.
    pub(crate) groups: Vec<(String, String)>,
    /// Issuers all users of which belong to it.
    pub(crate) issuers: Vec<String>,
}

impl Team {
    fn takes_in(&self, user: &CallerUser) -> bool {
        self.issuers.contains(&user.issuer)
            || self
                .groups
                .iter()
                .any(|(issuer, group)| *issuer == user.issuer && user.groups.contains(group))
    }
}

/// The teams of a caller, by slug, and when each was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallerTeams(Vec<(Arc<str>, SystemTime)>);

impl CallerTeams {
    /// Whether the caller belongs to it.
    pub(crate) fn contains(&self, slug: &str) -> bool {
        self.created(slug).is_some()
    }

    /// When the team was created, if the caller belongs to it.
    pub(crate) fn created(&self, slug: &str) -> Option<SystemTime> {
        let found = self.0.binary_search_by(|(team, _)| (**team).cmp(slug)).ok()?;
        Some(self.0[found].1)
    }

    /// The slugs of all of them, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(slug, _)| slug)
    }
}

/// All teams and their members.
#[derive(Clone, Debug)]
pub(crate) struct Teams {
    by_uid: HashTrieMapSync<Arc<str>, Arc<Team>>,
    /// Uids of the teams to which a user belongs by name, by user id. A team may come after its members.
    memberships: HashTrieMapSync<Arc<str>, Arc<[Arc<str>]>>,
    /// The same the other way round: the ids of users, by uid of the team.
    members: HashTrieMapSync<Arc<str>, HashTrieSetSync<Arc<str>>>,
    remembered: Cache<Subject, Arc<CallerTeams>>,
}

impl Default for Teams {
    fn default() -> Self {
        Self {
            by_uid: HashTrieMapSync::default(),
            memberships: HashTrieMapSync::default(),
            members: HashTrieMapSync::default(),
            remembered: Cache::new(REMEMBERED),
        }
    }
}

impl Teams {
    /// With one more, or another state of one. False: that is known already.
    pub(super) fn put(&mut self, uid: Arc<str>, team: Team) -> bool {
        let is_news = self.by_uid.get(&uid).is_none_or(|known| **known != team);
        if is_news {
            self.by_uid.insert_mut(uid, Arc::new(team));
        }
        is_news
    }

    /// Without one, and without its members. Costs what these are, not what others have.
    pub(super) fn remove(&mut self, uid: &str) {
        self.by_uid.remove_mut(uid);
        let Some(members) = self.members.get(uid).cloned() else {
            return;
        };
        self.members.remove_mut(uid);
        for user in members.iter() {
            self.leave(uid, user);
        }
    }

    /// With a user in a team by name.
    pub(super) fn put_member(&mut self, team_uid: Arc<str>, user: Arc<str>) {
        let known = self.memberships.get(&user).map(|teams| &**teams).unwrap_or_default();
        if known.contains(&team_uid) {
            return;
        }
        let teams = known.iter().chain([&team_uid]).cloned().collect();
        match self.members.get_mut(&team_uid) {
            Some(members) => members.insert_mut(Arc::clone(&user)),
            None => {
                let members = HashTrieSetSync::new_sync().insert(Arc::clone(&user));
                self.members.insert_mut(team_uid, members);
            }
        }
        self.memberships.insert_mut(user, teams);
    }

    /// Without a user in a team by name.
    pub(super) fn remove_member(&mut self, team_uid: &str, user: &str) {
        if let Some(members) = self.members.get_mut(team_uid) {
            members.remove_mut(user);
            if members.is_empty() {
                self.members.remove_mut(team_uid);
            }
        }
        self.leave(team_uid, user);
    }

    /// Without a team among those of a user.
    fn leave(&mut self, team_uid: &str, user: &str) {
        let Some((user, teams)) = self.memberships.get_key_value(user) else {
            return;
        };
        let user = Arc::clone(user);
        let left: Arc<[Arc<str>]> = teams.iter().filter(|team| ***team != *team_uid).cloned().collect();
        if left.is_empty() {
            self.memberships.remove_mut(&user);
        } else {
            self.memberships.insert_mut(user, left);
        }
    }

    /// Must be called after changes: what is cached may be outdated. Older snapshots keep their cache.
    pub(super) fn forget(&mut self) {
        self.remembered = Cache::new(REMEMBERED);
    }

    /// The teams a caller belongs to now. Membership, groups of the token, and whole issuers; a team's token is of that team alone.
    pub(super) fn of(&self, caller: &Caller) -> Arc<CallerTeams> {
        if let Some(known) = self.remembered.get(&caller.subject) {
            return known;
        }
        let teams = Arc::new(match &caller.subject {
            Subject::Team(slug) => self.collect(|_, team| team.slug == *slug),
            Subject::User(user) => {
                let by_name = self.memberships.get(user.id.as_str());
                let by_name = by_name.map(|teams| &**teams).unwrap_or_default();
                self.collect(|uid, team| by_name.contains(uid) || team.takes_in(user))
            }
        });
        self.remembered.insert(caller.subject.clone(), Arc::clone(&teams));
        teams
    }

    fn collect(&self, belongs: impl Fn(&Arc<str>, &Team) -> bool) -> CallerTeams {
        let found = self.by_uid.iter().filter(|(uid, team)| belongs(uid, team));
        let mut teams: Vec<_> = found.map(|(_, team)| (Arc::clone(&team.slug), team.created)).collect();
        teams.sort_unstable();
        CallerTeams(teams)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use service_kit::UserId;

    use super::*;

    fn user(issuer: &str, subject: &str, groups: &[&str]) -> Caller {
        Caller::person(CallerUser {
            id: UserId::of(issuer, subject),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            machine: false,
            admin: false,
        })
    }

    fn team(slug: &str) -> Team {
        Team {
            slug: slug.into(),
            created: SystemTime::UNIX_EPOCH,
            groups: Vec::new(),
            issuers: Vec::new(),
        }
    }

    fn slugs(teams: &Teams, caller: &Caller) -> Vec<String> {
        teams.of(caller).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn members_groups_and_whole_issuers_belong() {
        let mut teams = Teams::default();
        let alice: Arc<str> = UserId::of("idp", "alice").as_str().into();
        teams.put_member("1".into(), Arc::clone(&alice));
        teams.put("1".into(), team("by-name"));
        teams.put(
            "2".into(),
            Team {
                groups: vec![("idp".into(), "eng".into())],
                ..team("by-group")
            },
        );
        teams.put(
            "3".into(),
            Team {
                issuers: vec!["idp".into()],
                ..team("all")
            },
        );
        assert_eq!(
            slugs(&teams, &user("idp", "alice", &["eng"])),
            ["all", "by-group", "by-name"]
        );
        assert_eq!(
            slugs(&teams, &user("idp", "alice", &[])),
            ["all", "by-name"],
            "a gateway token has no groups"
        );
        assert_eq!(slugs(&teams, &user("idp", "bob", &["eng"])), ["all", "by-group"]);
        assert_eq!(
            slugs(&teams, &user("other", "alice", &["eng"])),
            Vec::<String>::new(),
            "a group of another issuer"
        );
        let token = Caller {
            subject: Subject::Team("by-name".into()),
            consumers: None,
            token: None,
            creator: None,
        };
        assert_eq!(slugs(&teams, &token), ["by-name"]);
        let dead = Caller {
            subject: Subject::Team("gone".into()),
            consumers: None,
            token: None,
            creator: None,
        };
        assert_eq!(slugs(&teams, &dead), Vec::<String>::new());
    }

    #[test]
    fn a_change_is_seen_at_once() {
        let mut teams = Teams::default();
        let alice = user("idp", "alice", &[]);
        teams.put("1".into(), team("core"));
        assert_eq!(slugs(&teams, &alice), Vec::<String>::new());
        let before = teams.clone();
        teams.put(
            "1".into(),
            Team {
                issuers: vec!["idp".into()],
                ..team("core")
            },
        );
        teams.forget();
        assert_eq!(slugs(&teams, &alice), ["core"]);
        assert_eq!(
            slugs(&before, &alice),
            Vec::<String>::new(),
            "an older snapshot stays what it was"
        );
        teams.remove("1");
        teams.forget();
        assert_eq!(slugs(&teams, &alice), Vec::<String>::new());
        assert!(!before.of(&alice).contains("core"));
    }

    #[test]
    fn members_come_and_go_and_go_with_their_team() {
        let mut teams = Teams::default();
        let alice = user("idp", "alice", &[]);
        let id: Arc<str> = UserId::of("idp", "alice").as_str().into();
        teams.put("1".into(), team("core"));
        teams.put("2".into(), team("web"));
        for uid in ["1", "1", "2"] {
            teams.put_member(uid.into(), Arc::clone(&id));
        }
        assert_eq!(slugs(&teams, &alice), ["core", "web"]);
        teams.remove_member("1", &id);
        teams.remove_member("1", &id);
        teams.forget();
        assert_eq!(slugs(&teams, &alice), ["web"]);
        teams.remove("2");
        teams.put("2".into(), team("another"));
        teams.forget();
        assert_eq!(
            slugs(&teams, &alice),
            Vec::<String>::new(),
            "nobody said that Alice is in it"
        );
        assert!(teams.memberships.is_empty() && teams.members.is_empty());
    }

    /// Else the writer would walk through the memberships of all teams when one goes.
    #[test]
    fn the_members_of_each_team_are_known_whatever_came_and_went() {
        let mut teams = Teams::default();
        let id = |number: usize| Arc::<str>::from(format!("{number}"));
        let mut left = BTreeSet::new();
        for number in 0..600 {
            let (uid, user) = (id(number % 7), id(number % 50));
            // A team may come after its members, and be replaced.
            teams.put(Arc::clone(&uid), team("t"));
            if number % 3 == 2 {
                teams.remove_member(&uid, &user);
                left.remove(&(uid, user));
            } else {
                teams.put_member(Arc::clone(&uid), Arc::clone(&user));
                left.insert((uid, user));
            }
            if number % 100 == 99 {
                let gone = id(number / 100);
                teams.remove(&gone);
                left.retain(|(team, _)| *team != gone);
            }
            let by_team = teams.members.iter();
            let by_team =
                by_team.flat_map(|(team, users)| users.iter().map(|user| (Arc::clone(team), Arc::clone(user))));
            let by_user = teams.memberships.iter();
            let by_user =
                by_user.flat_map(|(user, teams)| teams.iter().map(|team| (Arc::clone(team), Arc::clone(user))));
            assert_eq!(by_team.collect::<BTreeSet<_>>(), left);
            assert_eq!(by_user.collect::<BTreeSet<_>>(), left);
        }
        assert!(teams.members.iter().all(|(_, users)| !users.is_empty()));
    }
}
