//! Recognizable secrets are stored, used, rotated and rejected. Then everything that Chandlery writes, returns or
//! starts is searched for them. Only the one server that should have a secret has it.
//!
//! Tools: node

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use contracts::{credential as c, gateway as g, orchestrator as o, registry as r};
use integration_tests::{
    Caller, Stack, eventually,
    mcp::{McpOptions, Reply},
    process::processes,
    tools::{Tool, npm_command},
    upstream::recording::RecordingUpstream,
    walk,
};
use prost::Message;
use serde_json::json;
use tonic::{Response, Status};

/// The request, and the bytes of its response.
type Answer = (String, Vec<u8>);

/// All responses, each with the name of its request.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    fn keep(&self, what: &str, bytes: Vec<u8>) {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .push((what.to_owned(), bytes));
    }

    fn grpc<T: Message>(&self, what: &str, answer: Result<Response<T>, Status>) {
        match answer {
            Ok(response) => {
                self.keep(what, format!("{:?}", response.metadata()).into_bytes());
                self.keep(what, response.into_inner().encode_to_vec());
            }
            Err(status) => {
                self.keep(what, format!("{status:?}").into_bytes());
                self.keep(what, status.details().to_vec());
            }
        }
    }

    fn http(&self, what: &str, reply: &Reply) {
        self.keep(what, format!("{:?}\n{}", reply.headers, reply.text).into_bytes());
    }
}

/// The secrets. They are random, so that no file of the repository, of the build or of another run contains them.
struct Canaries {
    header: String,
    rotated: String,
    environment: String,
    file: String,
    shared: String,
    refused: String,
}

impl Canaries {
    fn new() -> Self {
        let make = |what: &str| format!("canary-{what}-{}", uuid::Uuid::new_v4().simple());
        Self {
            header: make("header"),
            rotated: make("rotated"),
            environment: make("environment"),
            file: make("file"),
            shared: make("shared"),
            refused: make("refused"),
        }
    }

    /// The secrets in plain, and in the encodings in which they could leak.
    fn forms(&self) -> Vec<(String, Vec<u8>)> {
        use data_encoding::{BASE64, HEXLOWER};
        [
            &self.header,
            &self.rotated,
            &self.environment,
            &self.file,
            &self.shared,
            &self.refused,
        ]
        .into_iter()
        .flat_map(|secret| {
            let bytes = secret.as_bytes();
            [
                (secret.clone(), bytes.to_vec()),
                (
                    format!("{secret} in base64"),
                    BASE64.encode(bytes).trim_end_matches('=').as_bytes()[..40].to_vec(),
                ),
                (format!("{secret} in hex"), HEXLOWER.encode(bytes).into_bytes()),
            ]
        })
        .collect()
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_do_not_leak() {
    let canaries = Canaries::new();
    let answers = Answers::default();
    let stack = Stack::builder().variable("RUST_LOG", "trace").start().await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    let upstream = RecordingUpstream::start().await;

    use_secrets(&canaries, &answers, &stack, &admin, &alice, &upstream).await;
    call_everything(&answers, &stack, &admin, &alice).await;

    let forms = canaries.forms();
    let mut leaks = Vec::new();
    let mut search = |place: &str, bytes: &[u8]| {
        for (secret, form) in &forms {
            if holds(bytes, form) {
                leaks.push(format!("{secret}: {place}"));
            }
        }
    };
    for (what, bytes) in answers.0.lock().expect("no holder of this lock panics").iter() {
        search(&format!("the answer to {what}"), bytes);
    }
    let lines = stack.lines().all();
    assert!(
        lines.iter().any(|line| line.contains("TRACE")),
        "the log is at its most verbose"
    );
    for line in &lines {
        search(
            &format!("the log: {}", &line.chars().take(300).collect::<String>()),
            line.as_bytes(),
        );
    }
    // The whole data folder: the registry's database, the encrypted store and other files. Files that were given to a
    // server belong to the server.
    let mut paths = Vec::new();
    files(&stack.data_dir(), &mut paths);
    assert!(
        paths
            .iter()
            .any(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))),
        "{paths:?}"
    );
    for path in &paths {
        let bytes = fs::read(path).unwrap_or_default();
        let given = bytes == canaries.file.as_bytes();
        if !given {
            search(&format!("the file {}", path.display()), &bytes);
        }
    }
    // The one server that should have a secret, and its descendants.
    let own = i32::try_from(std::process::id()).expect("a pid is small");
    let mut holders = 0;
    for process in processes().iter().filter(|process| process.pid != own) {
        search(
            &format!("the arguments of process {}", process.pid),
            process.arguments.as_bytes(),
        );
        let server = process.arguments.contains("server-everything");
        if server && process.environment.contains(&canaries.environment) {
            holders += 1;
            continue;
        }
        search(
            &format!("the environment of {}", process.arguments),
            process.environment.as_bytes(),
        );
    }
    assert!(holders > 0, "the server got its secret");
    leaks.sort();
    leaks.dedup();
    assert!(leaks.is_empty(), "secrets leaked:\n{}", leaks.join("\n"));
}

