//! One process of a server for many tenants serves everybody who has installed its entry: each call brings the credential of its caller, and
//! nobody gets anything of anybody else.
//!
//! Tools: node

use std::collections::BTreeSet;

use contracts::{
    orchestrator::{self as o, GetRuntimeRequest, RestartRuntimeRequest, StreamRuntimeLogsRequest},
    registry::{self as r, entry::CredentialModel, entry::Server, self_hosted_server::Transport},
};
use integration_tests::{
    Caller, McpClient, Stack,
    caller::{bad_fields, reason},
    eventually,
    keycloak::claims,
    process::{descendants, no_process_with},
    tools::{Tool, own},
    walk,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tonic::Code;

/// A stack with a gateway `team`, whose servers can read the fixture and the official SDK.
async fn start() -> Stack {
    let shared = format!("{},{}", Tool::NodeModules.path().display(), own("node").display());
    let stack = Stack::builder().flag("--server-read", shared).start().await;
    stack.admin().gateway("team").await;
    stack
}

/// An entry with `multi_tenant_server.mjs`. `mark` is an argument by which its processes are found.
fn multi_tenant(mark: &str, tenancy: r::Tenancy) -> r::Entry {
    let sdk = Tool::NodeModules.path().join("@modelcontextprotocol/sdk");
    let script = own("node/multi_tenant_server.mjs");
    let (script, sdk) = (script.to_string_lossy(), sdk.to_string_lossy());
    let mut entry = walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, &sdk, mark]);
    if let Some(Server::SelfHosted(server)) = &mut entry.server {
        server.transport = Some(Transport::StreamableHttp(r::StreamableHttpTransport {
            tenancy: tenancy.into(),
            ..r::StreamableHttpTransport::default()
        }));
    }
    entry
}

/// The same, where everybody enters a token of their own.
fn with_tokens(mark: &str, tenancy: r::Tenancy) -> r::Entry {
    walk::with_static(multi_tenant(mark, tenancy), "token", walk::bearer())
}

/// The ids of the processes of the server, without those of the sandbox.
fn servers(stack: &Stack, mark: &str) -> Vec<i32> {
    let end = format!(" {mark}");
    let found = descendants(stack.pid()).into_iter();
    found
        .filter(|process| process.arguments.trim_end().ends_with(&end))
        .map(|process| process.pid)
        .collect()
}

/// What the server knows of a call of this tool.
async fn known(client: &McpClient, tool: &str) -> Value {
    serde_json::from_str(&client.call_text(tool, json!({})).await).expect("the server answers with JSON")
}

