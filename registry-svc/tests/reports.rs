//! What workloads report, on both engines.

mod support;

use contracts::registry::*;
use service_kit::Workload;
use support::*;
use tonic::Code;

on_both_engines!(
    a_stale_report_changes_nothing_at_all,
    a_report_that_comes_again_makes_no_revision,
    ready_speaks_of_the_present_generation,
    a_credential_of_an_entry_is_reported_once,
    a_runtime_is_an_object_of_its_own,
    a_shared_runtime_is_reported_once_and_on_the_entry,
    a_set_of_tools_is_kept_once_and_only_while_something_has_it,
    a_large_list_of_tools_is_kept,
    an_entry_knows_since_when_it_has_each_tool,
    what_is_no_report_is_refused,
);

fn self_hosted() -> Entry {
    let server = SelfHostedServer {
        command: "x".to_owned(),
        ..Default::default()
    };
    Entry {
        server: Some(entry::Server::SelfHosted(server)),
        ..Default::default()
    }
}

fn shared_server(tenancy: Tenancy) -> Entry {
    let transport = self_hosted_server::Transport::StreamableHttp(StreamableHttpTransport {
        tenancy: tenancy.into(),
        ..Default::default()
    });
    let mut entry = self_hosted();
    if let Some(entry::Server::SelfHosted(server)) = &mut entry.server {
        server.transport = Some(transport);
    }
    entry
}

fn runtime_of(uid: &str, observed_generation: i64, endpoint: &str) -> ReportRuntimeRequest {
    ReportRuntimeRequest {
        subject: Some(report_runtime_request::Subject::InstallationUid(uid.to_owned())),
        state: RuntimeState::Running.into(),
        reason: "RUNNING".to_owned(),
        observed_generation,
        endpoint: endpoint.to_owned(),
        replicas: 1,
        ready_replicas: 1,
        tool_list_changes: 3,
        ..Default::default()
    }
}

fn credential_of(
    subject: report_credential_request::Subject,
    observed: i64,
    generation: i64,
) -> ReportCredentialRequest {
    ReportCredentialRequest {
        subject: Some(subject),
        status: ConditionStatus::True.into(),
        reason: "STORED".to_owned(),
        observed_generation: observed,
        credential_generation: generation,
        ..Default::default()
    }
}

fn of_installation(installation: &Installation) -> report_credential_request::Subject {
    report_credential_request::Subject::InstallationUid(installation.uid.clone())
}

/// The runtime in the answer to a workload that authorizes an admin.
async fn runtime(stack: &Stack, name: &str) -> Option<Runtime> {
    let mut access = access_service_client::AccessServiceClient::new(stack.pipe(Workload::Credential));
    let principal = Principal {
        issuer: stack.issuer.issuer().to_owned(),
        subject: "admin".to_owned(),
        admin: true,
        ..Default::default()
    };
    let request = AuthorizeInstallationRequest {
        installation: name.to_owned(),
        principal: Some(principal),
        action: AccessAction::Read.into(),
    };
    access
        .authorize_installation(request)
        .await
        .unwrap()
        .into_inner()
        .runtime
}

async fn a_stale_report_changes_nothing_at_all(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", self_hosted()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.credential_ready(&made).await; // generation 2
    let mut reports = stack.reports(Workload::Orchestrator);
    reports
        .report_runtime(runtime_of(&made.uid, 2, "unix:/new"))
        .await
        .unwrap();
    let before = admin.installation(&made.name).await.unwrap();
    reports
        .report_runtime(runtime_of(&made.uid, 1, "unix:/old"))
        .await
        .unwrap();
    assert_eq!(runtime(&stack, &made.name).await.unwrap().endpoint, "unix:/new");
    let stale = ReportCredentialRequest {
        status: ConditionStatus::False.into(),
        reason: "CREDENTIAL_REQUIRED".to_owned(),
        ..credential_of(of_installation(&made), 1, 1)
    };
    stack
        .reports(Workload::Credential)
        .report_credential(stale)
        .await
        .unwrap();
    assert_eq!(admin.installation(&made.name).await.unwrap(), before);
    // Of a credential that is there no more, although it has seen the present generation.
    let mut reports = stack.reports(Workload::Credential);
    let of_entry = || report_credential_request::Subject::EntryUid(entry.uid.clone());
    for subject in [of_installation(&made), of_entry()] {
        reports.report_credential(credential_of(subject, 9, 5)).await.unwrap();
    }
    let (before, entry_before) = (
        admin.installation(&made.name).await.unwrap(),
        admin.entry(&entry.name).await.unwrap(),
    );
    for subject in [of_installation(&made), of_entry()] {
        let delayed = ReportCredentialRequest {
            status: ConditionStatus::False.into(),
            reason: "CREDENTIAL_REQUIRED".to_owned(),
            ..credential_of(subject, 9, 4)
        };
        reports.report_credential(delayed).await.unwrap();
    }
    assert_eq!(admin.installation(&made.name).await.unwrap(), before);
    assert_eq!(admin.entry(&entry.name).await.unwrap(), entry_before);
}

