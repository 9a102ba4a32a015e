//! From the registry's messages to domain types. `None` where the registry sends what it should not: such an object is
//! logged and left out, without effect on others.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use contracts::registry::{
    self as pb, AssignmentMode, ConditionStatus, ConditionType, EntryLifecycle, FeatureKind, RuntimeState, ToolListing,
    gateway_token, installation, team_mapping, tool_assignment, visibility,
};
use registry_model::destination::ValuesByOthers;
use service_kit::UserId;

use super::{strings::Strings, teams::Team};
use crate::{
    domain::{
        Audience, Caller, CallerUser, Condition, ConditionState, Consumer, ConsumerKind, ConsumerRef, Endpoint, Entry,
        GatewayToken, Installation, Labels, Lifecycle, Owner, Runtime, Subject, ToolSet,
    },
    route::{Assignment, Consent, Pinned},
};

/// An entry, without what its installations run.
pub(super) fn entry(entry: &pb::Entry, strings: &mut Strings) -> Option<Entry> {
    let slug = strings.get(id(&entry.name, "entries")?);
    let display_name = if entry.display_name.is_empty() {
        Arc::clone(&slug)
    } else {
        entry.display_name.as_str().into()
    };
    let credential = condition(&entry.conditions, ConditionType::CredentialReady);
    Some(Entry {
        uid: strings.get(&entry.uid),
        display_name,
        slug,
        labels: labels(&entry.labels, &entry.label_revisions, strings),
        audience: audience(entry.visibility.as_ref(), &entry.creator, strings),
        lifecycle: match entry.lifecycle() {
            EntryLifecycle::Approved => Lifecycle::Approved,
            EntryLifecycle::Deprecated => Lifecycle::Deprecated,
            EntryLifecycle::Draft | EntryLifecycle::Unspecified => Lifecycle::Draft,
        },
        tools: tools(&entry.discovered, strings),
        tools_since: tools_of(&entry.discovered)
            .map(|set| set.since_revisions.as_slice().into())
            .unwrap_or_default(),
        credential: credential.map(|condition| condition_of(condition, strings)),
        credential_generation: entry.credential_generation,
        deleted: entry.delete_time.is_some(),
    })
}

/// An installation.
pub(super) fn installation(made: &pb::Installation, strings: &mut Strings) -> Option<Installation> {
    let owner = match made.scope.as_ref()? {
        installation::Scope::User(user) => Owner::User(strings.get(UserId::parse(id(user, "users")?)?.as_str())),
        installation::Scope::Team(team) => Owner::Team(strings.get(id(team, "teams")?)),
    };
    let discovered = condition(&made.conditions, ConditionType::ToolsDiscovered)
        .filter(|condition| condition.status() == ConditionStatus::True)
        .map(|condition| condition.observed_generation);
    let mut reported = |kind| {
        let condition = condition(&made.conditions, kind);
        condition_of(condition.unwrap_or(&pb::Condition::default()), strings)
    };
    Some(Installation {
        uid: made.uid.as_str().into(),
        credential: reported(ConditionType::CredentialReady),
        runtime: reported(ConditionType::RuntimeReady),
        held: made.reinstall_required.is_some(),
        entry_uid: strings.get(&made.entry_uid),
        owner,
        revision: made.running_entry_revision,
        generation: made.generation,
        credential_generation: made.credential_generation,
        values: made
            .values
            .iter()
            .map(|(key, value)| (strings.get(key), value.as_str().into()))
            .collect(),
        foreign: ValuesByOthers::of(made),
        discovered,
        tools: tools(&made.discovered, strings),
        once_ready: made.first_ready_time.is_some(),
        created: time(made.create_time),
        deleted: made.delete_time.is_some(),
    })
}

/// What runs a server.
pub(super) fn runtime(runtime: &pb::Runtime) -> Runtime {
    // Of an installation, its condition says that.
    let is_shared = matches!(runtime.owner, Some(pb::runtime::Owner::Entry(_)));
    let ready = is_shared.then(|| Condition {
        status: match runtime.state() {
            RuntimeState::Running => ConditionState::True,
            RuntimeState::Failed => ConditionState::False,
            RuntimeState::Pending | RuntimeState::Unspecified => ConditionState::Unknown,
        },
        reason: runtime.reason.as_str().into(),
        message: runtime.message.as_str().into(),
    });
    Runtime {
        endpoint: (!runtime.endpoint.is_empty()).then(|| Endpoint::Hosted(runtime.endpoint.as_str().into())),
        tool_list_changes: runtime.tool_list_changes,
        revision: runtime.observed_generation,
        ready: ready.map(Arc::new),
    }
}

