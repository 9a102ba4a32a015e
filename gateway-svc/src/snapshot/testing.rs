//! Registry objects for tests, made by hand.

use std::{sync::Arc, time::SystemTime};

use contracts::registry::{
    self as pb, ConditionStatus, ConditionType,
    entry_revision::{CredentialModel, Server},
    tool_assignment::{Binding, Selection},
    watched_object::Object,
};
use registry_client::watch::Sink as _;
use service_kit::{User, UserId};

use super::{Feed, Snapshot, writer::Writer};
use crate::domain::{Caller, CallerUser, Running};

pub(crate) const ISSUER: &str = "https://idp.example.com";

pub(crate) fn user_id(subject: &str) -> UserId {
    UserId::of(ISSUER, subject)
}

/// A person with a JWT.
pub(crate) fn person(subject: &str) -> Caller {
    Caller::person(caller_user(subject))
}

/// A person with this JWT.
pub(crate) fn person_with(subject: &str, token: &str, expires_at: SystemTime) -> Caller {
    let CallerUser {
        id,
        issuer,
        subject,
        groups,
        machine,
        admin,
    } = caller_user(subject);
    let user = User {
        id,
        machine,
        issuer,
        subject,
        audiences: vec!["chandlery".to_owned()],
        email: None,
        display_name: None,
        groups,
        admin,
        expires_at,
    };
    Caller::from_user(Arc::new(user), token, service_kit::identity::Use::Call)
}

pub(crate) fn caller_user(subject: &str) -> CallerUser {
    CallerUser {
        id: user_id(subject),
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        groups: Vec::new(),
        machine: false,
        admin: false,
    }
}

/// A registry that a test puts together. Uids are slugs with a prefix: `e-time` is the entry `time`.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    pub(crate) objects: Vec<pb::WatchedObject>,
}

impl Registry {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.writer().snapshot(1).0
    }

    /// A writer with all objects, before its first snapshot.
    pub(crate) fn writer(&self) -> Writer {
        let mut writer = Writer::default();
        for object in self.objects.clone() {
            writer.put(object);
        }
        writer
    }

    /// What an installation runs.
    pub(crate) fn running(&self, uid: &str) -> Running {
        let snapshot = self.snapshot();
        snapshot.running(snapshot.installation(uid).unwrap()).unwrap()
    }

    pub(crate) fn with(mut self, object: pb::WatchedObject) -> Self {
        self.objects.push(object);
        self
    }

    /// An approved remote entry with these tools, seen by everybody.
    pub(crate) fn entry(self, slug: &str, tools: &[&str]) -> Self {
        self.with(entry(plain_entry(slug))).tools(&format!("e-{slug}"), tools)
    }

    /// Says what the entry or installation of this uid was discovered to have, with definitions that name it.
    pub(crate) fn tools(mut self, owner: &str, tools: &[&str]) -> Self {
        let (set, mut objects) = discovered(owner, tools);
        let known = self.objects.iter_mut().rev().find(|object| object.key == owner);
        match known
            .and_then(|known| known.object.as_mut())
            .expect("the owner comes first")
        {
            Object::Entry(entry) => entry.discovered = vec![set],
            Object::Installation(installation) => installation.discovered = vec![set],
            other => panic!("{other:?}"),
        }
        objects.append(&mut self.objects);
        Self { objects }
    }

    /// A gateway for the whole organization.
    pub(crate) fn gateway(self, slug: &str) -> Self {
        self.with(gateway(plain_gateway(slug)))
    }

    /// Assigns a tool of an entry to a gateway, resolved at call time. `*`: all of them.
    pub(crate) fn assign(self, gateway: &str, entry: &str, tool: &str) -> Self {
        self.with(assignment(plain_assignment(gateway, entry, tool, None)))
    }

    /// A team with these members.
    pub(crate) fn team(self, slug: &str, members: &[&str]) -> Self {
        self.team_created(slug, members, 0)
    }

    /// A team of these members that was created so many seconds after 1970.
    pub(crate) fn team_created(mut self, slug: &str, members: &[&str], seconds: i64) -> Self {
        let team = pb::Team {
            name: format!("teams/{slug}"),
            uid: format!("t-{slug}"),
            create_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..pb::Team::default()
        };
        self.objects.push(put(&team.uid.clone(), Object::Team(team)));
        self.objects
            .extend(members.iter().map(|member| team_member(slug, member)));
        self
    }

    /// An installation, and the entry revision it runs.
    pub(crate) fn install(mut self, made: Made) -> Self {
        self.objects.extend([made.revision(), made.object()]);
        self
    }
}

