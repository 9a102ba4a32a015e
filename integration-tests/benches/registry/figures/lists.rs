//! Measures the first page of every list, for an ordinary member and for an admin, and compares it with a small data
//! set.

use std::time::Instant;

use contracts::registry::{
    EntryLifecycle, InstallationState, ListAgentsRequest, ListEntriesRequest, ListEntryRevisionsRequest,
    ListEntryToolsRequest, ListGatewayTokensRequest, ListGatewaysRequest, ListInstallationToolsRequest,
    ListInstallationsRequest, ListTeamMembersRequest, ListTeamsRequest, ListToolAssignmentsRequest, ListUsersRequest,
};
use futures::future::BoxFuture;
use integration_tests::{Caller, Result};
use service_kit::Clock;
use tonic::Status;

use crate::{
    data::{
        Plan,
        consumers::gateway_name,
        entries::{POPULAR, RICH},
        people::{LARGE, OWN, team_name},
    },
    database::Engine,
    report::{Report, Times, Wanted, say},
    stack::{Registry, World},
};

const PAGE: i32 = 50;
const WARM_UP: usize = 10;
/// Both data sets are measured in turn, so that other load of the machine affects both alike.
const ROUNDS: usize = 4;
const CALLS: usize = 50;
/// Milliseconds.
const LIMIT: f64 = 5.0;
const TIMES_SMALL: f64 = 2.0;

/// A list. The call returns the number of rows on the page.
struct List {
    title: &'static str,
    only_admin: bool,
    call: Box<dyn Fn(Caller) -> BoxFuture<'static, Result<usize, Status>>>,
}

impl List {
    fn new<F>(title: &'static str, call: impl Fn(Caller) -> F + 'static) -> Self
    where
        F: Future<Output = Result<usize, Status>> + Send + 'static,
    {
        Self {
            title,
            only_admin: false,
            call: Box::new(move |caller| Box::pin(call(caller))),
        }
    }

    fn for_admins(self) -> Self {
        Self {
            only_admin: true,
            ..self
        }
    }
}

/// The figures of a list in one data set.
#[derive(Default)]
struct Measured {
    times: Times,
    rows: usize,
}

impl Measured {
    fn p50(&self) -> f64 {
        self.times.percentile(0.5)
    }
}

pub(crate) async fn measure(engine: Engine, world: &World<'_>, small: &World<'_>, report: &mut Report) -> Result<()> {
    let verifier = || world.issuer.verifier(Clock::System);
    let (large_registry, small_registry) = (
        Registry::start(world.database, verifier()).await?,
        Registry::start(small.database, verifier()).await?,
    );
    let mut results = Vec::new();
    for (who, is_admin) in [("member", false), ("admin", true)] {
        let large = large_registry.caller(if is_admin { world.admin() } else { world.member() });
        let small_caller = small_registry.caller(if is_admin { small.admin() } else { small.member() });
        let lists = lists(world.plan).into_iter().zip(lists(small.plan));
        for (list, small_list) in lists.filter(|(list, _)| is_admin || !list.only_admin) {
            let (mut here, mut there) = (Measured::default(), Measured::default());
            for round in 0..ROUNDS {
                call(&list, &large, &mut here, round == 0).await?;
                call(&small_list, &small_caller, &mut there, round == 0).await?;
            }
            say(&format!(
                "  {who:<6} {:<51} {:>3} rows: p50 {:>6.2} ms, p99 {:>6.2} ms; in the small set {:>3} rows: p50 {:>6.2} ms",
                list.title,
                here.rows,
                here.p50(),
                here.times.percentile(0.99),
                there.rows,
                there.p50()
            ));
            results.push((format!("{who}: {}", list.title), here, there));
        }
    }
    large_registry.stop().await;
    small_registry.stop().await;
    tell(engine, results, report);
    Ok(())
}

