//! Who may see an installation, and who may change it.

use contracts::registry::{Installation, installation::Scope};

use crate::domain::{Caller, Error};

/// Whether the caller may see it: their own, one of their teams, any for an admin.
pub(crate) fn sees(caller: &Caller, installation: &Installation) -> bool {
    caller.admin
        || match &installation.scope {
            Some(Scope::User(user)) => *user == caller.name(),
            Some(Scope::Team(team)) => caller.team_named(team).is_some(),
            None => false,
        }
}

/// Requires that the caller may change it: its owner, members of its team where the team lets them, admins.
pub(crate) fn require_manager(caller: &Caller, installation: &Installation) -> Result<(), Error> {
    if caller.admin {
        return Ok(());
    }
    match &installation.scope {
        Some(Scope::User(user)) if *user == caller.name() => Ok(()),
        Some(Scope::Team(team)) => require_team_manager(caller, team),
        _ => Err(Error::Denied {
            what: "only the installation's owner may do this".to_owned(),
            required: "owner",
        }),
    }
}

/// Requires that the caller may decide which secrets it uses and where they go: of a personal installation its owner alone, so that
/// nobody's account is used, or sent elsewhere, by another's decision.
pub(crate) fn require_entruster(caller: &Caller, installation: &Installation) -> Result<(), Error> {
    match &installation.scope {
        Some(Scope::User(user)) if *user != caller.name() => Err(Error::Denied {
            what: "only the owner of a personal installation may enter its secrets and decide where they may go"
                .to_owned(),
            required: "owner",
        }),
        _ => require_manager(caller, installation),
    }
}

/// Requires that the caller may create and change the installations of `teams/{team}`.
pub(crate) fn require_team_manager(caller: &Caller, team: &str) -> Result<(), Error> {
    if caller.admin
        || caller
            .team_named(team)
            .is_some_and(|team| team.members_manage_installations)
    {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!(
            "only admins may change installations of {team}: ask one, or have members_manage_installations set on the team"
        ),
        required: "admin",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::caller::CallerTeam;

    fn of(scope: Scope) -> Installation {
        Installation {
            scope: Some(scope),
            ..Installation::default()
        }
    }

    #[test]
    fn owners_team_members_and_admins() {
        let team = |slug: &str, members_manage_installations| CallerTeam {
            uid: slug.to_owned(),
            slug: slug.to_owned(),
            members_manage_installations,
        };
        let alice = Caller {
            uid: "alice".to_owned(),
            admin: false,
            machine: false,
            teams: vec![team("ops", true), team("dev", false)],
        };
        let admin = Caller {
            uid: "admin".to_owned(),
            admin: true,
            machine: false,
            teams: vec![],
        };
        for (scope, seen, managed) in [
            (Scope::User("users/alice".to_owned()), true, true),
            (Scope::User("users/bob".to_owned()), false, false),
            (Scope::Team("teams/ops".to_owned()), true, true),
            (Scope::Team("teams/dev".to_owned()), true, false),
            (Scope::Team("teams/hr".to_owned()), false, false),
        ] {
            let installation = of(scope);
            assert_eq!(sees(&alice, &installation), seen, "{installation:?}");
            assert_eq!(
                require_manager(&alice, &installation).is_ok(),
                managed,
                "{installation:?}"
            );
            assert_eq!(
                require_entruster(&alice, &installation).is_ok(),
                managed,
                "{installation:?}"
            );
            assert!(sees(&admin, &installation) && require_manager(&admin, &installation).is_ok());
            let personal = matches!(installation.scope, Some(Scope::User(_)));
            assert_eq!(
                require_entruster(&admin, &installation).is_ok(),
                !personal,
                "{installation:?}"
            );
        }
    }
}
