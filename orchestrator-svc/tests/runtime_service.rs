//! RuntimeService, as people call it.

mod support;

use contracts::{
    orchestrator::{GetRuntimeRequest, RestartRuntimeRequest, RuntimeState, StreamRuntimeLogsRequest},
    registry::{entry_revision::Server, installation::Scope},
};
use pretty_assertions::assert_eq;
use service_kit::UserId;
use support::{PATIENCE, Stack, call, fakes::Fakes, installation, remote};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const NAME: &str = "installations/one/runtime";

fn reason(status: &Status) -> (Code, String) {
    (
        status.code(),
        status.get_details_error_info().map(|i| i.reason).unwrap_or_default(),
    )
}

#[tokio::test]
async fn shows_restarts_and_streams_logs_to_those_with_permission() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &[], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    let endpoint = stack.running("one").await;
    let mut people = stack.people.clone();
    let get = || GetRuntimeRequest { name: NAME.to_owned() };
    let runtime = people.get_runtime(stack.of("alice", get())).await.unwrap().into_inner();
    assert_eq!(
        (runtime.name.as_str(), runtime.state(), runtime.restart_count),
        (NAME, RuntimeState::Running, 0)
    );
    assert!(runtime.start_time.is_some() && runtime.reason.is_empty());

    let follow = StreamRuntimeLogsRequest {
        name: NAME.to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut logs = people
        .stream_runtime_logs(stack.of("alice", follow))
        .await
        .unwrap()
        .into_inner();
    let mut line = async || timeout(PATIENCE, logs.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(line().await.line, "started with nothing");

    let id = "0190b5f2-6b1c-7cc4-8d3b-3f0d7f0a9d11";
    let restart = || RestartRuntimeRequest {
        name: NAME.to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let before = call(&endpoint).await["started"].clone();
    let accepted = people.restart_runtime(stack.of("alice", restart())).await.unwrap();
    assert_eq!(accepted.into_inner().restart_id, id);
    let restarted = stack.restarted(NAME).await;
    assert_eq!(restarted.observed_restart_id, id);
    assert_eq!(restarted.state(), RuntimeState::Running);
    let moved = stack.moved("one", &endpoint).await;
    let started = call(&moved).await["started"].clone();
    assert_ne!(started, before);
    let next = line().await;
    assert_eq!(
        (next.line.as_str(), next.time.is_some()),
        ("started with nothing", true)
    );
    // A retry restarts nothing.
    people.restart_runtime(stack.of("alice", restart())).await.unwrap();
    stack.restarted(NAME).await;
    assert_eq!(call(&moved).await["started"], started);
    let previous = StreamRuntimeLogsRequest {
        name: NAME.to_owned(),
        previous: true,
        ..Default::default()
    };
    let mut before = people
        .stream_runtime_logs(stack.of("alice", previous))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(before.message().await.unwrap().unwrap().line, "started with nothing");
    assert!(before.message().await.unwrap().is_none());

    let tail = StreamRuntimeLogsRequest {
        name: NAME.to_owned(),
        tail_lines: 1,
        ..Default::default()
    };
    let mut logs = people
        .stream_runtime_logs(stack.of("alice", tail))
        .await
        .unwrap()
        .into_inner();
    assert!(logs.message().await.unwrap().is_some() && logs.message().await.unwrap().is_none());

    // Bad callers and bad requests.
    let stranger = people.get_runtime(stack.of("mallory", get())).await.unwrap_err();
    assert_eq!(reason(&stranger), (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned()));
    let nobody = people.get_runtime(get()).await.unwrap_err();
    assert_eq!(reason(&nobody), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()));
    let bad = StreamRuntimeLogsRequest {
        name: "runtime".to_owned(),
        tail_lines: -1,
        ..Default::default()
    };
    let nonsense = RestartRuntimeRequest {
        request_id: "nonsense".to_owned(),
        ..restart()
    };
    let refused = people.restart_runtime(stack.of("alice", nonsense)).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    let bad = people.stream_runtime_logs(stack.of("alice", bad)).await.unwrap_err();
    assert_eq!(reason(&bad), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    let fields: Vec<_> = bad
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|v| v.field)
        .collect();
    assert_eq!(fields, ["tail_lines", "name"]);

    fakes.install(remote("two"));
    let elsewhere = GetRuntimeRequest {
        name: "installations/two/runtime".to_owned(),
    };
    let elsewhere = people.get_runtime(stack.of("alice", elsewhere)).await.unwrap_err();
    assert_eq!(
        reason(&elsewhere),
        (Code::FailedPrecondition, "NOT_SELF_HOSTED".to_owned())
    );
    stack.stop().await;
}

#[tokio::test]
async fn a_failed_restart_has_its_reason() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    fakes.install(installation("one", "builtin", &["--fail"], Vec::new()));
    let stack = Stack::start(folder.path(), &fakes).await;
    stack.reason("one", "CRASH_LOOP").await;
    let restart = RestartRuntimeRequest {
        name: NAME.to_owned(),
        ..Default::default()
    };
    let mut people = stack.people.clone();
    people.restart_runtime(stack.of("alice", restart)).await.unwrap();
    let runtime = stack.restarted(NAME).await;
    assert_eq!(runtime.state(), RuntimeState::Failed);
    assert!(
        runtime.message.contains("cannot reach the database"),
        "{}",
        runtime.message
    );
    assert!(runtime.restart_count >= 2);
    stack.stop().await;
}

