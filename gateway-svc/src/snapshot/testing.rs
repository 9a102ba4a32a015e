//! Registry objects for tests, made by hand.

use contracts::registry::{self as pb, ConditionStatus, ConditionType, watched_object::Object};
use service_kit::UserId;

use super::Snapshot;
use crate::domain::{Caller, CallerUser};

pub(crate) const ISSUER: &str = "https://idp.example.com";

pub(crate) fn user_id(subject: &str) -> UserId {
    UserId::of(ISSUER, subject)
}

/// A person with a JWT.
pub(crate) fn person(subject: &str) -> Caller {
    Caller::person(caller_user(subject))
}

pub(crate) fn caller_user(subject: &str) -> CallerUser {
    CallerUser {
        id: user_id(subject),
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        groups: Vec::new(),
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
        Snapshot::from_objects(1, self.objects.clone())
    }

    pub(crate) fn with(mut self, object: pb::WatchedObject) -> Self {
        self.objects.push(object);
        self
    }

    /// An approved remote entry with these tools, seen by everybody.
    pub(crate) fn entry(self, slug: &str, tools: &[&str]) -> Self {
        self.with(entry(pb::Entry { ..plain_entry(slug) }))
            .tools(&format!("e-{slug}"), tools)
    }

    /// The tool set of an entry or installation, with definitions that name their owner.
    pub(crate) fn tools(mut self, owner: &str, tools: &[&str]) -> Self {
        let mut refs = Vec::new();
        for tool in tools {
            let hash = format!("{owner}/{tool}");
            let definition_json =
                format!(r#"{{"name":"{tool}","description":"of {owner}","inputSchema":{{"type":"object"}}}}"#);
            self.objects.push(put(
                &hash,
                Object::ToolDefinition(pb::ToolDefinition {
                    hash: hash.clone(),
                    definition_json,
                }),
            ));
            refs.push(pb::ToolRef {
                tool: (*tool).to_owned(),
                definition_hash: hash,
            });
        }
        self.with(put(
            owner,
            Object::ToolSet(pb::ToolSet {
                owner_uid: owner.to_owned(),
                tools: refs,
            }),
        ))
    }

    /// A gateway for the whole organization.
    pub(crate) fn gateway(self, slug: &str) -> Self {
        self.with(gateway(plain_gateway(slug)))
    }

    /// Assigns a tool of an entry to a gateway, resolved at call time.
    pub(crate) fn assign(self, gateway: &str, entry: &str, tool: &str) -> Self {
        self.with(assignment(gateway, entry, tool, None))
    }

    /// A team with these members.
    pub(crate) fn team(self, slug: &str, members: &[&str]) -> Self {
        self.with(put(
            &format!("t-{slug}"),
            Object::Team(pb::WatchedTeam {
                team: Some(pb::Team {
                    name: format!("teams/{slug}"),
                    uid: format!("t-{slug}"),
                    ..pb::Team::default()
                }),
                members: members.iter().map(|member| user_id(member).resource_name()).collect(),
            }),
        ))
    }

    /// An installation.
    pub(crate) fn install(self, made: Made) -> Self {
        self.with(made.object())
    }
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
    pub(crate) running: Option<pb::Entry>,
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

    pub(crate) fn object(self) -> pb::WatchedObject {
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
        let running_entry = Some(self.running.unwrap_or_else(|| plain_entry(self.entry)));
        put(
            self.uid,
            Object::Installation(pb::WatchedInstallation {
                installation: Some(installation),
                running_entry,
                runtime_endpoint: String::new(),
            }),
        )
    }
}

pub(crate) fn put(key: &str, object: Object) -> pb::WatchedObject {
    pb::WatchedObject {
        key: key.to_owned(),
        object: Some(object),
    }
}

pub(crate) fn plain_entry(slug: &str) -> pb::Entry {
    pb::Entry {
        name: format!("entries/{slug}"),
        uid: format!("e-{slug}"),
        display_name: format!("The {slug}"),
        lifecycle: pb::EntryLifecycle::Approved.into(),
        server: Some(pb::entry::Server::Remote(pb::RemoteServer {
            url: "https://mcp.example.com/mcp".to_owned(),
        })),
        creator: user_id("author").resource_name(),
        ..pb::Entry::default()
    }
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

/// `pinned`: uid of an installation.
pub(crate) fn assignment(gateway: &str, entry: &str, tool: &str, pinned: Option<&str>) -> pb::WatchedObject {
    let uid = format!("a-{gateway}-{entry}-{tool}");
    let binding = pinned.map(|uid| pb::tool_assignment::Binding::PinnedInstallation(format!("installations/{uid}")));
    let tool_assignment = Some(pb::ToolAssignment {
        name: format!("gateways/{gateway}/toolAssignments/{uid}"),
        uid: uid.clone(),
        entry: format!("entries/{entry}"),
        tool: tool.to_owned(),
        binding,
        ..pb::ToolAssignment::default()
    });
    let watched = pb::WatchedToolAssignment {
        tool_assignment,
        consumer_uid: format!("g-{gateway}"),
        entry_uid: format!("e-{entry}"),
    };
    put(&uid, Object::ToolAssignment(watched))
}

pub(crate) fn visible_to_team(team: &str) -> Option<pb::Visibility> {
    let teams = pb::TeamsAudience {
        teams: vec![format!("teams/{team}")],
    };
    Some(pb::Visibility {
        audience: Some(pb::visibility::Audience::Teams(teams)),
    })
}