/// A set of tools with definitions that name their owner, and the objects it is made of.
pub(crate) fn discovered(owner: &str, tools: &[&str]) -> (pb::DiscoveredSet, Vec<pb::WatchedObject>) {
    let hash = |tool: &&str| format!("{owner}/{tool}");
    let definition = |tool: &&str| {
        let definition = pb::FeatureDefinition {
            hash: hash(tool),
            definition_json: format!(
                r#"{{"name":"{tool}","description":"of {owner}","inputSchema":{{"type":"object"}}}}"#
            ),
        };
        put(&definition.hash.clone(), Object::FeatureDefinition(definition))
    };
    let feature = |tool: &&str| pb::FeatureRef {
        name: (*tool).to_owned(),
        definition_hash: hash(tool),
    };
    let set = pb::FeatureSet {
        hash: format!("{owner}: {}", tools.join(" ")),
        kind: pb::FeatureKind::Tool.into(),
        features: tools.iter().map(feature).collect(),
    };
    let of = pb::DiscoveredSet {
        kind: pb::FeatureKind::Tool.into(),
        set_hash: set.hash.clone(),
        ..pb::DiscoveredSet::default()
    };
    let mut objects: Vec<_> = tools.iter().map(definition).collect();
    objects.push(put(&of.set_hash, Object::FeatureSet(set)));
    (of, objects)
}

/// Fills a feed with a whole snapshot.
pub(crate) async fn fill(feed: &mut Feed, revision: i64, objects: Vec<pb::WatchedObject>) {
    feed.snapshot_begin();
    feed.snapshot_objects(objects).await;
    feed.snapshot_end(revision).await;
}

/// An installation to be made: by default one that is ready.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) uid: &'static str,
    pub(crate) entry: &'static str,
    /// `alice`, or `team:core`.
    pub(crate) owner: &'static str,
    pub(crate) once_ready: bool,
    pub(crate) created: i64,
    pub(crate) deleted: bool,
    pub(crate) credential: (ConditionStatus, &'static str),
    pub(crate) tools: ConditionStatus,
    pub(crate) running: Option<pb::EntryRevision>,
}

impl Made {
    pub(crate) fn new(uid: &'static str, entry: &'static str, owner: &'static str) -> Self {
        Self {
            uid,
            entry,
            owner,
            once_ready: true,
            created: 1000,
            deleted: false,
            credential: (ConditionStatus::True, "READY"),
            tools: ConditionStatus::True,
            running: None,
        }
    }

    /// The entry revision it runs.
    pub(crate) fn revision(&self) -> pb::WatchedObject {
        revision(self.running.clone().unwrap_or_else(|| plain_revision(self.entry)))
    }

    /// The installation alone.
    pub(crate) fn object(&self) -> pb::WatchedObject {
        let time = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        let condition = |kind: ConditionType, status: ConditionStatus, reason: &str| pb::Condition {
            r#type: kind.into(),
            status: status.into(),
            reason: reason.to_owned(),
            observed_generation: 1,
            ..pb::Condition::default()
        };
        let scope = match self.owner.strip_prefix("team:") {
            Some(team) => pb::installation::Scope::Team(format!("teams/{team}")),
            None => pb::installation::Scope::User(user_id(self.owner).resource_name()),
        };
        let installation = pb::Installation {
            name: format!("installations/{}", self.uid),
            uid: self.uid.to_owned(),
            entry: format!("entries/{}", self.entry),
            entry_uid: format!("e-{}", self.entry),
            scope: Some(scope),
            running_entry_revision: self.running.as_ref().map_or(1, |revision| revision.number),
            generation: 1,
            credential_generation: 1,
            conditions: vec![
                condition(ConditionType::CredentialReady, self.credential.0, self.credential.1),
                condition(ConditionType::ToolsDiscovered, self.tools, "DISCOVERED"),
            ],
            first_ready_time: self.once_ready.then(|| time(self.created + 1)),
            create_time: Some(time(self.created)),
            delete_time: self.deleted.then(|| time(self.created + 2)),
            ..pb::Installation::default()
        };
        put(self.uid, Object::Installation(installation))
    }
}