async fn a_report_that_comes_again_makes_no_revision(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", self_hosted()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    let credential = || credential_of(of_installation(&made), 1, 1);
    let mut by_credential = stack.reports(Workload::Credential);
    let mut by_orchestrator = stack.reports(Workload::Orchestrator);
    let first = by_credential
        .report_credential(credential())
        .await
        .unwrap()
        .into_inner()
        .registry_revision;
    let second = by_orchestrator
        .report_runtime(runtime_of(&made.uid, 2, "unix:/a"))
        .await
        .unwrap()
        .into_inner()
        .registry_revision;
    assert_eq!(second, first + 1);
    stack.discover(&made, &["now"]).await;
    let settled = admin.installation(&made.name).await.unwrap();
    // Each says the revision at which what it reported is in force, and uses none up.
    for _ in 0..3 {
        let again = by_credential
            .report_credential(credential())
            .await
            .unwrap()
            .into_inner()
            .registry_revision;
        assert_eq!(again, settled.registry_revision);
        let again = by_orchestrator
            .report_runtime(runtime_of(&made.uid, 2, "unix:/a"))
            .await
            .unwrap();
        assert_eq!(again.into_inner().registry_revision, second);
        stack.discover(&made, &["now"]).await;
    }
    let next = admin.created("other", remote()).await;
    assert_eq!(next.registry_revision, settled.registry_revision + 1);
}