/// Every member of a team sees the condition of its installations; only those who may manage them read their logs.
#[tokio::test]
async fn what_a_teams_server_wrote_is_shown_to_those_who_may_read_its_log() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let (revision, mut theirs) = installation("one", "builtin", &["--fail"], Vec::new());
    theirs.scope = Some(Scope::Team("teams/a".to_owned()));
    fakes.put((revision, theirs));
    let stack = Stack::start(folder.path(), &fakes).await;
    let condition = stack.reason("one", "CRASH_LOOP").await;
    assert!(!condition.message.contains("database"), "{}", condition.message);
    assert!(condition.message.contains("StreamRuntimeLogs"), "{}", condition.message);
    let get = || GetRuntimeRequest { name: NAME.to_owned() };
    let mut people = stack.people.clone();
    let shown = people.get_runtime(stack.of("admin", get())).await.unwrap().into_inner();
    assert!(shown.message.contains("cannot reach the database"), "{}", shown.message);
    let member = people.get_runtime(stack.of("alice", get())).await.unwrap_err();
    assert_eq!(
        reason(&member),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    stack.stop().await;
}

/// Another version would get the owner's secrets, so an admin may restart the server but not update it.
#[tokio::test]
async fn only_owners_who_confirm_versions_can_update() {
    let (folder, fakes) = (tempfile::tempdir().unwrap(), Fakes::new());
    let (mut revision, theirs) = installation("one", "builtin", &[], Vec::new());
    let Some(Server::SelfHosted(server)) = &mut revision.server else {
        panic!("it is one");
    };
    server.confirm_new_versions = true;
    fakes.install((revision, theirs));
    let stack = Stack::start(folder.path(), &fakes).await;
    let owned_by = |who| {
        let owner = UserId::of(stack.issuer.issuer(), who).resource_name();
        fakes.edit("one", |installation| installation.scope = Some(Scope::User(owner)));
    };
    owned_by("bob");
    stack.running("one").await;
    let restart = |update_package| RestartRuntimeRequest {
        name: NAME.to_owned(),
        update_package,
        ..Default::default()
    };
    let mut people = stack.people.clone();
    let refused = people
        .restart_runtime(stack.of("admin", restart(true)))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
    people.restart_runtime(stack.of("admin", restart(false))).await.unwrap();
    owned_by("alice");
    people.restart_runtime(stack.of("alice", restart(true))).await.unwrap();
    stack.stop().await;
}
