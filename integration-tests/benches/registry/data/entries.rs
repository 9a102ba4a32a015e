//! Entries, their revisions, and the index rows by which entries are found.

use std::collections::{BTreeSet, HashMap};

use contracts::registry::{
    BearerHeader, DiscoveredSet, Entry, EntryLifecycle, EntryRevision, EnvironmentVariableTarget, FeatureKind,
    HeaderTarget, Injection, InstallField, InstallFieldSource, InstallFieldType, NoCredential, RemoteServer,
    SelfHostedServer, StaticCredential, StdioTransport, entry, entry_revision, injection, install_field,
    self_hosted_server,
};
use integration_tests::Result;
use prost::Message as _;

use super::{Kind, Plan, SCHEMA_VERSION, audiences, chance, etag, timestamp, visibility};
use crate::database::bulk::{Bulk, Value, row};

/// The entry with a fifth of all installations.
pub(crate) const POPULAR: usize = 0;
/// The entry with a twentieth of all installations.
pub(super) const SECOND: usize = 1;
/// The entry with many revisions and many tools.
pub(crate) const RICH: usize = 2;
/// More than one page of each.
const RICH_REVISIONS: i64 = 60;
pub(super) const RICH_TOOLS: usize = 60;
/// The number of tools of [`Plan::moving`].
pub(crate) const MOVING_TOOLS: usize = 20;
/// The number of values of the label `area`, by which automatic gateways select tools.
pub(super) const AREAS: usize = 50;
/// The label by which some automatic gateways select the tools of [`Plan::moving`] and nothing else.
pub(crate) const MOVING_LABEL: (&str, &str) = ("moves", "here");

const COMMON: [&str; 40] = [
    "server",
    "search",
    "read",
    "write",
    "issues",
    "documents",
    "calendar",
    "mail",
    "files",
    "records",
    "reports",
    "tickets",
    "customers",
    "orders",
    "invoices",
    "metrics",
    "alerts",
    "deployments",
    "builds",
    "tests",
    "releases",
    "branches",
    "reviews",
    "comments",
    "labels",
    "projects",
    "teams",
    "people",
    "contacts",
    "meetings",
    "rooms",
    "budgets",
    "contracts",
    "vendors",
    "assets",
    "devices",
    "networks",
    "certificates",
    "domains",
    "backups",
];
const THINGS: [&str; 16] = [
    "tracker",
    "wiki",
    "mailbox",
    "drive",
    "calendar",
    "billing",
    "metrics",
    "pipeline",
    "inventory",
    "directory",
    "warehouse",
    "notebook",
    "registry",
    "planner",
    "archive",
    "console",
];

impl Plan {
    /// The newest twentieth of the entries are drafts.
    pub(super) fn is_draft(&self, entry: usize) -> bool {
        entry > self.moving()
    }

    /// The entry that moves between gateways when its label changes.
    pub(crate) fn moving(&self) -> usize {
        self.size.entries - self.size.entries / 20 - 1
    }

    fn lifecycle(&self, entry: usize) -> EntryLifecycle {
        if self.is_draft(entry) {
            EntryLifecycle::Draft
        } else if entry % 20 == 7 && entry != self.moving() {
            EntryLifecycle::Deprecated
        } else {
            EntryLifecycle::Approved
        }
    }

    /// The slug of the n-th entry.
    pub(crate) fn entry_slug(&self, entry: usize) -> String {
        format!("{}-{entry}", THINGS[entry % THINGS.len()])
    }

    /// `entries/{entry}`.
    pub(crate) fn entry_name(&self, entry: usize) -> String {
        format!("entries/{}", self.entry_slug(entry))
    }

    /// Whether everybody can install the entry, and no figure changes it.
    pub(crate) fn is_for_everybody(&self, entry: usize) -> bool {
        entry > RICH
            && entry != self.moving()
            && self.lifecycle(entry) == EntryLifecycle::Approved
            && chance("entry", entry, 10) < 7
    }

    /// The value of the entry's label `area`.
    pub(super) fn area(&self, entry: usize) -> Option<usize> {
        (entry < self.moving()).then_some(entry % AREAS)
    }

    pub(super) fn is_self_hosted(&self, entry: usize) -> bool {
        entry > RICH && entry != self.moving() && entry % 10 > 6
    }

    pub(super) fn entry_revisions(&self, entry: usize) -> i64 {
        match entry {
            RICH => RICH_REVISIONS,
            _ => 1 + (entry % 3) as i64,
        }
    }
}