async fn ready_speaks_of_the_present_generation(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    stack.credential_ready(&made).await;
    stack.discover(&made, &["now"]).await;
    let ready = admin.installation(&made.name).await.unwrap();
    assert_eq!((ready.state(), ready.generation), (InstallationState::Ready, 2));
    // A new credential: nobody has found the tools with it yet.
    let report = credential_of(of_installation(&made), 2, 2);
    stack
        .reports(Workload::Credential)
        .report_credential(report)
        .await
        .unwrap();
    let rotated = admin.installation(&made.name).await.unwrap();
    assert_eq!((rotated.state(), rotated.generation), (InstallationState::Pending, 3));
    assert!(rotated.first_ready_time.is_some());
    let failure = ReportDiscoveryRequest {
        subject: Some(report_discovery_request::Subject::InstallationUid(made.uid.clone())),
        observed_generation: 3,
        outcome: Some(report_discovery_request::Outcome::Failure(DiscoveryFailure {
            reason: "UPSTREAM_REFUSED".to_owned(),
            message: "no".to_owned(),
        })),
    };
    stack
        .reports(Workload::Gateway)
        .report_discovery(failure)
        .await
        .unwrap();
    let failed = admin.installation(&made.name).await.unwrap();
    assert_eq!(failed.state(), InstallationState::Failed);
    assert_eq!(failed.discovered, ready.discovered, "what was known stays");
    let found = DiscoveredTools {
        tools: vec![tool("now", "{}")],
        left_out: "1 tool is left out".to_owned(),
    };
    let found = ReportDiscoveryRequest {
        subject: Some(report_discovery_request::Subject::InstallationUid(made.uid.clone())),
        observed_generation: 3,
        outcome: Some(report_discovery_request::Outcome::Tools(found)),
    };
    stack.reports(Workload::Gateway).report_discovery(found).await.unwrap();
    let found = admin.installation(&made.name).await.unwrap();
    assert_eq!(found.state(), InstallationState::Ready);
    let said = found
        .conditions
        .iter()
        .find(|condition| condition.r#type() == ConditionType::ToolsDiscovered);
    assert_eq!(said.unwrap().message, "1 tool is left out");
}

async fn an_entry_knows_since_when_it_has_each_tool(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    let since = async |tools: &[&str]| {
        stack.discover(&made, tools).await;
        let entry = admin.entry(&entry.name).await.unwrap();
        let [tools] = &entry.discovered[..] else {
            panic!("{entry:?}")
        };
        (entry.registry_revision, tools.since_revisions.clone())
    };
    let (first, all) = since(&["now", "convert"]).await;
    assert_eq!(all, [first]);
    let (second, all) = since(&["now", "convert", "zone", "a"]).await;
    assert!(second > first);
    assert_eq!(all, [second, first, first, second], "by name: a, convert, now, zone");
    let (third, all) = since(&["zone", "now"]).await;
    assert_eq!(all, [first, second]);
    let (fourth, all) = since(&["convert", "now"]).await;
    assert!(fourth > third);
    assert_eq!(all, [fourth, first], "it was gone");
    let described = admin.installation(&made.name).await.unwrap();
    assert!(
        described.discovered[0].since_revisions.is_empty(),
        "names are of entries"
    );
}

fn tool(name: &str, definition_json: &str) -> Tool {
    Tool {
        tool: name.to_owned(),
        definition_json: definition_json.to_owned(),
        ..Tool::default()
    }
}

async fn a_credential_of_an_entry_is_reported_once(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    let subject = report_credential_request::Subject::EntryUid(entry.uid.clone());
    let report = credential_of(subject, entry.entry_revision, 4);
    stack
        .reports(Workload::Credential)
        .report_credential(report)
        .await
        .unwrap();
    let read = admin.entry(&entry.name).await.unwrap();
    assert_eq!(read.credential_generation, 4);
    let condition = &read.conditions[0];
    assert_eq!(
        (condition.r#type(), condition.status(), condition.reason.as_str()),
        (ConditionType::CredentialReady, ConditionStatus::True, "STORED")
    );
    assert_eq!(
        (&read.etag, read.entry_revision),
        (&entry.etag, 1),
        "nobody has changed the entry"
    );
    assert_eq!(
        admin.installation(&made.name).await.unwrap(),
        made,
        "no installation is touched"
    );
}

async fn a_runtime_is_an_object_of_its_own(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", self_hosted()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    assert_eq!(runtime(&stack, &made.name).await, None);
    let mut reports = stack.reports(Workload::Orchestrator);
    reports
        .report_runtime(runtime_of(&made.uid, 1, "unix:/a"))
        .await
        .unwrap();
    let running = runtime(&stack, &made.name).await.unwrap();
    assert_eq!(running.owner, Some(runtime::Owner::Installation(made.name.clone())));
    assert_eq!((running.state(), running.ready_replicas), (RuntimeState::Running, 1));
    assert_eq!(running.tool_list_changes, 3);
    let ready = |installation: &Installation| {
        let condition = installation
            .conditions
            .iter()
            .find(|condition| condition.r#type() == ConditionType::RuntimeReady)
            .unwrap();
        condition.status()
    };
    assert_eq!(
        ready(&admin.installation(&made.name).await.unwrap()),
        ConditionStatus::True
    );
    let mut failed = runtime_of(&made.uid, 1, "");
    failed.set_state(RuntimeState::Failed);
    failed.reason = "CRASH_LOOP".to_owned();
    reports.report_runtime(failed).await.unwrap();
    assert_eq!(
        ready(&admin.installation(&made.name).await.unwrap()),
        ConditionStatus::False
    );
    // One of what is gone is no error.
    let gone = service_kit::random::uuid().to_string();
    reports.report_runtime(runtime_of(&gone, 1, "")).await.unwrap();
}

/// One report is one write, however many installations there are: their documents stay as they are.
async fn a_shared_runtime_is_reported_once_and_on_the_entry(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", shared_server(Tenancy::Shared)).await;
    let made = stack.person("alice").install(&entry.name, None, &[]).await.unwrap();
    let condition = |conditions: &[Condition]| {
        let mut found = conditions.iter().filter(|c| c.r#type() == ConditionType::RuntimeReady);
        found.next().cloned()
    };
    assert_eq!(condition(&made.conditions), None);
    let mut reports = stack.reports(Workload::Orchestrator);
    let of_entry = |state: RuntimeState, endpoint: &str| ReportRuntimeRequest {
        subject: Some(report_runtime_request::Subject::EntryUid(entry.uid.clone())),
        state: state.into(),
        ..runtime_of("", 1, endpoint)
    };
    for (state, status) in [
        (RuntimeState::Running, ConditionStatus::True),
        (RuntimeState::Failed, ConditionStatus::False),
    ] {
        reports.report_runtime(of_entry(state, "unix:/shared")).await.unwrap();
        let reported = admin.entry(&entry.name).await.unwrap();
        assert_eq!(condition(&reported.conditions).map(|c| c.status()), Some(status));
        assert_eq!(reported.etag, entry.etag);
        assert_eq!(admin.installation(&made.name).await.unwrap(), made);
    }
    let used = runtime(&stack, &made.name).await.unwrap();
    assert_eq!(used.owner, Some(runtime::Owner::Entry(entry.name.clone())));
    assert_eq!(used.endpoint, "unix:/shared");
    // A runtime of its own, from when the entry had another tenancy, is not what it runs.
    reports
        .report_runtime(runtime_of(&made.uid, 1, "unix:/own"))
        .await
        .unwrap();
    assert_eq!(runtime(&stack, &made.name).await.unwrap().endpoint, "unix:/shared");
    // With a server for each installation, the entry has no such condition, and a late report brings none.
    let next = Entry {
        name: entry.name.clone(),
        ..shared_server(Tenancy::OnePerInstallation)
    };
    let next = admin.update(next, &["self_hosted"]).await.unwrap();
    assert_eq!(condition(&next.conditions), None);
    reports
        .report_runtime(of_entry(RuntimeState::Pending, ""))
        .await
        .unwrap();
    assert_eq!(condition(&admin.entry(&entry.name).await.unwrap().conditions), None);
    while admin.entry(&entry.name).await.unwrap().rollout.unwrap().left > 0 {
        tokio::task::yield_now().await;
    }
    let moved = admin.installation(&made.name).await.unwrap();
    assert!(condition(&moved.conditions).is_some() && moved.generation == made.generation + 1);
    assert_eq!(runtime(&stack, &made.name).await.unwrap().endpoint, "unix:/own");
}

async fn a_set_of_tools_is_kept_once_and_only_while_something_has_it(stack: Stack) {
    let admin = stack.admin();
    let alice = stack.person("alice");
    let entry = admin.approved("time", remote()).await;
    let first = admin.install(&entry.name, None, &[]).await.unwrap();
    let second = alice.install(&entry.name, None, &[]).await.unwrap();
    stack.discover(&first, &["now", "convert"]).await;
    stack.discover(&second, &["convert", "now"]).await;
    let hash = |installation: Installation| installation.discovered[0].set_hash.clone();
    let shared = hash(admin.installation(&first.name).await.unwrap());
    assert_eq!(hash(alice.installation(&second.name).await.unwrap()), shared);
    assert_eq!(admin.entry(&entry.name).await.unwrap().discovered[0].set_hash, shared);
    // A person's own account is shown another tool: everybody else keeps the entry's.
    stack.discover(&second, &["now", "mine"]).await;
    let own = hash(alice.installation(&second.name).await.unwrap());
    assert_ne!(own, shared);
    assert_eq!(admin.entry(&entry.name).await.unwrap().discovered[0].set_hash, shared);
    let mut kept = stack.kept_sets().await;
    kept.sort();
    let mut expected = [own.clone(), shared.clone()];
    expected.sort();
    assert_eq!(kept, expected);
    stack.discover(&first, &["now"]).await;
    let newest = hash(admin.installation(&first.name).await.unwrap());
    let kept = stack.kept_sets().await;
    assert!(
        !kept.contains(&shared) && kept.contains(&newest) && kept.contains(&own),
        "{kept:?}"
    );
}

async fn a_large_list_of_tools_is_kept(stack: Stack) {
    let admin = stack.admin();
    let entry = admin.approved("time", remote()).await;
    let made = admin.install(&entry.name, None, &[]).await.unwrap();
    for prefix in ["a", "b"] {
        let names: Vec<String> = (0..1_200).map(|index| format!("{prefix}{index:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        stack.discover(&made, &names).await;
        let request = ListEntryToolsRequest {
            parent: entry.name.clone(),
            page_size: 500,
            ..Default::default()
        };
        let page = admin.entries().list_entry_tools(request).await.unwrap().into_inner();
        assert_eq!((page.tools.len(), page.tools[499].tool.as_str()), (500, names[499]));
        // Those of the list before are gone, all of them.
        let kinds = [ObjectKind::FeatureDefinition];
        assert_eq!(stack.watched(&kinds).await.len(), 1_200);
    }
}

async fn what_is_no_report_is_refused(stack: Stack) {
    let long = "x".repeat(513 << 10);
    let tools = vec![
        tool("", "{}"),
        tool("a", "{"),
        tool("b", "{}"),
        tool("b", "{}"),
        tool("c", &format!("{long:?}")),
    ];
    let report = ReportDiscoveryRequest {
        outcome: Some(report_discovery_request::Outcome::Tools(DiscoveredTools {
            tools,
            left_out: "x".repeat(4_001),
        })),
        ..Default::default()
    };
    let refused = stack
        .reports(Workload::Gateway)
        .report_discovery(report)
        .await
        .unwrap_err();
    assert_eq!(
        fields(&refused),
        [
            "subject",
            "tools.tools[0].tool",
            "tools.tools[1].definition_json",
            "tools.tools[3].tool",
            "tools.tools[4].definition_json",
            "tools.left_out"
        ]
    );
    let refused = stack
        .reports(Workload::Credential)
        .report_credential(ReportCredentialRequest::default())
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["subject", "status", "reason"]);
    let report = ReportRuntimeRequest {
        replicas: -1,
        ..Default::default()
    };
    let refused = stack
        .reports(Workload::Orchestrator)
        .report_runtime(report)
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["subject", "state", "reason", "replicas"]);
    // Each reports only what it is responsible for.
    let report = runtime_of("u", 1, "");
    let refused = stack
        .reports(Workload::Gateway)
        .report_runtime(report)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
