//! From the registry's messages to the words of a call. `None` where the registry sends what it should not: such an object is
//! logged and left out, and nothing else suffers.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::SystemTime};

use contracts::registry::{
    self as pb, AssignmentMode, ConditionStatus, ConditionType, EntryLifecycle, InstallFieldSource, InstallFieldType,
    additional_header, entry::CredentialModel, entry::Server, gateway_token, install_field, installation, team_mapping,
    tool_assignment, visibility,
};
use registry_client::destination;
use service_kit::UserId;

use super::{
    state::{GatewayToken, ToolSet},
    teams::Team,
};
use crate::{
    domain::{
        Aspect, Audience, Caller, CallerUser, ConditionState, Consumer, ConsumerKind, ConsumerRef, Endpoint, Entry,
        Installation, Lifecycle, Owner, Subject,
    },
    route::Assignment,
};

/// An entry at its current revision.
pub(super) fn entry(entry: &pb::Entry) -> Option<Entry> {
    let slug: Arc<str> = id(&entry.name, "entries")?.into();
    let display_name = if entry.display_name.is_empty() {
        Arc::clone(&slug)
    } else {
        entry.display_name.as_str().into()
    };
    Some(Entry {
        uid: entry.uid.as_str().into(),
        display_name,
        slug,
        labels: labels(&entry.labels),
        audience: audience(entry.visibility.as_ref(), &entry.creator),
        lifecycle: match entry.lifecycle() {
            EntryLifecycle::Approved => Lifecycle::Approved,
            EntryLifecycle::Deprecated => Lifecycle::Deprecated,
            EntryLifecycle::Draft | EntryLifecycle::Unspecified => Lifecycle::Draft,
        },
        deleted: entry.delete_time.is_some(),
    })
}

/// An installation and what it runs.
pub(crate) fn installation(watched: &pb::WatchedInstallation) -> Option<Installation> {
    let made = watched.installation.as_ref()?;
    let running = watched.running_entry.as_ref()?;
    let owner = match made.scope.as_ref()? {
        installation::Scope::User(user) => Owner::User(UserId::parse(id(user, "users")?)?),
        installation::Scope::Team(team) => Owner::Team(id(team, "teams")?.into()),
    };
    let aspect = |kind| aspect(&made.conditions, kind);
    Some(Installation {
        uid: made.uid.as_str().into(),
        entry_uid: made.entry_uid.as_str().into(),
        entry: id(&made.entry, "entries")?.into(),
        owner,
        generation: made.generation,
        credential_generation: made.credential_generation,
        endpoint: endpoint(running, &watched.runtime_endpoint),
        destination: destination::of_entry(running).map(Into::into),
        vends_headers: vends_headers(running),
        fixed_headers: fixed_headers(running, &made.values),
        self_hosted: matches!(running.server, Some(Server::SelfHosted(_))),
        credential: aspect(ConditionType::CredentialReady),
        runtime: aspect(ConditionType::RuntimeReady),
        tools: aspect(ConditionType::ToolsDiscovered),
        once_ready: made.first_ready_time.is_some(),
        created: made
            .create_time
            .and_then(|time| SystemTime::try_from(time).ok())
            .unwrap_or(SystemTime::UNIX_EPOCH),
        deleted: made.delete_time.is_some(),
    })
}

/// A gateway.
pub(super) fn gateway(gateway: pb::Gateway) -> Option<Consumer> {
    let slug = id(&gateway.name, "gateways")?;
    Some(Consumer {
        name: ConsumerRef::new(ConsumerKind::Gateway, slug),
        uid: gateway.uid.as_str().into(),
        display_name: if gateway.display_name.is_empty() {
            slug.to_owned()
        } else {
            gateway.display_name.clone()
        },
        description: gateway.description.clone(),
        labels: labels(&gateway.labels),
        automatic: gateway.assignment_mode() == AssignmentMode::Automatic,
        audience: audience(gateway.visibility.as_ref(), &gateway.creator),
        passthrough_headers: gateway
            .passthrough_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        omit_entry_prefix: gateway.omit_entry_prefix,
    })
}

/// An agent.
pub(super) fn agent(agent: pb::Agent) -> Option<Consumer> {
    let slug = id(&agent.name, "agents")?;
    Some(Consumer {
        name: ConsumerRef::new(ConsumerKind::Agent, slug),
        uid: agent.uid.as_str().into(),
        display_name: if agent.display_name.is_empty() {
            slug.to_owned()
        } else {
            agent.display_name.clone()
        },
        description: agent.description.clone(),
        labels: labels(&agent.labels),
        automatic: agent.assignment_mode() == AssignmentMode::Automatic,
        audience: audience(agent.visibility.as_ref(), &agent.creator),
        passthrough_headers: agent
            .passthrough_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        omit_entry_prefix: agent.omit_entry_prefix,
    })
}

/// A tool assignment and its parent.
pub(super) fn assignment(watched: &pb::WatchedToolAssignment) -> Option<Assignment> {
    let assignment = watched.tool_assignment.as_ref()?;
    let pinned = match &assignment.binding {
        Some(tool_assignment::Binding::PinnedInstallation(name)) => Some(id(name, "installations")?.into()),
        Some(tool_assignment::Binding::ResolveAtCallTime(_)) | None => None,
    };
    Some(Assignment {
        uid: assignment.uid.as_str().into(),
        consumer_uid: watched.consumer_uid.as_str().into(),
        entry_uid: watched.entry_uid.as_str().into(),
        tool: assignment.tool.as_str().into(),
        pinned,
        exposed_name: (!assignment.exposed_name.is_empty()).then(|| assignment.exposed_name.as_str().into()),
    })
}