/// Stores, uses, rotates and mistypes secrets in every possible way.
async fn use_secrets(
    k: &Canaries,
    answers: &Answers,
    stack: &Stack,
    admin: &Caller,
    alice: &Caller,
    upstream: &RecordingUpstream,
) {
    upstream.require(
        "authorization",
        &[&format!("Bearer {}", k.header), &format!("Bearer {}", k.rotated)],
    );
    admin
        .publish(
            "api",
            walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer()),
        )
        .await;
    let api = alice.install("api", None, &[("key", &k.header)]).await;
    admin.gateway("team").await;
    admin.assign("team", "api", "echo").await;

    let node = Tool::Node.path().to_string_lossy().into_owned();
    let everything = npm_command("mcp-server-everything").to_string_lossy().into_owned();
    let mut hosted = walk::stdio(&node, &[&everything, "stdio"]);
    hosted
        .install_fields
        .push(walk::environment_secret("key", "CANARY_KEY"));
    hosted.install_fields.push(r::InstallField {
        r#type: r::InstallFieldType::File.into(),
        target: Some(r::install_field::Target::MountedFile(r::MountedFileTarget {
            path: "key.json".to_owned(),
            path_environment_variable: "CANARY_FILE".to_owned(),
        })),
        ..walk::secret("file")
    });
    let mut shared = walk::with_static(walk::remote(&upstream.url()), "key", walk::bearer());
    shared.install_fields[0].source = r::InstallFieldSource::Stored.into();
    admin.publish("hosted", hosted).await;
    admin.publish("shared", shared).await;
    alice
        .install("hosted", None, &[("key", &k.environment), ("file", &k.file)])
        .await;
    admin.assign("team", "hosted", "get-env").await;
    let request = c::PutEntryCredentialRequest {
        entry: "entries/shared".to_owned(),
        values: walk::secrets(&[("key", &k.shared)]),
        request_id: walk::request_id(),
        destination: String::new(),
    };
    answers.grpc(
        "PutEntryCredential",
        admin.credentials().put_entry_credential(request).await,
    );
    // The upstream rejects this secret, so the discovery fails while it uses the secret.
    let refused = alice
        .create_installation("shared", None, &[])
        .await
        .expect("she may install");
    eventually("the upstream has refused the shared secret", || async {
        upstream
            .requests()
            .iter()
            .any(|request| request.values("authorization") == [format!("Bearer {}", k.shared)])
            .then_some(())
    })
    .await;
    answers.grpc(
        "GetInstallation",
        alice
            .installations()
            .get_installation(r::GetInstallationRequest { name: refused.name })
            .await,
    );

    let client = stack.mcp("team", alice).await;
    client.call_text("api__echo", json!({"text": "with the first"})).await;
    // This response may contain the secret, because the server itself returns it. It also proves that the server has
    // the secret.
    assert!(
        client
            .call_text("hosted__get-env", json!({}))
            .await
            .contains(&k.environment)
    );
    let rotate = |value: &str| c::PutInstallationCredentialRequest {
        installation: api.name.clone(),
        values: walk::secrets(&[("key", value)]),
        request_id: walk::request_id(),
        destination: String::new(),
    };
    answers.grpc(
        "PutInstallationCredential",
        alice
            .credentials()
            .put_installation_credential(rotate(&k.rotated))
            .await,
    );
    client.call_text("api__echo", json!({"text": "with the second"})).await;

    // Rejected for each reason: too long, with a line break, for a field that does not exist, for another person's
    // installation.
    let bob = stack.member("bob");
    for (who, value) in [
        (alice, k.refused.repeat(20_000)),
        (alice, format!("{}\r\nx-evil: 1", k.refused)),
        (&bob, k.refused.clone()),
    ] {
        let answer = who.credentials().put_installation_credential(rotate(&value)).await;
        assert!(answer.is_err());
        answers.grpc("PutInstallationCredential, refused", answer);
    }
    let mut wrong = rotate(&k.refused);
    wrong.values[0].key = "no-such-field".to_owned();
    answers.grpc(
        "PutInstallationCredential, refused",
        alice.credentials().put_installation_credential(wrong).await,
    );
    // A person enters the secret in the wrong place. A value for a secret field is rejected.
    let misplaced = alice.create_installation("api", None, &[("key", &k.refused)]).await;
    answers.grpc("CreateInstallation, refused", misplaced.map(Response::new));
    // The upstream rejects the current secret. Neither the error nor the repair link may contain it.
    upstream.require("authorization", &["Bearer nothing"]);
    let (_, reply) = client
        .send("tools/call", json!({"name": "api__echo", "arguments": {"text": "x"}}))
        .await;
    answers.http("tools/call with a refused credential", &reply);
    // A message that breaks off in the middle.
    answers.http(
        "garbage",
        &client
            .post_text(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":{}", "["))
            .await,
    );
}