pub(super) async fn add(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let mut found_by = FoundBy::default();
    let mut revisions = Vec::new();
    let entries = (0..plan.size.entries).map(|index| {
        let (entry, teams) = make(plan, index);
        let time = plan.time(index, plan.size.entries);
        found_by.add(plan, &entry, &teams, time);
        for number in 1..=entry.entry_revision {
            revisions.push(row![
                entry.uid.as_str(),
                number,
                revision(&entry, number).encode_to_vec(),
                SCHEMA_VERSION,
                number == entry.entry_revision,
            ]);
        }
        row![
            entry.uid.as_str(),
            plan.entry_slug(index),
            entry.entry_revision,
            i64::from(entry.lifecycle),
            entry.encode_to_vec(),
            SCHEMA_VERSION,
            plan.set(index).hash.as_str(),
            time,
            entry.registry_revision,
        ]
    });
    let mut rows = bulk
        .add(
            "entries",
            "uid, slug, entry_revision, lifecycle, document, schema_version, tool_set, create_time, registry_revision",
            entries,
        )
        .await?;
    rows += bulk
        .add(
            "entry_revisions",
            "entry_uid, number, document, schema_version, in_use",
            revisions,
        )
        .await?;
    rows += bulk
        .add(
            "entry_audiences",
            "audience, lifecycle, create_time, entry_uid",
            found_by.audiences,
        )
        .await?;
    rows += bulk
        .add(
            "entry_labels",
            "audience, label_key, label_value, create_time, entry_uid",
            found_by.labels,
        )
        .await?;
    rows += bulk
        .add("entry_words", "word, create_time, entry_uid", found_by.words)
        .await?;
    Ok(rows)
}

#[derive(Default)]
struct FoundBy {
    audiences: Vec<Vec<Value>>,
    labels: Vec<Vec<Value>>,
    words: Vec<Vec<Value>>,
}

impl FoundBy {
    fn add(&mut self, plan: &Plan, entry: &Entry, teams: &[usize], time: i64) {
        let uid = entry.uid.as_str();
        for audience in audiences(plan, entry.visibility.as_ref().unwrap_or(&Default::default()), teams) {
            for (key, value) in &entry.labels {
                self.labels
                    .push(row![audience.as_str(), key.as_str(), value.as_str(), time, uid]);
            }
            self.audiences
                .push(row![audience, i64::from(entry.lifecycle), time, uid]);
        }
        let slug = entry.name.trim_start_matches("entries/");
        // Like `domain/entry/search.rs` of registry-svc, for texts of short ASCII words.
        let words: BTreeSet<String> = [slug, &entry.display_name, &entry.description]
            .into_iter()
            .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        self.words.extend(
            words
                .into_iter()
                .map(|word| row![Value::Bytes(word.into_bytes()), time, uid]),
        );
    }
}

/// The n-th entry, and the teams that can see it.
fn make(plan: &Plan, index: usize) -> (Entry, Vec<usize>) {
    let (uid, revision) = (plan.uid(Kind::Entry, index), plan.next_revision());
    let time = Some(timestamp(plan.time(index, plan.size.entries)));
    let (visibility, teams) = if index <= RICH {
        // Visible to all, like most popular entries.
        let all = Some(contracts::registry::visibility::Audience::Organization(
            Default::default(),
        ));
        (contracts::registry::Visibility { audience: all }, Vec::new())
    } else {
        visibility(plan, "entry", index)
    };
    let set = plan.set(index);
    let has_secret = index <= SECOND || index % 2 == 1;
    let mut install_fields = vec![region(plan.is_self_hosted(index))];
    if has_secret {
        install_fields.push(secret());
    }
    let thing = THINGS[index % THINGS.len()];
    let entry = Entry {
        name: plan.entry_name(index),
        etag: etag(&uid, revision),
        uid,
        display_name: format!("The {thing} of department {index}"),
        description: description(index),
        instructions: "Ask the owner of the system for access first; what you see there is what your tools see here. "
            .repeat(3),
        icon_url: format!("https://static.example.com/icons/{thing}.png"),
        docs_url: format!("https://docs.example.com/{thing}/{index}"),
        version: format!("1.{}.0", index % 40),
        labels: labels(plan, index),
        visibility: Some(visibility),
        lifecycle: plan.lifecycle(index).into(),
        server: Some(server(plan, index)),
        credential_model: Some(if has_secret && !plan.is_self_hosted(index) {
            entry::CredentialModel::StaticCredential(StaticCredential {
                field: "token".to_owned(),
                injection: Some(Injection {
                    kind: Some(injection::Kind::Bearer(BearerHeader {})),
                }),
            })
        } else {
            entry::CredentialModel::NoCredential(NoCredential {})
        }),
        install_fields: if plan.is_self_hosted(index) {
            install_fields.into_iter().map(into_environment).collect()
        } else {
            install_fields
        },
        entry_revision: plan.entry_revisions(index),
        create_time: time,
        update_time: time,
        creator: plan.creator(),
        updater: plan.creator(),
        registry_revision: revision,
        discovered: Vec::from_iter((!set.hash.is_empty()).then(|| DiscoveredSet {
            kind: FeatureKind::Tool.into(),
            set_hash: set.hash.clone(),
            ..DiscoveredSet::default()
        })),
        ..Entry::default()
    };
    (entry, teams)
}

