//! Installations, and the runtimes of self-hosted ones.

use std::collections::HashMap;

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, DiscoveredSet, FeatureKind, Installation, InstallationState, Runtime,
    RuntimeState, installation::Scope, runtime,
};
use integration_tests::Result;
use prost::Message as _;

use super::{
    DAY, Kind, Plan, SCHEMA_VERSION, chance,
    entries::{POPULAR, RICH, SECOND},
    etag, people, timestamp,
};
use crate::database::bulk::{Bulk, row};

/// The numbers of installations of [`people::OWN`] and of [`Plan::member`], which come last.
const OF_OWN_TEAM: usize = 60;
const OF_MEMBER: usize = 6;
/// Teams with a lower number only have installations that are named above.
const FIRST_TEAM: usize = 10;
/// The stride that spreads the creation times of consecutive installations.
const STRIDE: usize = 7_919;

/// The owner of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    User(usize),
    Team(usize),
}

impl Plan {
    /// The number of installations of [`POPULAR`].
    pub(crate) fn popular(&self) -> usize {
        self.size.installations / 5
    }

    /// Entry and owner of the n-th installation. No owner has two installations of an entry.
    fn installed(&self, index: usize) -> (usize, Owner) {
        let (users, teams) = (self.size.users, self.size.teams);
        let own = self.size.installations - OF_OWN_TEAM - OF_MEMBER;
        if index >= own + OF_OWN_TEAM {
            return (RICH + 10 + index - own, Owner::User(self.member()));
        }
        if index >= own {
            return (RICH + 1 + index - own, Owner::Team(people::OWN));
        }
        let popular = self.popular();
        let of_users = popular - (popular / 40).min(teams);
        if index < of_users {
            return (POPULAR, Owner::User(index));
        }
        if index < popular {
            return (POPULAR, Owner::Team(index - of_users));
        }
        let index = index - popular;
        let second = self.size.installations / 20;
        if index < second {
            return (SECOND, Owner::User(self.but_member(index * 3 % (users - 1))));
        }
        let index = index - second;
        let entries = self.moving() - RICH;
        let (entry, round) = (RICH + index % entries, index / entries);
        let owner = if (index + round) % 10 == 9 {
            Owner::Team(FIRST_TEAM + (entry * 31 + round * 7) % (teams - FIRST_TEAM))
        } else {
            Owner::User(self.but_member((entry * 7_919 + round * 13) % (users - 1)))
        };
        (entry, owner)
    }

    /// The first installation of an entry other than the two most popular ones, and whether it is a person's.
    pub(super) fn first_installation(&self, entry: usize) -> (usize, bool) {
        let index = self.popular() + self.size.installations / 20 + entry - RICH;
        (index, matches!(self.installed(index).1, Owner::User(_)))
    }

    /// The name of an installation of [`RICH`] that is ready.
    pub(crate) fn installation_of_rich(&self) -> String {
        let entries = self.moving() - RICH;
        let first = self.first_installation(RICH).0;
        let ready = (first..self.size.installations)
            .step_by(entries)
            .find(|&index| state(index) == InstallationState::Ready);
        format!("installations/{}", self.uid(Kind::Installation, ready.unwrap_or(first)))
    }

    /// Skips [`Plan::member`] in the numbers of users.
    fn but_member(&self, user: usize) -> usize {
        user + usize::from(user >= self.member())
    }
}

pub(super) async fn add(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let mut runtimes = Vec::new();
    let mut rows = bulk
        .add(
            "installations",
            "uid, entry_uid, user_uid, team_uid, running_entry_revision, settled_entry_revision, state, document, \
             schema_version, tool_set, create_time, expires, registry_revision",
            (0..plan.size.installations).map(|index| {
                let (entry, owner) = plan.installed(index);
                let (message, time) = make(plan, index, entry, owner);
                if message.state() == InstallationState::Ready && plan.is_self_hosted(entry) {
                    let runtime = runtime(plan, &message);
                    runtimes.push(row![
                        runtime.owner_uid.as_str(),
                        runtime.encode_to_vec(),
                        SCHEMA_VERSION,
                        runtime.registry_revision,
                    ]);
                }
                let (user, team) = match owner {
                    Owner::User(user) => (Some(plan.user(user)), None),
                    Owner::Team(team) => (None, Some(plan.uid(Kind::Team, team))),
                };
                let tool_set = message.discovered.first().map_or("", |set| &set.set_hash);
                row![
                    message.uid.as_str(),
                    message.entry_uid.as_str(),
                    user,
                    team,
                    message.running_entry_revision,
                    message.running_entry_revision,
                    i64::from(message.state),
                    message.encode_to_vec(),
                    SCHEMA_VERSION,
                    tool_set,
                    time,
                    message.expire_time.map(|_| time + DAY),
                    message.registry_revision,
                ]
            }),
        )
        .await?;
    rows += bulk
        .add(
            "runtimes",
            "owner_uid, document, schema_version, registry_revision",
            runtimes,
        )
        .await?;
    Ok(rows)
}