/// Reports the slowest lists, and every list that missed its limit.
fn tell(engine: Engine, mut results: Vec<(String, Measured, Measured)>, report: &mut Report) {
    let count = results.len();
    results.sort_by(|a, b| b.1.p50().total_cmp(&a.1.p50()));
    for (index, (title, here, _)) in results.iter().enumerate() {
        if index == 0 || here.p50() > LIMIT {
            let what = format!("{title}: p50 (of {count} lists)");
            report.figure(Some(engine), &what, here.p50(), "ms", Wanted::AtMost(LIMIT));
        }
    }
    // Pages of different lengths are not comparable.
    results.retain(|(_, here, there)| here.rows == there.rows);
    let ratio = |(_, here, there): &(String, Measured, Measured)| here.p50() / there.p50();
    results.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    let count = results.len();
    for (index, result) in results.iter().enumerate() {
        if index == 0 || ratio(result) > TIMES_SMALL {
            let what = format!("{}: beside 100 entries (of {count})", result.0);
            report.figure(Some(engine), &what, ratio(result), "times", Wanted::AtMost(TIMES_SMALL));
        }
    }
}

async fn call(list: &List, caller: &Caller, measured: &mut Measured, first: bool) -> Result<()> {
    if first {
        for _ in 0..WARM_UP {
            measured.rows = (list.call)(caller.clone()).await?;
        }
    }
    for _ in 0..CALLS {
        let begin = Instant::now();
        (list.call)(caller.clone()).await?;
        measured.times.since(begin);
    }
    Ok(())
}

/// Makes a list of the client, the method, the request, and the field of the response that has the rows.
macro_rules! list {
    ($title:literal, $client:ident.$method:ident($request:expr) => $rows:ident) => {{
        let request = $request;
        List::new($title, move |caller| {
            let request = request.clone();
            async move { Ok(caller.$client().$method(request).await?.into_inner().$rows.len()) }
        })
    }};
}

fn lists(plan: &Plan) -> Vec<List> {
    let mut lists = entries(plan);
    lists.extend(installations(plan));
    lists.extend(rest(plan));
    lists
}

fn entries(plan: &Plan) -> Vec<List> {
    let all = || ListEntriesRequest {
        page_size: PAGE,
        ..ListEntriesRequest::default()
    };
    let labelled = |labels: &[(&str, &str)]| ListEntriesRequest {
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..all()
    };
    let searched = |query: &str| ListEntriesRequest {
        query: query.to_owned(),
        ..all()
    };
    let in_state = |lifecycle: EntryLifecycle| ListEntriesRequest {
        lifecycle: lifecycle.into(),
        ..all()
    };
    let of_rich = plan.entry_name(RICH);
    vec![
        list!("ListEntries", entries.list_entries(all()) => entries),
        list!("ListEntries, a label that most have", entries.list_entries(labelled(&[("env", "prod")])) => entries),
        list!("ListEntries, a label that few have", entries.list_entries(labelled(&[("area", "area-7")])) => entries),
        list!("ListEntries, two labels", entries.list_entries(labelled(&[("env", "prod"), ("area", "area-7")])) => entries),
        list!("ListEntries, a word that all have", entries.list_entries(searched("server")) => entries),
        list!("ListEntries, a word that some have", entries.list_entries(searched("tracker")) => entries),
        list!("ListEntries, a word that few have", entries.list_entries(searched("term1234")) => entries),
        list!("ListEntries, the beginning of many words", entries.list_entries(searched("t")) => entries),
        list!("ListEntries, three words", entries.list_entries(searched("server search mail")) => entries),
        list!("ListEntries, approved", entries.list_entries(in_state(EntryLifecycle::Approved)) => entries),
        list!("ListEntries, deprecated", entries.list_entries(in_state(EntryLifecycle::Deprecated)) => entries),
        list!("ListEntries, drafts", entries.list_entries(in_state(EntryLifecycle::Draft)) => entries),
        list!("ListEntries, a word, a label, approved", entries.list_entries(ListEntriesRequest {
            lifecycle: EntryLifecycle::Approved.into(),
            query: "server".to_owned(),
            ..labelled(&[("env", "prod")])
        }) => entries),
        list!("ListEntryTools", entries.list_entry_tools(ListEntryToolsRequest {
            parent: of_rich.clone(),
            page_size: PAGE,
            ..ListEntryToolsRequest::default()
        }) => tools),
        list!("ListEntryRevisions", entries.list_entry_revisions(ListEntryRevisionsRequest {
            parent: of_rich,
            page_size: PAGE,
            ..ListEntryRevisionsRequest::default()
        }) => entry_revisions),
    ]
}