/// Twelve words that many entries have, and twelve that few have.
fn description(index: usize) -> String {
    let common = (0..12).map(|n| COMMON[chance("common", index * 16 + n, COMMON.len())].to_owned());
    let rare = (0..12).map(|n| format!("term{}", chance("rare", index * 16 + n, 2_000)));
    let words: Vec<_> = std::iter::once("A server for".to_owned())
        .chain(common)
        .chain(rare)
        .collect();
    words.join(" ")
}

fn labels(plan: &Plan, index: usize) -> HashMap<String, String> {
    let env = if index.is_multiple_of(5) { "dev" } else { "prod" };
    let mut labels = HashMap::from([
        ("env".to_owned(), env.to_owned()),
        ("owner".to_owned(), format!("team-{}", index % plan.size.teams)),
    ]);
    if let Some(area) = plan.area(index) {
        labels.insert("area".to_owned(), format!("area-{area}"));
    }
    labels
}

fn server(plan: &Plan, index: usize) -> entry::Server {
    if plan.is_self_hosted(index) {
        entry::Server::SelfHosted(SelfHostedServer {
            command: "npx".to_owned(),
            arguments: vec![
                "-y".to_owned(),
                format!("@example/mcp-server-{index}@1.0.{}", index % 40),
            ],
            environment: HashMap::from([("LOG_LEVEL".to_owned(), "info".to_owned())]),
            transport: Some(self_hosted_server::Transport::Stdio(StdioTransport::default())),
            ..SelfHostedServer::default()
        })
    } else {
        entry::Server::Remote(RemoteServer {
            url: format!("https://mcp-{index}.example.com/mcp"),
            ..RemoteServer::default()
        })
    }
}

fn region(self_hosted: bool) -> InstallField {
    InstallField {
        key: "region".to_owned(),
        title: "Region".to_owned(),
        description: "Where your records are.".to_owned(),
        r#type: InstallFieldType::String.into(),
        default_value: "eu-west-1".to_owned(),
        source: InstallFieldSource::Prompted.into(),
        target: (!self_hosted).then(|| {
            install_field::Target::Header(HeaderTarget {
                name: "x-region".to_owned(),
            })
        }),
        ..InstallField::default()
    }
}

fn secret() -> InstallField {
    InstallField {
        key: "token".to_owned(),
        title: "Token".to_owned(),
        description: "From your settings, under access tokens.".to_owned(),
        r#type: InstallFieldType::Secret.into(),
        required: true,
        source: InstallFieldSource::Prompted.into(),
        ..InstallField::default()
    }
}

/// Changes a field to one of a self-hosted server.
fn into_environment(field: InstallField) -> InstallField {
    let name = field.key.to_uppercase();
    InstallField {
        target: Some(install_field::Target::EnvironmentVariable(EnvironmentVariableTarget {
            name,
        })),
        ..field
    }
}

/// A revision of an entry. Earlier revisions have another path.
fn revision(entry: &Entry, number: i64) -> EntryRevision {
    let current = number == entry.entry_revision;
    EntryRevision {
        name: format!("{}/revisions/{number}", entry.name),
        entry_uid: entry.uid.clone(),
        number,
        server: entry.server.clone().map(|server| match server {
            entry::Server::Remote(mut remote) => {
                if !current {
                    remote.url.push_str(&format!("/v{number}"));
                }
                entry_revision::Server::Remote(remote)
            }
            entry::Server::SelfHosted(mut server) => {
                if !current {
                    server.arguments.push(format!("--compatibility={number}"));
                }
                entry_revision::Server::SelfHosted(server)
            }
        }),
        credential_model: entry
            .credential_model
            .clone()
            .map(registry_model::credential_models::of_entry),
        install_fields: entry.install_fields.clone(),
        additional_headers: entry.additional_headers.clone(),
        version: entry.version.clone(),
        create_time: entry.create_time,
        creator: entry.creator.clone(),
    }
}