/// A gateway.
pub(super) fn gateway(gateway: &pb::Gateway, strings: &mut Strings) -> Option<Consumer> {
    let slug = id(&gateway.name, "gateways")?;
    Some(Consumer {
        name: ConsumerRef::new(ConsumerKind::Gateway, slug),
        uid: strings.get(&gateway.uid),
        display_name: if gateway.display_name.is_empty() {
            slug.to_owned()
        } else {
            gateway.display_name.clone()
        },
        description: gateway.description.clone(),
        labels: labels(&gateway.labels, &gateway.label_revisions, strings),
        automatic: gateway.assignment_mode() == AssignmentMode::Automatic,
        audience: audience(gateway.visibility.as_ref(), &gateway.creator, strings),
        passthrough_headers: gateway
            .passthrough_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        omit_entry_prefix: gateway.omit_entry_prefix(),
        searched: gateway.tool_listing() == ToolListing::Search,
        tokens_only: gateway.tokens_only(),
    })
}

/// An agent.
pub(super) fn agent(agent: &pb::Agent, strings: &mut Strings) -> Option<Consumer> {
    let slug = id(&agent.name, "agents")?;
    Some(Consumer {
        name: ConsumerRef::new(ConsumerKind::Agent, slug),
        uid: strings.get(&agent.uid),
        display_name: if agent.display_name.is_empty() {
            slug.to_owned()
        } else {
            agent.display_name.clone()
        },
        description: agent.description.clone(),
        labels: labels(&agent.labels, &agent.label_revisions, strings),
        automatic: agent.assignment_mode() == AssignmentMode::Automatic,
        audience: audience(agent.visibility.as_ref(), &agent.creator, strings),
        passthrough_headers: agent
            .passthrough_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        omit_entry_prefix: agent.omit_entry_prefix(),
        searched: agent.tool_listing() == ToolListing::Search,
        tokens_only: agent.tokens_only(),
    })
}

/// A tool assignment, with the uid of its gateway or agent.
pub(super) fn assignment(assignment: &pb::ToolAssignment, strings: &mut Strings) -> Option<(Arc<str>, Assignment)> {
    let tool = match assignment.selection.as_ref()? {
        tool_assignment::Selection::Tool(tool) => Some(strings.get(tool)),
        tool_assignment::Selection::AllTools(_) => None,
    };
    let pinned = match &assignment.binding {
        Some(tool_assignment::Binding::PinnedInstallation(name)) => Some(Arc::new(Pinned {
            installation: id(name, "installations")?.into(),
            consented: assignment.consented_visibility.as_ref().map(|visibility| Consent {
                to: audience(Some(visibility), "", strings),
                at: time(assignment.consent_time),
            }),
        })),
        Some(tool_assignment::Binding::ResolveAtCallTime(_)) | None => None,
    };
    let made = Assignment {
        since: assignment.create_revision,
        entry_uid: strings.get(&assignment.entry_uid),
        tool,
        pinned,
        exposed_name: (!assignment.exposed_name.is_empty()).then(|| assignment.exposed_name.as_str().into()),
    };
    Some((strings.get(&assignment.consumer_uid), made))
}

/// Whether it assigns tools; what this version does not know is left out.
pub(super) fn assigns_tools(assignment: &pb::ToolAssignment) -> bool {
    matches!(
        FeatureKind::try_from(assignment.kind),
        Ok(FeatureKind::Tool | FeatureKind::Unspecified)
    )
}

/// A team, without its members by name.
pub(super) fn team(team: &pb::Team, strings: &mut Strings) -> Option<Team> {
    let (mut groups, mut issuers) = (Vec::new(), Vec::new());
    for mapping in &team.mappings {
        match &mapping.selector {
            Some(team_mapping::Selector::Group(group)) => groups.push((mapping.issuer.clone(), group.clone())),
            Some(team_mapping::Selector::WholeIssuer(_)) => issuers.push(mapping.issuer.clone()),
            None => {}
        }
    }
    Some(Team {
        slug: strings.get(id(&team.name, "teams")?),
        created: time(team.create_time),
        groups,
        issuers,
    })
}