/// A team and its members.
pub(super) fn team(watched: &pb::WatchedTeam) -> Option<(Arc<str>, Team)> {
    let team = watched.team.as_ref()?;
    let (mut groups, mut issuers) = (Vec::new(), Vec::new());
    for mapping in &team.mappings {
        match &mapping.selector {
            Some(team_mapping::Selector::Group(group)) => groups.push((mapping.issuer.clone(), group.clone())),
            Some(team_mapping::Selector::WholeIssuer(_)) => issuers.push(mapping.issuer.clone()),
            None => {}
        }
    }
    let members = watched
        .members
        .iter()
        .filter_map(|user| id(user, "users"))
        .map(str::to_owned)
        .collect();
    Some((
        team.uid.as_str().into(),
        Team {
            slug: id(&team.name, "teams")?.into(),
            members,
            groups,
            issuers,
        },
    ))
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
                admin: false,
            }))
        }
        gateway_token::Subject::Team(team) => Subject::Team(id(team, "teams")?.into()),
    };
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
            caller: Caller { subject, consumers },
            expires,
        },
    ))
}

/// Which tools an entry or an installation has.
pub(super) fn tool_set(set: &pb::ToolSet) -> ToolSet {
    ToolSet::new(
        set.tools
            .iter()
            .map(|tool| (tool.tool.as_str().into(), tool.definition_hash.as_str().into())),
    )
}

/// The id in `collection/{id}`.
pub(super) fn id<'a>(name: &'a str, collection: &str) -> Option<&'a str> {
    let id = name.strip_prefix(collection)?.strip_prefix('/')?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

fn labels(labels: &HashMap<String, String>) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn audience(visibility: Option<&pb::Visibility>, creator: &str) -> Audience {
    let author = id(creator, "users").map(str::to_owned);
    let (organization, teams) = match visibility.and_then(|visibility| visibility.audience.as_ref()) {
        None | Some(visibility::Audience::Organization(_)) => (true, Vec::new()),
        Some(visibility::Audience::Teams(teams)) => (
            false,
            teams
                .teams
                .iter()
                .filter_map(|team| id(team, "teams"))
                .map(Into::into)
                .collect(),
        ),
        Some(visibility::Audience::Author(_)) => (false, Vec::new()),
    };
    Audience {
        organization,
        teams,
        author,
    }
}

fn aspect(conditions: &[pb::Condition], kind: ConditionType) -> Aspect {
    let Some(condition) = conditions.iter().find(|condition| condition.r#type() == kind) else {
        return Aspect::default();
    };
    Aspect {
        status: match condition.status() {
            ConditionStatus::True => ConditionState::True,
            ConditionStatus::False => ConditionState::False,
            ConditionStatus::Unknown | ConditionStatus::Unspecified => ConditionState::Unknown,
        },
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: condition.observed_generation,
    }
}

fn endpoint(running: &pb::Entry, runtime_endpoint: &str) -> Option<Endpoint> {
    match running.server.as_ref()? {
        Server::Remote(remote) => remote.url.parse().ok().map(Endpoint::Remote),
        Server::SelfHosted(_) => match runtime_endpoint.strip_prefix("unix:") {
            Some(path) => Some(Endpoint::Socket(path.into())),
            None => runtime_endpoint.parse().ok().map(Endpoint::Runtime),
        },
    }
}

fn is_secret(field: &pb::InstallField) -> bool {
    matches!(field.r#type(), InstallFieldType::Secret | InstallFieldType::File)
}

fn vends_headers(running: &pb::Entry) -> bool {
    let primary = match &running.credential_model {
        Some(CredentialModel::StaticCredential(credential)) => !credential.field.is_empty(),
        Some(CredentialModel::NoCredential(_)) | None => false,
    };
    let in_header =
        |field: &pb::InstallField| is_secret(field) && matches!(field.target, Some(install_field::Target::Header(_)));
    primary || running.install_fields.iter().any(in_header)
}

fn fixed_headers(running: &pb::Entry, values: &HashMap<String, String>) -> Vec<(String, String)> {
    let value = |field: &pb::InstallField| -> Option<String> {
        if is_secret(field) {
            return None;
        }
        let value = match field.source() {
            InstallFieldSource::Stored => Some(&field.stored_value),
            InstallFieldSource::Prompted | InstallFieldSource::Unspecified => values.get(&field.key),
        };
        let value = value.filter(|value| !value.is_empty()).unwrap_or(&field.default_value);
        (!value.is_empty()).then(|| value.clone())
    };
    let additional = running.additional_headers.iter().filter_map(|header| {
        let value = match header.source.as_ref()? {
            additional_header::Source::Value(value) => value.clone(),
            additional_header::Source::Field(key) => {
                value(running.install_fields.iter().find(|field| field.key == *key)?)?
            }
        };
        Some((header.name.clone(), value))
    });
    let fields = running.install_fields.iter().filter_map(|field| match &field.target {
        Some(install_field::Target::Header(target)) => Some((target.name.clone(), value(field)?)),
        _ => None,
    });
    additional.chain(fields).collect()
}
