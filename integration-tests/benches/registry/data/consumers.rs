//! Gateways, agents, the tools assigned to them, and gateway tokens.

use std::collections::HashMap;

use contracts::registry::{
    Agent, AssignmentMode, FeatureKind, Gateway, GatewayToken, OrganizationAudience, ResolveAtCallTime, ToolAssignment,
    ToolListing, Visibility, WatchedGatewayToken, gateway_token,
    tool_assignment::{Binding, Selection},
    visibility::Audience,
};
use integration_tests::Result;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    Kind, Plan, SCHEMA_VERSION, audiences,
    entries::{AREAS, MOVING_LABEL, RICH},
    etag, people, timestamp, visibility,
};
use crate::database::bulk::{Bulk, row};

/// The number of gateway tokens of [`Plan::member`].
const OF_MEMBER: usize = 5;
/// `ConsumerKind` in registry-svc.
const GATEWAY: i64 = 1;
const AGENT: i64 = 2;

impl Plan {
    /// Every other gateway selects tools by labels.
    fn is_automatic(gateway: usize) -> bool {
        gateway % 2 == 1
    }

    /// The last tenth of the gateways, if automatic, selects only the label [`MOVING_LABEL`].
    fn waits_for_moving(&self, gateway: usize) -> bool {
        Self::is_automatic(gateway) && gateway >= self.size.gateways - self.size.gateways / 10
    }

    /// The area whose tools an automatic gateway selects.
    fn area_of(&self, gateway: usize) -> Option<usize> {
        (Self::is_automatic(gateway) && !self.waits_for_moving(gateway)).then_some(gateway / 2 % AREAS)
    }

    /// The names of the gateways that get the tools of [`Plan::moving`] through its label.
    pub(crate) fn moved_to(&self) -> Vec<String> {
        let waiting = (0..self.size.gateways).filter(|&gateway| self.waits_for_moving(gateway));
        waiting.map(gateway_name).collect()
    }

    /// The number of tools that automatic gateways have.
    pub(super) fn derived(&self) -> usize {
        let mut tools = [0; AREAS];
        for entry in 0..self.size.entries {
            if let Some(area) = self.area(entry) {
                tools[area] += self.set(entry).features.len();
            }
        }
        let areas = (0..self.size.gateways).filter_map(|gateway| self.area_of(gateway));
        areas.map(|area| tools[area]).sum()
    }

    /// The number of tools that are assigned individually.
    pub(super) fn explicit(&self) -> usize {
        self.size.assigned_tools.saturating_sub(self.derived())
    }

    /// The entry of a gateway's n-th assignment, and the index of the tool in it.
    fn assigned(&self, gateway: usize, index: usize) -> (usize, usize) {
        const FROM_EACH: usize = 10;
        let entries = self.moving() - RICH - 1;
        (
            RICH + 1 + (gateway * 113 + index / FROM_EACH) % entries,
            index % FROM_EACH,
        )
    }
}

/// `gateways/{gateway}`.
pub(crate) fn gateway_name(gateway: usize) -> String {
    format!("gateways/gateway-{gateway}")
}

pub(super) async fn add(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    Ok(add_consumers(plan, bulk).await? + add_assignments(plan, bulk).await? + add_tokens(plan, bulk).await?)
}

async fn add_consumers(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let (gateways, agents) = (plan.size.gateways, plan.size.agents);
    let all = || {
        let gateways = (0..gateways).map(|index| (GATEWAY, index, plan.uid(Kind::Gateway, index)));
        gateways.chain((0..agents).map(|index| (AGENT, index, plan.uid(Kind::Agent, index))))
    };
    let of = |kind| if kind == GATEWAY { gateways } else { agents };
    let mut rows = bulk
        .add(
            "consumers",
            "uid, kind, slug, document, schema_version, create_time, registry_revision",
            all().map(|(kind, index, uid)| {
                let (revision, time) = (plan.next_revision(), plan.time(index, of(kind)));
                let gateway = gateway(plan, kind, index, &uid, revision, time);
                let (collection, document) = match kind {
                    GATEWAY => ("gateways/", gateway.encode_to_vec()),
                    _ => ("agents/", agent(&gateway).encode_to_vec()),
                };
                let slug = gateway.name.trim_start_matches(collection);
                row![uid, kind, slug, document, SCHEMA_VERSION, time, revision]
            }),
        )
        .await?;
    rows += bulk
        .add(
            "consumer_audiences",
            "kind, audience, create_time, consumer_uid",
            all().flat_map(|(kind, index, uid)| {
                let (visibility, teams) = seen_by(plan, kind, index);
                let time = plan.time(index, of(kind));
                audiences(plan, &visibility, &teams)
                    .into_iter()
                    .map(move |audience| row![kind, audience, time, uid.as_str()])
            }),
        )
        .await?;
    Ok(rows)
}