/// Calls everything that returns a response.
async fn call_everything(answers: &Answers, stack: &Stack, admin: &Caller, alice: &Caller) {
    for who in [admin, alice] {
        answers.grpc(
            "ListEntries",
            who.entries().list_entries(r::ListEntriesRequest::default()).await,
        );
        for entry in ["api", "hosted", "shared"] {
            let name = format!("entries/{entry}");
            answers.grpc(
                "GetEntry",
                who.entries().get_entry(r::GetEntryRequest { name: name.clone() }).await,
            );
            let request = r::ListEntryRevisionsRequest {
                parent: name.clone(),
                ..Default::default()
            };
            answers.grpc("ListEntryRevisions", who.entries().list_entry_revisions(request).await);
            let request = r::ListEntryToolsRequest {
                parent: name.clone(),
                ..Default::default()
            };
            answers.grpc("ListEntryTools", who.entries().list_entry_tools(request).await);
            let request = c::GetEntryCredentialRequest { entry: name };
            answers.grpc(
                "GetEntryCredential",
                who.credentials().get_entry_credential(request).await,
            );
        }
        let request = r::ListInstallationsRequest {
            page_size: 500,
            ..Default::default()
        };
        let all = who.installations().list_installations(request).await;
        for installation in all
            .as_ref()
            .map(|list| list.get_ref().installations.clone())
            .unwrap_or_default()
        {
            let name = installation.name;
            let request = r::GetInstallationRequest { name: name.clone() };
            answers.grpc("GetInstallation", who.installations().get_installation(request).await);
            let request = c::GetInstallationCredentialRequest {
                installation: name.clone(),
            };
            answers.grpc(
                "GetInstallationCredential",
                who.credentials().get_installation_credential(request).await,
            );
            let request = o::GetRuntimeRequest {
                name: format!("{name}/runtime"),
            };
            answers.grpc("GetRuntime", who.runtimes().get_runtime(request).await);
            let request = o::StreamRuntimeLogsRequest {
                name: format!("{name}/runtime"),
                tail_lines: 1000,
                ..Default::default()
            };
            match who.runtimes().stream_runtime_logs(request).await {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    while let Ok(Some(line)) = stream.message().await {
                        answers.keep("StreamRuntimeLogs", line.line.into_bytes());
                    }
                }
                Err(status) => answers.grpc::<o::Runtime>("StreamRuntimeLogs", Err(status)),
            }
            let request = g::DiscoverToolsRequest { installation: name };
            answers.grpc("DiscoverTools", who.tools().discover_tools(request).await);
        }
        answers.grpc("ListInstallations", all);
        let parent = "gateways/team".to_owned();
        let request = g::ListToolsRequest {
            parent: parent.clone(),
            ..Default::default()
        };
        answers.grpc("ListTools", who.tools().list_tools(request).await);
        let tool = "api__echo".to_owned();
        let request = g::ExplainResolutionRequest {
            parent: parent.clone(),
            exposed_name: tool.clone(),
            ..Default::default()
        };
        answers.grpc("ExplainResolution", who.tools().explain_resolution(request).await);
        let request = g::CallToolRequest {
            parent,
            exposed_name: tool,
            arguments_json: "{}".to_owned(),
        };
        answers.grpc("CallTool", who.tools().call_tool(request).await);
        let client = stack
            .mcp_with("team", who, McpOptions::default())
            .await
            .expect("it is accepted");
        answers.http("tools/list", &client.send("tools/list", json!({})).await.1);
    }
    integration_tests::tls::install_crypto();
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client without TLS settings");
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/",
        "/install/api",
        "/install/hosted?gateway=team",
        "/mcp/team",
        "/nothing",
    ] {
        let answer = http.get(stack.url(path)).send().await.expect("an answer");
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.unwrap_or_default();
        answers.keep(&format!("GET {path}"), format!("{headers}\n{text}").into_bytes());
    }
}