/// A gateway token and its hash.
pub(super) fn gateway_token(watched: &pb::WatchedGatewayToken) -> Option<([u8; 32], GatewayToken)> {
    let token = watched.gateway_token.as_ref()?;
    let subject = match token.subject.as_ref()? {
        gateway_token::Subject::User(user) => {
            let user_id = UserId::of(&watched.issuer, &watched.subject);
            // The hash of what the registry names must be whom it names.
            if id(user, "users")? != user_id.as_str() {
                return None;
            }
            Subject::User(Arc::new(CallerUser {
                id: user_id,
                issuer: watched.issuer.clone(),
                subject: watched.subject.clone(),
                groups: Vec::new(),
                machine: false,
                admin: false,
            }))
        }
        gateway_token::Subject::Team(team) => Subject::Team(id(team, "teams")?.into()),
    };
    let creator = matches!(subject, Subject::Team(_)).then(|| token.creator.as_str());
    let consumers = if token.consumers.is_empty() {
        None
    } else {
        // A name that is not understood limits the token further, it does not free it.
        Some(
            token
                .consumers
                .iter()
                .filter_map(|name| ConsumerRef::parse(name))
                .collect(),
        )
    };
    let expires = match token.expire_time {
        Some(time) => Some(SystemTime::try_from(time).ok()?),
        None => None,
    };
    let hash = watched.token_hash.as_slice().try_into().ok()?;
    Some((
        hash,
        GatewayToken {
            name: token.name.as_str().into(),
            caller: Caller {
                subject,
                consumers,
                token: None,
                creator: creator.filter(|creator| !creator.is_empty()).map(Arc::from),
            },
            expires,
        },
    ))
}

/// A set of tools; `None` if it is of something else.
pub(super) fn tool_set(set: &pb::FeatureSet, strings: &mut Strings) -> Option<ToolSet> {
    is_tool(set.kind).then(|| {
        let features = set.features.iter();
        features
            .map(|tool| (strings.get(&tool.name), strings.get(&tool.definition_hash)))
            .collect()
    })
}

/// Hash of the set of tools among what was discovered.
fn tools(discovered: &[pb::DiscoveredSet], strings: &mut Strings) -> Option<Arc<str>> {
    Some(strings.get(&tools_of(discovered)?.set_hash))
}

fn tools_of(discovered: &[pb::DiscoveredSet]) -> Option<&pb::DiscoveredSet> {
    discovered.iter().find(|set| is_tool(set.kind))
}

fn is_tool(kind: i32) -> bool {
    FeatureKind::try_from(kind) == Ok(FeatureKind::Tool)
}

/// The id in `collection/{id}`.
pub(super) fn id<'a>(name: &'a str, collection: &str) -> Option<&'a str> {
    let id = name.strip_prefix(collection)?.strip_prefix('/')?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

fn labels(labels: &HashMap<String, String>, since: &HashMap<String, i64>, strings: &mut Strings) -> Labels {
    let since = |key| since.get(key).copied().unwrap_or_default();
    labels
        .iter()
        .map(|(key, value)| ((strings.get(key), strings.get(value)), since(key)))
        .collect()
}

/// The whole organization where no visibility is given; only the author and admins where it is not understood.
fn audience(visibility: Option<&pb::Visibility>, creator: &str, strings: &mut Strings) -> Audience {
    let author = id(creator, "users").map(|id| strings.get(id));
    let (organization, teams) = match visibility.map(|visibility| &visibility.audience) {
        None | Some(Some(visibility::Audience::Organization(_))) => (true, Box::default()),
        Some(Some(visibility::Audience::Teams(teams))) => {
            let teams = teams.teams.iter().filter_map(|team| id(team, "teams"));
            (false, teams.map(|team| strings.get(team)).collect())
        }
        Some(Some(visibility::Audience::Author(_)) | None) => (false, Box::default()),
    };
    Audience {
        organization,
        teams,
        author,
    }
}

/// Long ago where none is given.
fn time(time: Option<prost_types::Timestamp>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(time).ok())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn condition(conditions: &[pb::Condition], kind: ConditionType) -> Option<&pb::Condition> {
    conditions.iter().find(|condition| condition.r#type() == kind)
}

fn condition_of(condition: &pb::Condition, strings: &mut Strings) -> Condition {
    Condition {
        status: match condition.status() {
            ConditionStatus::True => ConditionState::True,
            ConditionStatus::False => ConditionState::False,
            ConditionStatus::Unknown | ConditionStatus::Unspecified => ConditionState::Unknown,
        },
        reason: strings.get(&condition.reason),
        message: condition.message.as_str().into(),
    }
}