pub(crate) fn put(key: &str, object: Object) -> pb::WatchedObject {
    pb::WatchedObject {
        key: key.to_owned(),
        object: Some(object),
    }
}

/// An object that came or changed.
pub(crate) fn put_change(object: pb::WatchedObject) -> pb::Change {
    pb::Change {
        change: Some(pb::change::Change::Put(object)),
    }
}

/// An object that went.
pub(crate) fn removal(kind: pb::ObjectKind, key: &str) -> pb::Change {
    let removal = pb::Removal {
        kind: kind.into(),
        key: key.to_owned(),
    };
    pb::Change {
        change: Some(pb::change::Change::Remove(removal)),
    }
}

pub(crate) fn plain_entry(slug: &str) -> pb::Entry {
    pb::Entry {
        name: format!("entries/{slug}"),
        uid: format!("e-{slug}"),
        display_name: format!("The {slug}"),
        lifecycle: pb::EntryLifecycle::Approved.into(),
        creator: user_id("author").resource_name(),
        ..pb::Entry::default()
    }
}

/// The first revision of an entry, a remote server without credential.
pub(crate) fn plain_revision(slug: &str) -> pb::EntryRevision {
    pb::EntryRevision {
        entry_uid: format!("e-{slug}"),
        number: 1,
        server: Some(Server::Remote(pb::RemoteServer {
            url: "https://mcp.example.com/mcp".to_owned(),
            ..pb::RemoteServer::default()
        })),
        credential_model: Some(CredentialModel::NoCredential(pb::NoCredential {})),
        ..pb::EntryRevision::default()
    }
}

/// Sent as a bearer token.
pub(crate) fn bearer() -> pb::Injection {
    pb::Injection {
        kind: Some(pb::injection::Kind::Bearer(pb::BearerHeader {})),
    }
}

/// A target for an install field.
pub(crate) fn to_header(name: &str) -> pb::install_field::Target {
    pb::install_field::Target::Header(pb::HeaderTarget { name: name.to_owned() })
}

/// The first revision of an entry, a self-hosted server without credential.
pub(crate) fn hosted_revision(slug: &str) -> pb::EntryRevision {
    pb::EntryRevision {
        server: Some(Server::SelfHosted(pb::SelfHostedServer {
            command: "x".to_owned(),
            transport: Some(pb::self_hosted_server::Transport::Stdio(pb::StdioTransport::default())),
            ..pb::SelfHostedServer::default()
        })),
        ..plain_revision(slug)
    }
}

/// A revision of an entry whose installations share the server; `argument` distinguishes what it runs.
pub(crate) fn shared_revision(slug: &str, number: i64, argument: &str) -> pb::EntryRevision {
    let transport = pb::StreamableHttpTransport {
        tenancy: pb::Tenancy::Shared.into(),
        ..pb::StreamableHttpTransport::default()
    };
    pb::EntryRevision {
        number,
        server: Some(Server::SelfHosted(pb::SelfHostedServer {
            command: "x".to_owned(),
            arguments: vec![argument.to_owned()],
            transport: Some(pb::self_hosted_server::Transport::StreamableHttp(transport)),
            ..pb::SelfHostedServer::default()
        })),
        ..plain_revision(slug)
    }
}