fn runtime_of(name: &str) -> GetRuntimeRequest {
    GetRuntimeRequest {
        name: format!("{name}/runtime"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_everybody_with_their_own_token() {
    let mark = "everybody-with-their-own-token";
    let stack = start().await;
    let (admin, alice, bob, eve) = (
        stack.admin(),
        stack.member("alice"),
        stack.member("bob"),
        stack.member("eve"),
    );
    let mut entry = with_tokens(mark, r::Tenancy::Shared);
    entry.install_fields.push(r::InstallField {
        source: r::InstallFieldSource::Stored.into(),
        ..walk::environment_secret("region", "REGION")
    });
    admin.publish("tenants", entry).await;
    admin
        .put_entry_secrets("tenants", &[("region", "a region")])
        .await
        .expect("an admin may");
    let hers = alice.install("tenants", None, &[("token", "alices-token")]).await;
    let his = bob.install("tenants", None, &[("token", "bobs-token")]).await;
    admin.assign("team", "tenants", "whoami").await;
    let process = servers(&stack, mark);
    let first = stack.mcp("team", &alice).await;
    let clients = [
        (first, "Bearer alices-token"),
        (stack.mcp("team", &bob).await, "Bearer bobs-token"),
    ];
    let mut sessions = Vec::new();
    // In turns: the second call goes over connections that were used for the other person.
    for calls in 1..=2 {
        for (client, token) in &clients {
            let known = known(client, "tenants__whoami").await;
            assert_eq!((&known["caller"], &known["openedBy"]), (&json!(token), &json!(token)));
            assert_eq!((&known["calls"], &known["region"]), (&json!(calls), &json!("a region")));
            sessions.push((known["sessionId"].clone(), known["process"].clone()));
        }
    }
    assert_ne!(sessions[0].0, sessions[1].0, "each has a session of their own");
    assert!(
        sessions.iter().all(|(_, process)| *process == sessions[0].1),
        "{sessions:?}"
    );
    assert_eq!(servers(&stack, mark), process, "it is the only one");

    // Who has no credential is told where to enter one, whoever else is served.
    let stranger = stack.mcp("team", &eve).await;
    let answer = stranger.call("tenants__whoami", json!({})).await;
    let told = &answer["result"]["structuredContent"];
    assert_eq!(told["error"], "credential_required", "{answer}");
    assert!(
        told["install_url"]
            .as_str()
            .is_some_and(|url| url.contains("/install/tenants")),
        "{answer}"
    );

    // The removal of an installation leaves the others served, in the same process.
    delete(&alice, &hers.name).await;
    let after = known(&clients[1].0, "tenants__whoami").await;
    assert_eq!((&after["process"], &after["calls"]), (&sessions[0].1, &json!(3)));
    // That of the last one ends it, and the next installation starts another.
    delete(&bob, &his.name).await;
    eventually("the server ends", || async {
        servers(&stack, mark).is_empty().then_some(())
    })
    .await;
    let waits = admin.runtimes().get_runtime(runtime_of("entries/tenants")).await;
    assert_eq!(waits.expect("an admin may").into_inner().reason, "NOT_INSTALLED");
    bob.install("tenants", None, &[("token", "bobs-new-token")]).await;
    let again = known(&clients[1].0, "tenants__whoami").await;
    assert_eq!(again["caller"], "Bearer bobs-new-token");
}

async fn delete(person: &Caller, installation: &str) {
    let request = r::DeleteInstallationRequest {
        name: installation.to_owned(),
        ..r::DeleteInstallationRequest::default()
    };
    person
        .installations()
        .delete_installation(request)
        .await
        .expect("they may");
    eventually("the installation is gone", || async {
        person.installation(installation).await.is_err().then_some(())
    })
    .await;
}

/// Who has no installation of their own uses their team's, in the same process; its crash is nobody's to repair.
#[tokio::test(flavor = "multi_thread")]
async fn a_team_and_a_person_share_the_process_and_nothing_in_it() {
    let mark = "a-team-and-a-person";
    let stack = start().await;
    let admin = stack.admin();
    let (alice, carol) = (stack.member_of("alice", &["core"]), stack.member_of("carol", &["core"]));
    admin.publish("tenants", with_tokens(mark, r::Tenancy::Shared)).await;
    let issuer = alice.me().await.issuer;
    admin.team("core", vec![walk::group(&issuer, "core")]).await;
    let ours = alice
        .install("tenants", Some("teams/core"), &[("token", "our-token")])
        .await;
    let hers = alice.install("tenants", None, &[("token", "alices-token")]).await;
    admin.assign("team", "tenants", "whoami").await;
    let clients = [
        (stack.mcp("team", &alice).await, "Bearer alices-token"),
        (stack.mcp("team", &carol).await, "Bearer our-token"),
    ];
    let mut processes = BTreeSet::new();
    for restarts in 1..3 {
        for (client, token) in &clients {
            let known = known(client, "tenants__whoami").await;
            assert_eq!((&known["caller"], &known["openedBy"]), (&json!(token), &json!(token)));
            processes.insert(known["process"].to_string());
        }
        let running = servers(&stack, mark);
        assert_eq!((running.len(), processes.len()), (1, restarts));
        kill(Pid::from_raw(running[0]), Signal::SIGKILL).expect("it is ours");
        eventually("it is started again", || async {
            let runtime = admin.runtimes().get_runtime(runtime_of("entries/tenants")).await;
            let runtime = runtime.expect("an admin may").into_inner();
            (usize::try_from(runtime.restart_count) == Ok(restarts) && runtime.state() == o::RuntimeState::Running)
                .then_some(())
        })
        .await;
    }
    for made in [&ours, &hers] {
        let now = alice.installation(&made.name).await.expect("she may");
        assert_eq!(
            (now.state(), now.generation),
            (r::InstallationState::Ready, made.generation)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_alone_restarts_it_and_reads_its_log() {
    let mark = "restarted-by-an-admin";
    let stack = start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    admin.publish("tenants", with_tokens(mark, r::Tenancy::Shared)).await;
    let hers = alice.install("tenants", None, &[("token", "alices-token")]).await;
    bob.install("tenants", None, &[("token", "bobs-token")]).await;
    admin.assign("team", "tenants", "whoami").await;
    let (alices, bobs) = (stack.mcp("team", &alice).await, stack.mcp("team", &bob).await);
    let before = known(&alices, "tenants__whoami").await;
    known(&bobs, "tenants__whoami").await;

    // Alice sees whether it runs.
    let shown = alice.runtimes().get_runtime(runtime_of(&hers.name)).await;
    assert_eq!(
        shown.expect("it is hers").into_inner().state(),
        o::RuntimeState::Running
    );
    let restart = |name: &str| RestartRuntimeRequest {
        name: format!("{name}/runtime"),
        ..RestartRuntimeRequest::default()
    };
    let log = |name: &str| StreamRuntimeLogsRequest {
        name: format!("{name}/runtime"),
        ..StreamRuntimeLogsRequest::default()
    };
    // What Bob's calls wrote is not for her, and his calls are not hers to interrupt.
    for refused in [
        alice.runtimes().restart_runtime(restart(&hers.name)).await.err(),
        alice.runtimes().stream_runtime_logs(log(&hers.name)).await.err(),
    ] {
        let refused = refused.expect("it is refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "SHARED_RUNTIME")
        );
    }
    for refused in [
        alice.runtimes().get_runtime(runtime_of("entries/tenants")).await.err(),
        alice.runtimes().restart_runtime(restart("entries/tenants")).await.err(),
        alice.runtimes().stream_runtime_logs(log("entries/tenants")).await.err(),
    ] {
        assert_eq!(refused.expect("it is refused").code(), Code::PermissionDenied);
    }
    let mut lines = admin.runtimes().stream_runtime_logs(log("entries/tenants")).await;
    let lines = lines.as_mut().expect("an admin may").get_mut();
    let mut all = String::new();
    while let Some(line) = lines.message().await.expect("the log") {
        all.push_str(&line.line);
    }
    assert!(
        all.contains("called by") && !all.contains("alices-token") && !all.contains("bobs-token"),
        "{all}"
    );

    let restarted = admin.runtimes().restart_runtime(restart("entries/tenants")).await;
    let id = restarted.expect("an admin may").into_inner().restart_id;
    eventually("it has been restarted", || async {
        let runtime = admin.runtimes().get_runtime(runtime_of("entries/tenants")).await;
        (runtime.expect("an admin may").into_inner().observed_restart_id == id).then_some(())
    })
    .await;
    // One restart for both, and it is reported on the entry: their installations are as they were.
    for (client, token) in [(&alices, "Bearer alices-token"), (&bobs, "Bearer bobs-token")] {
        let after = known(client, "tenants__whoami").await;
        assert_eq!((&after["caller"], &after["openedBy"]), (&json!(token), &json!(token)));
        assert_ne!(after["process"], before["process"]);
    }
    let now = alice.installation(&hers.name).await.expect("it is hers");
    assert_eq!(now.registry_revision, hers.registry_revision);
    let entry = admin.entry("tenants").await.expect("an admin may");
    let ready = entry
        .conditions
        .iter()
        .find(|c| c.r#type() == r::ConditionType::RuntimeReady);
    assert_eq!(ready.map(r::Condition::status), Some(r::ConditionStatus::True));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_bring_the_token_that_they_call_with() {
    let mark = "the-token-that-they-call-with";
    let stack = start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    let token = claims(alice.token());
    let audience = token["aud"].as_str().or(token["aud"][0].as_str()).expect("a text");
    let model = r::JwtPassthroughCredential {
        issuer: token["iss"].as_str().expect("a text").to_owned(),
        audiences: vec![audience.to_owned()],
        ..r::JwtPassthroughCredential::default()
    };
    let entry = r::Entry {
        credential_model: Some(CredentialModel::JwtPassthrough(model)),
        ..multi_tenant(mark, r::Tenancy::Shared)
    };
    admin.publish("own", entry).await;
    for person in [&alice, &bob] {
        person.install_and_discover("own").await;
    }
    admin.assign("team", "own", "whoami").await;
    for person in [&alice, &bob] {
        let known = known(&stack.mcp("team", person).await, "own__whoami").await;
        let own = json!(format!("Bearer {}", person.token()));
        assert_eq!((&known["caller"], &known["openedBy"]), (&own, &own));
    }
    assert_eq!(servers(&stack, mark).len(), 1);
}

/// An owner has agreed to a process of their own; that others use it, too, is another destination.
#[tokio::test(flavor = "multi_thread")]
async fn owners_agree_before_their_token_goes_to_a_process_of_all() {
    let mark = "a-process-each-then-one-for-all";
    let stack = start().await;
    let (admin, alice, bob) = (stack.admin(), stack.member("alice"), stack.member("bob"));
    admin
        .publish("tenants", with_tokens(mark, r::Tenancy::OnePerInstallation))
        .await;
    let hers = alice.install("tenants", None, &[("token", "alices-token")]).await;
    let his = bob.install("tenants", None, &[("token", "bobs-token")]).await;
    admin.assign("team", "tenants", "whoami").await;
    let client = stack.mcp("team", &alice).await;
    assert_eq!(servers(&stack, mark).len(), 2);

    let shared = r::Entry {
        name: "entries/tenants".to_owned(),
        ..with_tokens(mark, r::Tenancy::Shared)
    };
    admin
        .update_entry(shared, &["self_hosted"])
        .await
        .expect("an admin may");
    eventually("there is one server", || async {
        (servers(&stack, mark).len() == 1).then_some(())
    })
    .await;
    let refused = client.call("tenants__whoami", json!({})).await;
    assert_eq!(
        refused["result"]["structuredContent"]["error"], "destination_changed",
        "{refused}"
    );
    let credential = alice.credential(&hers.name).await;
    let mut told = credential.changes.iter().filter_map(|change| change.after.as_ref());
    assert!(
        told.any(|after| after.text.contains("shared by all installations")),
        "{credential:?}"
    );
    alice
        .confirm(&hers.name, &credential.present_destination)
        .await
        .expect("it is hers");
    alice.until_ready(&hers.name).await;
    assert_eq!(known(&client, "tenants__whoami").await["caller"], "Bearer alices-token");
    // Bob has not agreed: his token went nowhere.
    let his = bob.installation(&his.name).await.expect("it is his");
    assert_eq!(his.state(), r::InstallationState::Failed);

    // With its entry, nothing is left.
    let request = r::DeleteEntryRequest {
        name: "entries/tenants".to_owned(),
        force: true,
        ..r::DeleteEntryRequest::default()
    };
    admin.entries().delete_entry(request).await.expect("an admin may");
    no_process_with(mark).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_would_mix_its_installations_up_is_refused_at_once() {
    let stack = start().await;
    let mut entry = with_tokens("refused", r::Tenancy::Shared);
    for (key, variable) in [("one", "ONE"), ("two", "TWO")] {
        entry.install_fields.push(walk::environment_secret(key, variable));
    }
    let status = stack
        .admin()
        .create_entry("mixed", entry)
        .await
        .expect_err("it is refused");
    let fields = ["[1]", "[2]"].map(|at| format!("entry.install_fields{at}.environment_variable"));
    assert_eq!(bad_fields(&status), fields);
}
