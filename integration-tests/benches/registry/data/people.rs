//! Users, teams and memberships.

use contracts::registry::{Team, TeamMapping, WholeIssuer, team_mapping::Selector};
use integration_tests::Result;
use prost::Message as _;

use super::{Kind, Plan, SCHEMA_VERSION, etag, timestamp};
use crate::database::bulk::{Bulk, row};

/// The team with all users of the issuer.
const EVERYBODY: usize = 0;
/// The team with every fourth user as an individual member.
pub(crate) const LARGE: usize = 1;
/// A team to which [`Plan::member`] belongs through a group in their token. It has few other members.
pub(crate) const OWN: usize = 9;

/// The slug of the n-th team.
pub(crate) fn team_slug(team: usize) -> String {
    format!("team-{team}")
}

/// `teams/{team}`.
pub(crate) fn team_name(team: usize) -> String {
    format!("teams/{}", team_slug(team))
}

/// The group that a team maps, which every other team does.
pub(crate) fn group(team: usize) -> Option<String> {
    (team % 2 == 1).then(|| format!("group-{team}"))
}

/// The teams of which a user is an individual member.
fn teams_of(plan: &Plan, user: usize) -> Vec<usize> {
    let teams = plan.size.teams;
    let mut of = vec![user % teams, (user * 7 + 3) % teams];
    if user.is_multiple_of(4) {
        of.push(LARGE);
    }
    of.sort_unstable();
    of.dedup();
    of
}

pub(super) async fn add(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let (users, teams) = (plan.size.users, plan.size.teams);
    let mut rows = bulk
        .add(
            "users",
            "uid, issuer, subject, email, email_key, display_name, admin, deactivate_time, create_time, registry_revision",
            (0..users).map(|user| {
                let subject = plan.subject(user);
                let email = format!("{subject}@example.com");
                // No user that a figure requires is deactivated.
                let deactivated = user % 100 == 99;
                let time = plan.time(user, users);
                row![
                    plan.user(user),
                    plan.issuer.as_str(),
                    subject.as_str(),
                    email.as_str(),
                    email.as_str(),
                    subject.as_str(),
                    plan.is_admin(user),
                    deactivated.then_some(time),
                    time,
                    if deactivated { plan.next_revision() } else { 0 },
                ]
            }),
        )
        .await?;
    rows += bulk
        .add(
            "teams",
            "uid, slug, members_manage_installations, document, schema_version, create_time, registry_revision",
            (0..teams).map(|team| {
                let uid = plan.uid(Kind::Team, team);
                let (revision, time) = (plan.next_revision(), plan.time(team, teams));
                let message = Team {
                    name: team_name(team),
                    display_name: format!("Team {team}"),
                    mappings: mapping(plan, team).into_iter().collect(),
                    members_manage_installations: Some(team % 2 == 0),
                    etag: etag(&uid, revision),
                    create_time: Some(timestamp(time)),
                    update_time: Some(timestamp(time)),
                    registry_revision: revision,
                    uid: uid.clone(),
                };
                row![
                    uid,
                    team_slug(team),
                    team % 2 == 0,
                    message.encode_to_vec(),
                    SCHEMA_VERSION,
                    time,
                    revision
                ]
            }),
        )
        .await?;
    rows += bulk
        .add(
            "team_mappings",
            "team_uid, issuer, group_name",
            (0..teams).filter_map(|team| {
                let selector = mapping(plan, team)?.selector;
                let group = match selector {
                    Some(Selector::Group(group)) => group,
                    _ => String::new(),
                };
                Some(row![plan.uid(Kind::Team, team), plan.issuer.as_str(), group])
            }),
        )
        .await?;
    let members = (0..users).flat_map(|user| teams_of(plan, user).into_iter().map(move |team| (user, team)));
    rows += bulk
        .add(
            "team_members",
            "team_uid, user_uid, create_time, registry_revision",
            members.map(|(user, team)| {
                row![
                    plan.uid(Kind::Team, team),
                    plan.user(user),
                    plan.time(user, users),
                    plan.next_revision(),
                ]
            }),
        )
        .await?;
    Ok(rows)
}

fn mapping(plan: &Plan, team: usize) -> Option<TeamMapping> {
    let selector = if team == EVERYBODY {
        Selector::WholeIssuer(WholeIssuer {})
    } else {
        Selector::Group(group(team)?)
    };
    Some(TeamMapping {
        issuer: plan.issuer.clone(),
        selector: Some(selector),
    })
}
