//! Who belongs to which teams.

use std::{collections::HashSet, sync::Arc};

use moka::sync::Cache;
use rpds::HashTrieMapSync;

use crate::domain::{Caller, CallerUser, Subject};

/// Callers whose teams are remembered.
const REMEMBERED: u64 = 50_000;

/// A team and whom it takes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    /// The id in `teams/{team}`.
    pub(crate) slug: Arc<str>,
    /// Ids of the users who belong to it by name.
    pub(crate) members: HashSet<String>,
    /// (issuer, group) pairs whose users belong to it.
    pub(crate) groups: Vec<(String, String)>,
    /// Issuers all users of which belong to it.
    pub(crate) issuers: Vec<String>,
}

impl Team {
    fn takes_in(&self, user: &CallerUser) -> bool {
        self.members.contains(user.id.as_str())
            || self.issuers.contains(&user.issuer)
            || self
                .groups
                .iter()
                .any(|(issuer, group)| *issuer == user.issuer && user.groups.contains(group))
    }
}

/// The teams of a caller, by slug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallerTeams(Vec<Arc<str>>);

impl CallerTeams {
    /// Whether the caller belongs to it.
    pub(crate) fn contains(&self, slug: &str) -> bool {
        self.0.binary_search_by(|team| (**team).cmp(slug)).is_ok()
    }

    /// All of them, sorted.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }
}

/// All teams. A change of any makes a new one of these, so that what was remembered is forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Teams {
    by_uid: HashTrieMapSync<Arc<str>, Arc<Team>>,
    remembered: Cache<Arc<CallerUser>, Arc<CallerTeams>>,
}

impl Default for Teams {
    fn default() -> Self {
        Self {
            by_uid: HashTrieMapSync::default(),
            remembered: Cache::new(REMEMBERED),
        }
    }
}

impl Teams {
    /// With one more, or another state of one.
    pub(crate) fn put(&mut self, uid: Arc<str>, team: Team) {
        self.by_uid.insert_mut(uid, Arc::new(team));
        self.remembered = Cache::new(REMEMBERED);
    }

    /// Without one.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.by_uid.remove_mut(uid);
        self.remembered = Cache::new(REMEMBERED);
    }

    /// The teams a caller belongs to now. Membership, groups of the token, and whole issuers; a team's token is of that team alone.
    pub(crate) fn of(&self, caller: &Caller) -> Arc<CallerTeams> {
        match &caller.subject {
            Subject::Team(slug) => Arc::new(self.collect(|team| team.slug == *slug)),
            Subject::User(user) => {
                if let Some(known) = self.remembered.get(user) {
                    return known;
                }
                let teams = Arc::new(self.collect(|team| team.takes_in(user)));
                self.remembered.insert(Arc::clone(user), Arc::clone(&teams));
                teams
            }
        }
    }

    fn collect(&self, belongs: impl Fn(&Team) -> bool) -> CallerTeams {
        let mut slugs: Vec<_> = self
            .by_uid
            .values()
            .filter(|team| belongs(team))
            .map(|team| Arc::clone(&team.slug))
            .collect();
        slugs.sort_unstable();
        CallerTeams(slugs)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::UserId;

    use super::*;

    fn user(issuer: &str, subject: &str, groups: &[&str]) -> Caller {
        Caller::person(CallerUser {
            id: UserId::of(issuer, subject),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            admin: false,
        })
    }

    fn team(slug: &str) -> Team {
        Team {
            slug: slug.into(),
            members: HashSet::new(),
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
        let alice = UserId::of("idp", "alice").as_str().to_owned();
        teams.put(
            "1".into(),
            Team {
                members: [alice].into(),
                ..team("by-name")
            },
        );
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
        };
        assert_eq!(slugs(&teams, &token), ["by-name"]);
        let dead = Caller {
            subject: Subject::Team("gone".into()),
            consumers: None,
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
        assert_eq!(slugs(&teams, &alice), ["core"]);
        assert_eq!(
            slugs(&before, &alice),
            Vec::<String>::new(),
            "an older snapshot stays what it was"
        );
        teams.remove("1");
        assert_eq!(slugs(&teams, &alice), Vec::<String>::new());
        assert!(!before.of(&alice).contains("core"));
    }
}
