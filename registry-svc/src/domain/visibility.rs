//! Who may see an entry, or see and use a gateway or an agent.

use contracts::registry::{OrganizationAudience, Visibility, visibility::Audience};
use service_kit::status::Violations;

use super::text::{id_in, is_slug};

/// The most teams one visibility names.
const MAX_TEAMS: usize = 64;

/// The whole organization: what holds when nothing is said.
pub(crate) fn organization() -> Visibility {
    Visibility {
        audience: Some(Audience::Organization(OrganizationAudience {})),
    }
}

/// Checks a visibility and makes "unset" explicit. That the teams exist is checked when it is saved.
pub(crate) fn parse(violations: &mut Violations, path: &str, visibility: Option<Visibility>) -> Visibility {
    let Some(mut visibility) = visibility else {
        return organization();
    };
    match &mut visibility.audience {
        None => violations.add(path, "must name an audience: organization, teams or author"),
        Some(Audience::Teams(audience)) => {
            let path = format!("{path}.teams.teams");
            if audience.teams.is_empty() {
                violations.add(path.as_str(), "must name at least one team");
            }
            if audience.teams.len() > MAX_TEAMS {
                violations.add(path.as_str(), format!("must have at most {MAX_TEAMS} elements"));
                return visibility;
            }
            for (index, team) in audience.teams.iter().enumerate() {
                if !id_in("teams", team).is_some_and(is_slug) {
                    violations.add(format!("{path}[{index}]"), "must be a team's name: teams/{team}");
                }
            }
            audience.teams.sort();
            audience.teams.dedup();
        }
        Some(Audience::Organization(_) | Audience::Author(_)) => {}
    }
    visibility
}

/// The names of the teams a visibility is for; none if it is for others.
pub(crate) fn teams(visibility: Option<&Visibility>) -> &[String] {
    match visibility.and_then(|visibility| visibility.audience.as_ref()) {
        Some(Audience::Teams(audience)) => &audience.teams,
        _ => &[],
    }
}

/// The audience of admins, who see all.
pub(crate) const ADMINS: &str = "admin";

/// Who sees what has this visibility and author (`users/{user}`), as the tables of audiences name them. `team_uids` are those of
/// [`teams`]. An audience that this program does not know includes only the author and admins.
pub(crate) fn audiences(visibility: Option<&Visibility>, team_uids: &[String], creator: &str) -> Vec<String> {
    let author = format!("user:{}", creator.trim_start_matches("users/"));
    let mut audiences = match visibility.and_then(|visibility| visibility.audience.as_ref()) {
        Some(Audience::Organization(_)) => vec!["*".to_owned()],
        Some(Audience::Teams(_)) => team_uids
            .iter()
            .map(|uid| format!("team:{uid}"))
            .chain([author])
            .collect(),
        Some(Audience::Author(_)) | None => vec![author],
    };
    audiences.push(ADMINS.to_owned());
    audiences
}

#[cfg(test)]
mod tests {
    use contracts::registry::TeamsAudience;

    use super::*;

    fn for_teams(teams: &[&str]) -> Visibility {
        let teams = teams.iter().map(|&team| team.to_owned()).collect();
        Visibility {
            audience: Some(Audience::Teams(TeamsAudience { teams })),
        }
    }

    #[test]
    fn names_every_bad_team() {
        let mut violations = Violations::new();
        parse(
            &mut violations,
            "entry.visibility",
            Some(for_teams(&["x", "teams/x", "teams/X"])),
        );
        parse(&mut violations, "entry.visibility", Some(for_teams(&[])));
        parse(&mut violations, "entry.visibility", Some(Visibility::default()));
        let fields: Vec<_> = violations.iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "entry.visibility.teams.teams[0]",
                "entry.visibility.teams.teams[2]",
                "entry.visibility.teams.teams",
                "entry.visibility"
            ]
        );
    }

    #[test]
    fn an_unknown_audience_means_the_author_and_admins_alone() {
        let teams = for_teams(&["teams/x"]);
        let of = |visibility: Option<Visibility>| audiences(visibility.as_ref(), &["u".to_owned()], "users/a");
        assert_eq!(of(Some(organization())), ["*", ADMINS]);
        assert_eq!(of(Some(teams)), ["team:u", "user:a", ADMINS]);
        assert_eq!(of(Some(Visibility::default())), ["user:a", ADMINS]);
        assert_eq!(of(None), ["user:a", ADMINS]);
    }
}