fn seen_by(plan: &Plan, kind: i64, index: usize) -> (Visibility, Vec<usize>) {
    if kind == GATEWAY && index == 0 {
        // Everybody can list its assignments.
        return (organization(), Vec::new());
    }
    visibility(plan, if kind == GATEWAY { "gateway" } else { "agent" }, index)
}

fn organization() -> Visibility {
    Visibility {
        audience: Some(Audience::Organization(OrganizationAudience {})),
    }
}

fn gateway(plan: &Plan, kind: i64, index: usize, uid: &str, revision: i64, time: i64) -> Gateway {
    let mut labels = HashMap::from([("owner".to_owned(), format!("unit-{}", index % 20))]);
    let mut mode = AssignmentMode::Manual;
    if kind == GATEWAY && Plan::is_automatic(index) {
        mode = AssignmentMode::Automatic;
        let (key, value) = match plan.area_of(index) {
            Some(area) => ("area", format!("area-{area}")),
            None => (MOVING_LABEL.0, MOVING_LABEL.1.to_owned()),
        };
        labels.insert(key.to_owned(), value);
    }
    Gateway {
        name: match kind {
            GATEWAY => gateway_name(index),
            _ => format!("agents/agent-{index}"),
        },
        uid: uid.to_owned(),
        display_name: format!("For department {index}"),
        description: "The tools that this department's assistants work with.".to_owned(),
        labels,
        assignment_mode: mode.into(),
        visibility: Some(seen_by(plan, kind, index).0),
        passthrough_headers: vec!["x-request-id".to_owned()],
        omit_entry_prefix: Some(false),
        tokens_only: Some(false),
        tool_listing: ToolListing::All.into(),
        etag: etag(uid, revision),
        create_time: Some(timestamp(time)),
        update_time: Some(timestamp(time)),
        creator: plan.creator(),
        registry_revision: revision,
        label_revisions: HashMap::new(),
    }
}

fn agent(gateway: &Gateway) -> Agent {
    let gateway = gateway.clone();
    Agent {
        name: gateway.name,
        uid: gateway.uid,
        display_name: gateway.display_name,
        description: gateway.description,
        labels: gateway.labels,
        assignment_mode: gateway.assignment_mode,
        visibility: gateway.visibility,
        passthrough_headers: gateway.passthrough_headers,
        omit_entry_prefix: gateway.omit_entry_prefix,
        tokens_only: gateway.tokens_only,
        tool_listing: gateway.tool_listing,
        etag: gateway.etag,
        create_time: gateway.create_time,
        update_time: gateway.update_time,
        creator: gateway.creator,
        registry_revision: gateway.registry_revision,
        label_revisions: gateway.label_revisions,
    }
}

async fn add_assignments(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let manual: Vec<usize> = (0..plan.size.gateways)
        .filter(|&one| !Plan::is_automatic(one))
        .collect();
    let count = plan.explicit();
    bulk.add(
        "tool_assignments",
        "uid, consumer_uid, entry_uid, kind, tool, pinned_uid, exposed_name, document, schema_version, create_time, \
         registry_revision",
        (0..count).map(|index| {
            let gateway = manual[index % manual.len()];
            let (entry, tool) = plan.assigned(gateway, index / manual.len());
            let message = assignment(plan, index, count, gateway, entry, tool);
            let Some(Selection::Tool(tool)) = &message.selection else {
                unreachable!("each is of one tool")
            };
            let pinned = match &message.binding {
                Some(Binding::PinnedInstallation(name)) => name.trim_start_matches("installations/"),
                _ => "",
            };
            row![
                message.uid.as_str(),
                message.consumer_uid.as_str(),
                message.entry_uid.as_str(),
                i64::from(message.kind),
                tool.as_str(),
                pinned,
                "",
                message.encode_to_vec(),
                SCHEMA_VERSION,
                plan.time(index, count),
                message.registry_revision,
            ]
        }),
    )
    .await
}