/// The server that the installations of an entry share, which runs this revision; without an endpoint, it is being started.
pub(crate) fn shared_runtime(slug: &str, revision: i64, endpoint: &str) -> pb::WatchedObject {
    let state = match endpoint {
        "" => pb::RuntimeState::Pending,
        _ => pb::RuntimeState::Running,
    };
    let owner_uid = format!("e-{slug}");
    let runtime = pb::Runtime {
        owner: Some(pb::runtime::Owner::Entry(format!("entries/{slug}"))),
        state: state.into(),
        endpoint: endpoint.to_owned(),
        observed_generation: revision,
        owner_uid: owner_uid.clone(),
        ..pb::Runtime::default()
    };
    put(&owner_uid, Object::Runtime(runtime))
}

pub(crate) fn revision(revision: pb::EntryRevision) -> pb::WatchedObject {
    let key = format!("{}/{}", revision.entry_uid, revision.number);
    put(&key, Object::EntryRevision(revision))
}

/// `owner`: uid of an installation.
pub(crate) fn runtime(owner: &str, endpoint: &str) -> pb::WatchedObject {
    let runtime = pb::Runtime {
        owner_uid: owner.to_owned(),
        endpoint: endpoint.to_owned(),
        ..pb::Runtime::default()
    };
    put(owner, Object::Runtime(runtime))
}

pub(crate) fn team_member(slug: &str, member: &str) -> pb::WatchedObject {
    let user = user_id(member);
    let key = format!("t-{slug}/{user}");
    let team_uid = format!("t-{slug}");
    let user = user.resource_name();
    put(&key, Object::TeamMember(pb::WatchedTeamMember { team_uid, user }))
}

/// `CREDENTIAL_READY` of an entry.
pub(crate) fn entry_credential(status: ConditionStatus, reason: &str) -> Vec<pb::Condition> {
    vec![pb::Condition {
        r#type: ConditionType::CredentialReady.into(),
        status: status.into(),
        reason: reason.to_owned(),
        ..pb::Condition::default()
    }]
}

pub(crate) fn entry(entry: pb::Entry) -> pb::WatchedObject {
    put(&entry.uid.clone(), Object::Entry(entry))
}

pub(crate) fn plain_gateway(slug: &str) -> pb::Gateway {
    pb::Gateway {
        name: format!("gateways/{slug}"),
        uid: format!("g-{slug}"),
        creator: user_id("author").resource_name(),
        ..pb::Gateway::default()
    }
}

pub(crate) fn gateway(gateway: pb::Gateway) -> pb::WatchedObject {
    put(&gateway.uid.clone(), Object::Gateway(gateway))
}

/// `tool`: `*` for all tools. `pinned`: uid of an installation.
pub(crate) fn plain_assignment(gateway: &str, entry: &str, tool: &str, pinned: Option<&str>) -> pb::ToolAssignment {
    let uid = format!("a-{gateway}-{entry}-{tool}");
    let selection = match tool {
        "*" => Selection::AllTools(pb::AllTools {}),
        tool => Selection::Tool(tool.to_owned()),
    };
    pb::ToolAssignment {
        name: format!("gateways/{gateway}/toolAssignments/{uid}"),
        uid,
        entry: format!("entries/{entry}"),
        entry_uid: format!("e-{entry}"),
        consumer_uid: format!("g-{gateway}"),
        kind: pb::FeatureKind::Tool.into(),
        selection: Some(selection),
        binding: pinned.map(|uid| Binding::PinnedInstallation(format!("installations/{uid}"))),
        ..pb::ToolAssignment::default()
    }
}

pub(crate) fn assignment(assignment: pb::ToolAssignment) -> pb::WatchedObject {
    put(&assignment.uid.clone(), Object::ToolAssignment(assignment))
}

pub(crate) fn visible_to_team(team: &str) -> Option<pb::Visibility> {
    let teams = pb::TeamsAudience {
        teams: vec![format!("teams/{team}")],
    };
    Some(pb::Visibility {
        audience: Some(pb::visibility::Audience::Teams(teams)),
    })
}
