//! Recognizable secrets are stored, used, rotated and rejected. Then everything that Chandlery writes, returns or
//! starts is searched for them. Only the one server that should have a secret has it.
//!
//! Tools: node

use contracts::{credential as c, registry as r};
use integration_tests::{
    Caller, Stack,
    canary::{Answers, Search, call_everything},
    eventually,
    process::processes,
    tools::{Tool, npm_command},
    upstream::recording::RecordingUpstream,
    walk,
};
use serde_json::json;
use tonic::Response;

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

    fn all(&self) -> [&str; 6] {
        [
            &self.header,
            &self.rotated,
            &self.environment,
            &self.file,
            &self.shared,
            &self.refused,
        ]
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
    call_everything(
        &answers,
        &stack,
        &[&admin, &alice],
        &["api", "hosted", "shared"],
        &["api__echo"],
    )
    .await;

    let mut search = Search::new(canaries.all());
    search.answers(&answers);
    search.log(&stack);
    // Files that were given to a server belong to the server.
    search.data(&stack, |bytes| bytes == canaries.file.as_bytes());
    // The one server that should have a secret, and its descendants.
    let own = i32::try_from(std::process::id()).expect("a pid is small");
    let mut holders = 0;
    for process in processes().iter().filter(|process| process.pid != own) {
        search.look(
            &format!("the arguments of process {}", process.pid),
            process.arguments.as_bytes(),
        );
        let server = process.arguments.contains("server-everything");
        if server && process.environment.contains(&canaries.environment) {
            holders += 1;
            continue;
        }
        search.look(
            &format!("the environment of {}", process.arguments),
            process.environment.as_bytes(),
        );
    }
    assert!(holders > 0, "the server got its secret");
    search.found_nothing();
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
