//! Who calls, and what follows from that.

use contracts::registry::{Visibility, visibility::Audience};

use super::{Actor, Error};

/// A person as the registry knows them at this moment.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The id in `users/{user}`.
    pub(crate) uid: String,
    /// Whether configuration makes them an admin.
    pub(crate) admin: bool,
    /// Whether it is a program, which has nothing of its own.
    pub(crate) machine: bool,
    /// By name, by a group, or as one of a whole issuer.
    pub(crate) teams: Vec<CallerTeam>,
}

/// A team the caller belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallerTeam {
    /// Its uid.
    pub(crate) uid: String,
    /// Its slug.
    pub(crate) slug: String,
    /// Whether its members may make, change and delete its installations.
    pub(crate) members_manage_installations: bool,
}

impl Caller {
    /// `users/{user}`.
    pub(crate) fn name(&self) -> String {
        format!("users/{}", self.uid)
    }

    /// The caller as one who makes changes.
    pub(crate) fn actor(&self) -> Actor {
        Actor::User(self.uid.clone())
    }

    /// The caller's team with this uid.
    pub(crate) fn team(&self, uid: &str) -> Option<&CallerTeam> {
        self.teams.iter().find(|team| team.uid == uid)
    }

    /// The caller's team named `teams/{slug}`.
    pub(crate) fn team_named(&self, name: &str) -> Option<&CallerTeam> {
        let slug = name.strip_prefix("teams/")?;
        self.teams.iter().find(|team| team.slug == slug)
    }

    /// Whether they may see what has this audience and author (`users/{user}`).
    pub(crate) fn sees(&self, visibility: Option<&Visibility>, creator: &str) -> bool {
        if self.admin || creator == self.name() {
            return true;
        }
        match visibility.and_then(|visibility| visibility.audience.as_ref()) {
            Some(Audience::Organization(_)) => true,
            Some(Audience::Teams(audience)) => audience.teams.iter().any(|name| self.team_named(name).is_some()),
            // An audience that is not known here includes nobody: what a newer version restricts must not be open.
            Some(Audience::Author(_)) | None => false,
        }
    }

    /// Requires an admin.
    pub(crate) fn require_admin(&self) -> Result<(), Error> {
        if self.admin {
            Ok(())
        } else {
            Err(Error::Denied {
                what: "only an admin may do this".to_owned(),
                required: "admin",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{AuthorAudience, OrganizationAudience, TeamsAudience};

    use super::*;

    #[test]
    fn sees_what_is_for_them() {
        let team = CallerTeam {
            uid: "t".to_owned(),
            slug: "ops".to_owned(),
            members_manage_installations: false,
        };
        let alice = Caller {
            uid: "alice".to_owned(),
            admin: false,
            machine: false,
            teams: vec![team],
        };
        let teams = |name: &str| Visibility {
            audience: Some(Audience::Teams(TeamsAudience {
                teams: vec![name.to_owned()],
            })),
        };
        let author = Visibility {
            audience: Some(Audience::Author(AuthorAudience {})),
        };
        assert!(!alice.sees(None, "users/bob"), "an unknown audience is nobody");
        let organization = Visibility {
            audience: Some(Audience::Organization(OrganizationAudience {})),
        };
        assert!(alice.sees(Some(&organization), "users/bob"));
        assert!(alice.sees(Some(&teams("teams/ops")), "users/bob"));
        assert!(!alice.sees(Some(&teams("teams/dev")), "users/bob"));
        assert!(!alice.sees(Some(&author), "users/bob"));
        assert!(alice.sees(Some(&author), "users/alice"));
        assert!(Caller { admin: true, ..alice }.sees(Some(&author), "users/bob"));
    }
}
