//! The program is killed at random moments of a busy run, twenty times, and restarted. Everything it acknowledged must
//! exist, nothing may be incomplete, and no child process may be left. The test keeps the ledger of acknowledged
//! requests.
//!
//! Tools: python

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use contracts::{
    credential as c,
    registry::{self as r, InstallationState},
};
use integration_tests::{
    Caller, McpClient, Stack, eventually,
    mcp::McpOptions,
    process::no_process_with,
    tools::{python_command, python_folders},
    upstream::recording::RecordingUpstream,
    wait::eventually_within,
    walk,
};
use rand::Rng as _;
use serde_json::json;
use tonic::Code;

const ROUNDS: usize = 20;

/// A request that was sent, and whether it was acknowledged.
#[derive(Clone, Debug)]
struct Asked<T> {
    request: T,
    acknowledged: bool,
}

/// The requests that were sent, and those that were acknowledged.
#[derive(Default)]
struct Ledger {
    /// By entry id.
    entries: BTreeMap<String, Asked<r::CreateEntryRequest>>,
    /// By entry id, with the installation's name if it is known.
    installations: BTreeMap<String, (Asked<r::CreateInstallationRequest>, String)>,
    /// The secret of each installation, by installation name.
    secrets: BTreeMap<String, Asked<c::PutInstallationCredentialRequest>>,
    /// The last acknowledged label and the last one that was sent.
    label: (u64, u64),
    /// The last acknowledged value of the rotating secret and the last one that was sent.
    rotation: (u64, u64),
    calls: u64,
}

struct Run {
    ledger: Mutex<Ledger>,
    number: AtomicU64,
    stop: AtomicBool,
    upstream: RecordingUpstream,
    /// The installation with the rotating secret.
    rotating: String,
}