fn installations(plan: &Plan) -> Vec<List> {
    let all = || ListInstallationsRequest {
        page_size: PAGE,
        ..ListInstallationsRequest::default()
    };
    let of_popular = |state: InstallationState| ListInstallationsRequest {
        entry: plan.entry_name(POPULAR),
        state: state.into(),
        ..all()
    };
    let of_team = || ListInstallationsRequest {
        team: team_name(OWN),
        ..all()
    };
    let in_state = |state: InstallationState| ListInstallationsRequest {
        state: state.into(),
        ..all()
    };
    vec![
        list!("ListInstallations", installations.list_installations(all()) => installations),
        list!("ListInstallations, of a popular entry",
            installations.list_installations(of_popular(InstallationState::Unspecified)) => installations),
        list!("ListInstallations, failed ones of a popular entry",
            installations.list_installations(of_popular(InstallationState::Failed)) => installations),
        list!("ListInstallations, deleted ones of a popular entry",
            installations.list_installations(of_popular(InstallationState::Deleting)) => installations),
        list!("ListInstallations, of a team", installations.list_installations(of_team()) => installations),
        list!("ListInstallations, of a team and an entry", installations.list_installations(ListInstallationsRequest {
            entry: plan.entry_name(RICH + 5),
            ..of_team()
        }) => installations),
        list!("ListInstallations, of a user", installations.list_installations(ListInstallationsRequest {
            user: format!("users/{}", plan.user(plan.member())),
            ..all()
        }) => installations),
        list!("ListInstallations, ready",
            installations.list_installations(in_state(InstallationState::Ready)) => installations),
        list!("ListInstallations, pending",
            installations.list_installations(in_state(InstallationState::Pending)) => installations),
        list!("ListInstallations, failed",
            installations.list_installations(in_state(InstallationState::Failed)) => installations),
        list!("ListInstallationTools", installations.list_installation_tools(ListInstallationToolsRequest {
            parent: plan.installation_of_rich(),
            page_size: PAGE,
            ..ListInstallationToolsRequest::default()
        }) => tools)
        .for_admins(),
    ]
}

fn rest(plan: &Plan) -> Vec<List> {
    vec![
        list!("ListGateways", gateways.list_gateways(ListGatewaysRequest {
            page_size: PAGE,
            ..ListGatewaysRequest::default()
        }) => gateways),
        list!("ListAgents", agents.list_agents(ListAgentsRequest {
            page_size: PAGE,
            ..ListAgentsRequest::default()
        }) => agents),
        list!("ListToolAssignments", assignments.list_tool_assignments(ListToolAssignmentsRequest {
            parent: gateway_name(0),
            page_size: PAGE,
            ..ListToolAssignmentsRequest::default()
        }) => tool_assignments),
        list!("ListTeams", teams.list_teams(ListTeamsRequest {
            page_size: PAGE,
            ..ListTeamsRequest::default()
        }) => teams),
        list!("ListTeamMembers, of a large team", teams.list_team_members(ListTeamMembersRequest {
            parent: team_name(LARGE),
            page_size: PAGE,
            ..ListTeamMembersRequest::default()
        }) => team_members)
        .for_admins(),
        list!("ListTeamMembers, of an own team", teams.list_team_members(ListTeamMembersRequest {
            parent: team_name(OWN),
            page_size: PAGE,
            ..ListTeamMembersRequest::default()
        }) => team_members),
        list!("ListGatewayTokens", gateway_tokens.list_gateway_tokens(ListGatewayTokensRequest {
            page_size: PAGE,
            ..ListGatewayTokensRequest::default()
        }) => gateway_tokens),
        list!("ListUsers", users.list_users(ListUsersRequest {
            page_size: PAGE,
            ..ListUsersRequest::default()
        }) => users)
        .for_admins(),
        list!("ListUsers, of an address", users.list_users(ListUsersRequest {
            page_size: PAGE,
            email: format!("{}@example.com", plan.subject(plan.member())),
            ..ListUsersRequest::default()
        }) => users)
        .for_admins(),
    ]
}