/// Of a hundred, ninety are ready, six have waited for a secret since today, and four require another secret.
fn state(index: usize) -> InstallationState {
    match chance("state", index, 100) {
        0..4 => InstallationState::Failed,
        4..10 => InstallationState::Pending,
        _ => InstallationState::Ready,
    }
}

fn make(plan: &Plan, index: usize, entry: usize, owner: Owner) -> (Installation, i64) {
    let count = plan.size.installations;
    let (uid, revision) = (plan.uid(Kind::Installation, index), plan.next_revision());
    let state = state(index);
    let time = if state == InstallationState::Pending {
        // Recent enough that they do not expire during the benchmark.
        plan.now - DAY / 3 / count as i64 * (index as i64 + 1)
    } else {
        plan.time(index * STRIDE % count, count)
    };
    let made = Some(timestamp(time));
    let condition = |r#type: ConditionType, status: ConditionStatus, reason: &str| Condition {
        r#type: r#type.into(),
        status: status.into(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: i64::from(status != ConditionStatus::Unknown),
        transition_time: made,
    };
    let (credential, reason) = match state {
        InstallationState::Ready => (ConditionStatus::True, "STORED"),
        InstallationState::Pending => (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
        _ => (ConditionStatus::False, "CREDENTIAL_REJECTED"),
    };
    let ready = state == InstallationState::Ready;
    let follows = |r#type, reason| match ready {
        true => condition(r#type, ConditionStatus::True, reason),
        false => condition(r#type, ConditionStatus::Unknown, "NOT_REPORTED"),
    };
    let mut conditions = vec![condition(ConditionType::CredentialReady, credential, reason)];
    if plan.is_self_hosted(entry) {
        conditions.push(follows(ConditionType::RuntimeReady, "RUNNING"));
    }
    conditions.push(follows(ConditionType::ToolsDiscovered, "DISCOVERED"));
    let (scope, creator) = match owner {
        Owner::User(user) => {
            let name = format!("users/{}", plan.user(user));
            (Scope::User(name.clone()), name)
        }
        Owner::Team(team) => (Scope::Team(people::team_name(team)), plan.creator()),
    };
    let entry_revision = plan.entry_revisions(entry);
    let message = Installation {
        name: format!("installations/{uid}"),
        entry: plan.entry_name(entry),
        entry_uid: plan.uid(Kind::Entry, entry),
        scope: Some(scope),
        values: HashMap::from([("region".to_owned(), "eu-central-1".to_owned())]),
        created_entry_revision: entry_revision,
        running_entry_revision: entry_revision,
        generation: 1,
        credential_generation: i64::from(state != InstallationState::Pending),
        conditions,
        state: state.into(),
        first_ready_time: made.filter(|_| state != InstallationState::Pending),
        etag: etag(&uid, revision),
        create_time: made,
        update_time: made,
        creator,
        expire_time: (state == InstallationState::Pending).then(|| timestamp(time + DAY)),
        registry_revision: revision,
        discovered: Vec::from_iter(ready.then(|| DiscoveredSet {
            kind: FeatureKind::Tool.into(),
            set_hash: plan.set(entry).hash.clone(),
            ..DiscoveredSet::default()
        })),
        uid,
        ..Installation::default()
    };
    (message, time)
}

fn runtime(plan: &Plan, installation: &Installation) -> Runtime {
    Runtime {
        owner_uid: installation.uid.clone(),
        owner: Some(runtime::Owner::Installation(installation.name.clone())),
        state: RuntimeState::Running.into(),
        reason: "RUNNING".to_owned(),
        endpoint: format!("unix:/run/chandlery/{}.sock", installation.uid),
        spec_digest: etag(&installation.uid, 0),
        replicas: 1,
        ready_replicas: 1,
        observed_generation: 1,
        transition_time: installation.create_time,
        registry_revision: plan.next_revision(),
        ..Runtime::default()
    }
}