impl Run {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of this lock panics")
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn is_running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Creates entries and installs them with a secret, one after another, until stopped or disconnected.
async fn installs(run: Arc<Run>, admin: Caller, alice: Caller) {
    while run.is_running() {
        let id = format!("made-{}", run.next());
        let entry = walk::with_static(walk::remote(&run.upstream.url()), "key", walk::bearer());
        let request = r::CreateEntryRequest {
            entry_id: id.clone(),
            entry: Some(entry),
            request_id: walk::request_id(),
        };
        run.ledger().entries.insert(
            id.clone(),
            Asked {
                request: request.clone(),
                acknowledged: false,
            },
        );
        if admin.entries().create_entry(request).await.is_err() {
            return;
        }
        run.ledger()
            .entries
            .get_mut(&id)
            .expect("it is in the ledger")
            .acknowledged = true;
        let request = r::ApproveEntryRequest {
            name: format!("entries/{id}"),
            etag: String::new(),
        };
        if admin.entries().approve_entry(request).await.is_err() {
            return;
        }
        let installation = r::Installation {
            entry: format!("entries/{id}"),
            ..r::Installation::default()
        };
        let request = r::CreateInstallationRequest {
            installation: Some(installation),
            request_id: walk::request_id(),
        };
        let asked = Asked {
            request: request.clone(),
            acknowledged: false,
        };
        run.ledger().installations.insert(id.clone(), (asked, String::new()));
        let Ok(made) = alice.installations().create_installation(request).await else {
            return;
        };
        let name = made.into_inner().name;
        if let Some((asked, known)) = run.ledger().installations.get_mut(&id) {
            asked.acknowledged = true;
            known.clone_from(&name);
        }
        let request = c::PutInstallationCredentialRequest {
            installation: name.clone(),
            values: walk::secrets(&[("key", &format!("secret-of-{id}"))]),
            request_id: walk::request_id(),
            destination: String::new(),
        };
        run.ledger().secrets.insert(
            name.clone(),
            Asked {
                request: request.clone(),
                acknowledged: false,
            },
        );
        if alice.credentials().put_installation_credential(request).await.is_err() {
            return;
        }
        run.ledger()
            .secrets
            .get_mut(&name)
            .expect("it is in the ledger")
            .acknowledged = true;
    }
}

async fn rotates(run: Arc<Run>, alice: Caller) {
    while run.is_running() {
        let number = run.next();
        run.ledger().rotation.1 = number;
        if alice
            .put_secrets(&run.rotating, &[("key", &format!("rotated-{number}"))])
            .await
            .is_err()
        {
            return;
        }
        run.ledger().rotation.0 = number;
    }
}

async fn relabels(run: Arc<Run>, admin: Caller) {
    while run.is_running() {
        let number = run.next();
        run.ledger().label.1 = number;
        let labels = walk::labels(&[("round", &number.to_string()), ("kind", "rotating")]);
        let entry = r::Entry {
            name: "entries/rotating".to_owned(),
            labels,
            ..r::Entry::default()
        };
        if admin.update_entry(entry, &["labels"]).await.is_err() {
            return;
        }
        run.ledger().label.0 = number;
    }
}

async fn calls(run: Arc<Run>, url: String, token: String) {
    let Ok(client) = McpClient::connect(&url, Some(&token), McpOptions::default()).await else {
        return;
    };
    while run.is_running() {
        // If the connection breaks, the client's task panics, which does not matter here.
        let answer = client.call("rotating__echo", json!({"text": "still there"})).await;
        if answer["result"]["content"][0]["text"] == "still there" {
            run.ledger().calls += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_no_data_and_leave_no_process() {
    let mut stack = Stack::builder().flag("--server-read", python_folders()).start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let upstream = RecordingUpstream::start().await;
    admin
        .publish(
            "rotating",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let rotating = alice.install("rotating", None, &[("key", "rotated-0")]).await.name;
    // A local server with a child process that must not survive any kill.
    let mark = format!("chandlery-journey-{}", uuid::Uuid::new_v4());
    let script = format!(
        "setsid sleep 900 & exec \"{}\"",
        python_command("mcp-server-time").display()
    );
    let mut hosted = walk::stdio("/bin/sh", &["-c", &script]);
    if let Some(r::entry::Server::SelfHosted(server)) = &mut hosted.server {
        server
            .environment
            .insert("CHANDLERY_JOURNEY_MARK".to_owned(), mark.clone());
    }
    admin.publish("hosted", hosted).await;
    let hosted = alice.install("hosted", None, &[]).await.name;
    let mode = r::AssignmentMode::Automatic.into();
    let gateway = r::Gateway {
        labels: walk::labels(&[("kind", "rotating")]),
        assignment_mode: mode,
        ..r::Gateway::default()
    };
    admin.create_gateway("busy", gateway).await.expect("an admin may");
    let (admin_token, alice_token) = (admin.token().to_owned(), alice.token().to_owned());

    let run = Arc::new(Run {
        ledger: Mutex::default(),
        number: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        upstream,
        rotating,
    });
    // From the first change on, the label selects the gateway's tools.
    let entry = r::Entry {
        name: "entries/rotating".to_owned(),
        labels: walk::labels(&[("kind", "rotating")]),
        ..r::Entry::default()
    };
    admin.update_entry(entry, &["labels"]).await.expect("an admin may");

    for round in 1..=ROUNDS {
        let (admin, alice) = (
            stack.caller(Some(admin_token.clone())),
            stack.caller(Some(alice_token.clone())),
        );
        let mut busy = tokio::task::JoinSet::new();
        for _ in 0..2 {
            busy.spawn(installs(Arc::clone(&run), admin.clone(), alice.clone()));
        }
        busy.spawn(rotates(Arc::clone(&run), alice.clone()));
        busy.spawn(relabels(Arc::clone(&run), admin.clone()));
        for _ in 0..2 {
            busy.spawn(calls(Arc::clone(&run), stack.mcp_url("busy"), alice_token.clone()));
        }
        // The moment must be random.
        let moment = rand::rng().random_range(20..700);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        stack.kill().await;
        busy.shutdown().await;
        no_process_with(&mark).await;
        stack.start_again().await;
        check(
            &format!("round {round}, killed after {moment} ms"),
            &stack,
            &run,
            &admin_token,
            &alice_token,
        )
        .await;
        let alice = stack.caller(Some(alice_token.clone()));
        alice.until_ready(&hosted).await;
    }
    let ledger = run.ledger();
    assert!(
        ledger.calls > 0 && ledger.rotation.0 > 0 && ledger.label.0 > 0,
        "the run was not busy at all"
    );
    // How many depends on the machine.
    assert!(
        ledger.secrets.values().any(|asked| asked.acknowledged),
        "no secret was stored"
    );
}

async fn check(when: &str, stack: &Stack, run: &Run, admin_token: &str, alice_token: &str) {
    let (admin, alice) = (
        stack.caller(Some(admin_token.to_owned())),
        stack.caller(Some(alice_token.to_owned())),
    );
    let (entries, installations, secrets, label, rotation) = {
        let ledger = run.ledger();
        (
            ledger.entries.clone(),
            ledger.installations.clone(),
            ledger.secrets.clone(),
            ledger.label,
            ledger.rotation,
        )
    };
    for (id, asked) in &entries {
        match admin.entry(id).await {
            Ok(entry) => assert!(
                entry.server.is_some() && !entry.uid.is_empty(),
                "{when}: {id} is incomplete: {entry:?}"
            ),
            Err(status) => {
                assert!(
                    !asked.acknowledged && status.code() == Code::NotFound,
                    "{when}: {id} was acknowledged and is lost: {status:?}"
                );
                // A request that was not acknowledged is repeated with the same request id, and must take effect once.
                admin
                    .entries()
                    .create_entry(asked.request.clone())
                    .await
                    .unwrap_or_else(|status| panic!("{when}: {id} again: {status:?}"));
            }
        }
        if !asked.acknowledged {
            let again = admin.entries().create_entry(asked.request.clone()).await;
            again.unwrap_or_else(|status| panic!("{when}: {id} again: {status:?}"));
            run.ledger()
                .entries
                .get_mut(id)
                .expect("it is in the ledger")
                .acknowledged = true;
        }
        // An approval that was interrupted is repeated.
        if admin
            .entry(id)
            .await
            .is_ok_and(|entry| entry.lifecycle() == r::EntryLifecycle::Draft)
        {
            let request = r::ApproveEntryRequest {
                name: format!("entries/{id}"),
                etag: String::new(),
            };
            admin
                .entries()
                .approve_entry(request)
                .await
                .unwrap_or_else(|status| panic!("{when}: approve {id}: {status:?}"));
        }
    }
    for (id, (asked, name)) in &installations {
        let again = alice.installations().create_installation(asked.request.clone()).await;
        let made = again
            .unwrap_or_else(|status| panic!("{when}: the installation of {id} again: {status:?}"))
            .into_inner();
        assert!(
            !asked.acknowledged || made.name == *name,
            "{when}: the acknowledged installation of {id} is another now"
        );
        if let Some((asked, known)) = run.ledger().installations.get_mut(id) {
            asked.acknowledged = true;
            known.clone_from(&made.name);
        }
    }
    let request = r::ListInstallationsRequest {
        page_size: 500,
        user: "users/me".to_owned(),
        ..Default::default()
    };
    let all = alice
        .installations()
        .list_installations(request)
        .await
        .expect("hers")
        .into_inner()
        .installations;
    let made = all
        .iter()
        .filter(|installation| installation.entry.starts_with("entries/made-"))
        .count();
    assert_eq!(
        made,
        installations.len().min(500 - 2),
        "{when}: as many installations as were asked for"
    );
    for (name, asked) in &secrets {
        if !asked.acknowledged {
            let again = alice
                .credentials()
                .put_installation_credential(asked.request.clone())
                .await;
            again.unwrap_or_else(|status| panic!("{when}: the secret of {name} again: {status:?}"));
            run.ledger()
                .secrets
                .get_mut(name)
                .expect("it is in the ledger")
                .acknowledged = true;
        }
    }
    for name in secrets.keys() {
        let ready = eventually_within(Duration::from_secs(30), &format!("{when}: {name} is ready"), || async {
            alice
                .installation(name)
                .await
                .ok()
                .filter(|installation| installation.state() == InstallationState::Ready)
        })
        .await;
        assert!(ready.credential_generation > 0, "{when}: {name} has lost its secret");
    }

    let entry = admin.entry("rotating").await.expect("it was acknowledged");
    let labelled: u64 = entry
        .labels
        .get("round")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    assert!(
        labelled >= label.0 && labelled <= label.1,
        "{when}: label {labelled}, acknowledged {}, tried {}",
        label.0,
        label.1
    );

    // The secret in use is the last acknowledged one, or a later one whose response was lost.
    let client = eventually(&format!("{when}: the tools are back"), || async {
        let client = McpClient::connect(&stack.mcp_url("busy"), Some(alice_token), McpOptions::default())
            .await
            .ok()?;
        client
            .tool_names()
            .await
            .iter()
            .any(|name| name == "rotating__echo")
            .then_some(client)
    })
    .await;
    run.upstream.forget();
    assert_eq!(
        client.call_text("rotating__echo", json!({"text": "after"})).await,
        "after",
        "{when}"
    );
    let sent = run.upstream.last_call();
    let value = sent
        .values("authorization")
        .first()
        .copied()
        .unwrap_or_default()
        .to_owned();
    let used: u64 = value
        .strip_prefix("Bearer rotated-")
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{when}: {value}"));
    assert!(
        used >= rotation.0 && used <= rotation.1.max(rotation.0),
        "{when}: secret {used}, acknowledged {}, tried {}",
        rotation.0,
        rotation.1
    );
}