/// One of twenty is pinned to an installation.
fn assignment(plan: &Plan, index: usize, of: usize, gateway: usize, entry: usize, tool: usize) -> ToolAssignment {
    let (uid, revision) = (plan.uid(Kind::Assignment, index), plan.next_revision());
    let time = Some(timestamp(plan.time(index, of)));
    let mut binding = Binding::ResolveAtCallTime(ResolveAtCallTime {});
    let mut consented_visibility = None;
    if index.is_multiple_of(20) {
        let (installation, personal) = plan.first_installation(entry);
        binding = Binding::PinnedInstallation(format!("installations/{}", plan.uid(Kind::Installation, installation)));
        consented_visibility = personal.then(organization);
    }
    ToolAssignment {
        name: format!("{}/toolAssignments/{uid}", gateway_name(gateway)),
        entry: plan.entry_name(entry),
        selection: Some(Selection::Tool(plan.set(entry).features[tool].name.clone())),
        binding: Some(binding),
        etag: etag(&uid, revision),
        create_time: time,
        update_time: time,
        creator: plan.creator(),
        registry_revision: revision,
        kind: FeatureKind::Tool.into(),
        entry_uid: plan.uid(Kind::Entry, entry),
        consumer_uid: plan.uid(Kind::Gateway, gateway),
        consented_visibility,
        uid,
        ..ToolAssignment::default()
    }
}

/// Three of four belong to a person, one of three is limited to a gateway, and one of ten is revoked.
async fn add_tokens(plan: &Plan, bulk: &mut Bulk) -> Result<usize> {
    let count = plan.size.tokens;
    let limited = |index: usize| (index.is_multiple_of(3)).then(|| index % plan.size.gateways);
    let mut rows = bulk
        .add(
            "gateway_tokens",
            "uid, token_hash, user_uid, team_uid, document, schema_version, create_time, revoke_time, registry_revision",
            (0..count).map(|index| {
                let (uid, revision) = (plan.uid(Kind::Token, index), plan.next_revision());
                let time = plan.time(index, count);
                let revoked = (index % 10 == 9).then_some(time);
                let team = (index >= OF_MEMBER && index % 4 == 0).then_some(index % plan.size.teams);
                let user = match index {
                    0..OF_MEMBER => plan.member(),
                    _ => index * 7 % plan.size.users,
                };
                let hash = Sha256::digest(&uid).to_vec();
                let token = GatewayToken {
                    name: format!("gatewayTokens/{uid}"),
                    display_name: format!("Token {index}"),
                    subject: Some(match team {
                        Some(team) => gateway_token::Subject::Team(people::team_name(team)),
                        None => gateway_token::Subject::User(format!("users/{}", plan.user(user))),
                    }),
                    consumers: limited(index).map(gateway_name).into_iter().collect(),
                    revoke_time: revoked.map(timestamp),
                    create_time: Some(timestamp(time)),
                    creator: plan.creator(),
                    registry_revision: revision,
                    ..GatewayToken::default()
                };
                let watched = WatchedGatewayToken {
                    gateway_token: Some(token),
                    token_hash: hash.clone(),
                    issuer: team.map_or_else(|| plan.issuer.clone(), |_| String::new()),
                    subject: team.map_or_else(|| plan.subject(user), |_| String::new()),
                };
                row![
                    uid,
                    hash,
                    team.is_none().then(|| plan.user(user)),
                    team.map(|team| plan.uid(Kind::Team, team)),
                    watched.encode_to_vec(),
                    SCHEMA_VERSION,
                    time,
                    revoked,
                    revision,
                ]
            }),
        )
        .await?;
    rows += bulk
        .add(
            "gateway_token_consumers",
            "token_uid, consumer_uid",
            (0..count).filter_map(|index| {
                let gateway = limited(index)?;
                Some(row![plan.uid(Kind::Token, index), plan.uid(Kind::Gateway, gateway)])
            }),
        )
        .await?;
    Ok(rows)
}
