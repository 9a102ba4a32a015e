//! A secret of a self-hosted server goes to what its owner has agreed to, and to nothing else.

mod support;

use contracts::{
    credential::{Credential, DestinationPart, PutInstallationCredentialRequest},
    registry::{
        ArgumentTarget, Entry, InstallField, InstallFieldType, SelfHostedServer, ServerFile, entry::Server,
        install_field,
    },
};
use pretty_assertions::assert_eq;
use support::{
    Stack,
    entries::{environment, header, secret, self_hosted, stored},
    fake_registry::FakeRegistry,
    put, reason, refused,
};
use tempfile::TempDir;

fn entry(edit: impl FnOnce(&mut SelfHostedServer, &mut Vec<InstallField>)) -> Entry {
    let mut region = secret("region", false, None);
    region.set_type(InstallFieldType::String);
    region.target = Some(install_field::Target::Argument(ArgumentTarget {
        template: vec!["--region={value}".to_owned()],
        expose_in_arguments: false,
    }));
    let mut fields = vec![secret("token", true, environment("TOKEN")), region];
    let mut entry = self_hosted("e", "npx", Vec::new());
    let Some(Server::SelfHosted(server)) = &mut entry.server else {
        unreachable!()
    };
    server.arguments = ["-y", "@corp/tracker@1.0.0"].map(str::to_owned).into();
    edit(server, &mut fields);
    entry.install_fields = fields;
    entry
}

async fn start() -> (FakeRegistry, Stack, TempDir) {
    let registry = FakeRegistry::new();
    registry.save_entry(entry(|_, _| {}));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put("alice", "i", &[("token", "t0ken")]).await.unwrap();
    (registry, stack, directory)
}

async fn vended(registry: &FakeRegistry, stack: &Stack) -> Result<Vec<String>, String> {
    let vended = stack
        .runtime("i", &registry.binding("i"))
        .await
        .map_err(|status| reason(&status))?;
    Ok(vended.fields.into_iter().map(|field| field.value).collect())
}

/// Part, name, before, after.
fn changes(credential: &Credential) -> Vec<(DestinationPart, &str, &str, &str)> {
    credential
        .changes
        .iter()
        .map(|change| {
            let before = change.before.as_ref().map_or("", |text| text.text.as_str());
            let after = change.after.as_ref().map_or("", |text| text.text.as_str());
            (change.part(), change.name.as_str(), before, after)
        })
        .collect()
}

#[tokio::test]
async fn other_code_gets_nothing_before_its_owner_agrees() {
    use DestinationPart as P;
    let (registry, stack, _directory) = start().await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
    type Edit = fn(&mut SelfHostedServer, &mut Vec<InstallField>);
    type Told = (P, &'static str, &'static str, &'static str);
    let attacks: [(Edit, Told); 7] = [
        (
            |server, _| {
                server.files.push(ServerFile {
                    path: ".npmrc".to_owned(),
                    content: "registry=https://evil.example".to_owned(),
                })
            },
            (P::File, ".npmrc", "", "registry=https://evil.example"),
        ),
        (
            |server, _| {
                drop(
                    server
                        .environment
                        .insert("NODE_OPTIONS".to_owned(), "-r ./x".to_owned()),
                )
            },
            (P::Environment, "NODE_OPTIONS", "", "-r ./x"),
        ),
        (
            |server, _| server.arguments.insert(1, "--registry=https://evil.example".to_owned()),
            (P::Argument, "2", "", "--registry=https://evil.example"),
        ),
        (
            |server, _| server.arguments[1] = "@evil/tracker@1.0.0".to_owned(),
            (P::Package, "2", "@corp/tracker@1.0.0", "@evil/tracker@1.0.0"),
        ),
        (
            |server, _| server.arguments[1] = "@corp/tracker@npm:evil@1".to_owned(),
            (P::Argument, "2", "@corp/tracker@1.0.0", "@corp/tracker@npm:evil@1"),
        ),
        (
            |server, _| server.command = "docker".to_owned(),
            (P::Command, "", "npx", "docker"),
        ),
        (
            |_, fields| {
                fields[1].target = Some(install_field::Target::Argument(ArgumentTarget {
                    template: vec!["--proxy=https://{value}.evil.example".to_owned()],
                    expose_in_arguments: false,
                }));
            },
            (
                P::Template,
                "region",
                "value, prompted, to arguments [\"--region={value}\"] in place 1",
                "value, prompted, to arguments [\"--proxy=https://{value}.evil.example\"] in place 1",
            ),
        ),
    ];
    for (edit, expected) in attacks {
        let agreed = registry.binding("i");
        registry.save_entry(entry(edit));
        let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
        assert!(
            condition.message.contains("what runs has changed"),
            "{}",
            condition.message
        );
        assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
        // Nor to a caller who does not know the change yet.
        refused(stack.runtime("i", &agreed).await, "DESTINATION_CHANGED");
        let credential = stack.get("alice", "i").await.unwrap();
        assert_eq!(changes(&credential), [expected]);
        assert_eq!(
            (
                credential.bound_destination.as_str(),
                credential.present_destination.as_str()
            ),
            (agreed.as_str(), registry.binding("i").as_str())
        );
        assert_eq!(credential.bound_description, "npx -y @corp/tracker@1.0.0");
        refused(stack.confirm("alice", "i", &agreed).await, "DESTINATION_STALE");
        registry.save_entry(entry(|_, _| {}));
        registry.reason("i", "STORED").await;
        assert_eq!(
            vended(&registry, &stack).await.unwrap(),
            ["t0ken"],
            "as it was agreed to"
        );
    }
    registry.save_entry(entry(|server, _| server.arguments.push("--verbose".to_owned())));
    registry.reason("i", "DESTINATION_CHANGED").await;
    let seen = stack.get("alice", "i").await.unwrap().present_destination;
    let confirmed = stack.confirm("alice", "i", &seen).await.unwrap();
    assert_eq!((confirmed.bound_destination, confirmed.changes.len()), (seen, 0));
    assert_eq!(confirmed.bound_description, "npx -y @corp/tracker@1.0.0 --verbose");
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
    assert_eq!(stack.get("alice", "i").await.unwrap().changes, []);
}

#[tokio::test]
async fn a_new_version_needs_no_confirmation_unless_the_entry_requires_it() {
    let (registry, stack, _directory) = start().await;
    registry.save_entry(entry(|server, _| {
        server.arguments[1] = "@corp/tracker@2.0.0".to_owned()
    }));
    registry.reason("i", "STORED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
    let credential = stack.get("alice", "i").await.unwrap();
    assert_eq!(credential.bound_destination, credential.present_destination);
    assert_eq!(credential.present_description, "npx -y @corp/tracker@2.0.0");
    let demanding = |version: &str| {
        let package = format!("@corp/tracker@{version}");
        entry(|server, _| {
            server.arguments[1] = package;
            server.confirm_new_versions = true;
        })
    };
    registry.save_entry(demanding("2.0.0"));
    registry.reason("i", "DESTINATION_CHANGED").await;
    stack.confirm("alice", "i", &registry.binding("i")).await.unwrap();
    registry.save_entry(demanding("3.0.0"));
    registry.reason("i", "DESTINATION_CHANGED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    assert_eq!(
        changes(&stack.get("alice", "i").await.unwrap()),
        [(
            DestinationPart::Argument,
            "2",
            "@corp/tracker@2.0.0",
            "@corp/tracker@3.0.0"
        )]
    );
}

#[tokio::test]
async fn values_of_somebody_else_are_held_until_the_owner_agrees() {
    let (registry, stack, _directory) = start().await;
    registry.set_values("i", &[("region", "eu")], true);
    registry.reason("i", "STORED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"], "her own choice");
    stack.put("alice", "i", &[("token", "t0ken")]).await.unwrap();

    registry.set_values("i", &[("region", "evil")], false);
    let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
    assert!(
        condition.message.contains("somebody else has changed the values"),
        "{}",
        condition.message
    );
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    let seen = stack.get("alice", "i").await.unwrap();
    assert_eq!(
        changes(&seen),
        [(DestinationPart::InstallationValue, "region", "eu", "evil")]
    );
    // It changes again while she looks at it.
    registry.set_values("i", &[("region", "worse")], false);
    registry.reason("i", "DESTINATION_CHANGED").await;
    refused(
        stack.confirm("alice", "i", &seen.present_destination).await,
        "DESTINATION_STALE",
    );
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    let seen = stack.get("alice", "i").await.unwrap().present_destination;
    stack.confirm("alice", "i", &seen).await.unwrap();
    registry.reason("i", "STORED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);

    // What she sets needs no confirmation; what an admin sets does, even if she confirmed the same value before.
    registry.set_values("i", &[("region", "us")], true);
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
    let credential = stack.get("alice", "i").await.unwrap();
    assert_eq!(
        (credential.bound_destination, credential.changes.len()),
        (credential.present_destination, 0)
    );
    registry.set_values("i", &[("region", "worse")], false);
    registry.reason("i", "DESTINATION_CHANGED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    // Her own values need no confirmation.
    registry.set_values("i", &[("region", "eu")], true);
    registry.reason("i", "STORED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
}

/// The message about a later change of the entry does not mention values that the owner confirmed before.
#[tokio::test]
async fn agreed_values_are_no_reason_for_what_changes_later() {
    let (registry, stack, _directory) = start().await;
    let values = "somebody else has changed the values";
    let code = "what runs has changed";
    registry.set_values("i", &[("region", "eu")], false);
    let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
    assert!(condition.message.contains(values) && !condition.message.contains(code));
    stack.confirm("alice", "i", &registry.binding("i")).await.unwrap();
    registry.reason("i", "STORED").await;

    registry.save_entry(entry(|server, _| server.command = "bunx".to_owned()));
    let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
    let told = &condition.message;
    assert!(told.contains(code) && !told.contains(values), "{told}");
    assert!(
        told.contains("their owner must") && !told.contains("@corp/tracker"),
        "{told}"
    );

    registry.set_values("i", &[("region", "us")], false);
    let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
    let told = &condition.message;
    assert!(told.contains(code) && told.contains(values), "{told}");
}

#[tokio::test]
async fn an_installations_values_do_not_hold_what_is_stored_on_the_entry() {
    let registry = FakeRegistry::new();
    registry.save_entry(entry(|_, fields| fields[0] = stored(fields[0].clone())));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("token", "ours")]).await.unwrap();
    registry.set_values("i", &[("region", "eu")], false);
    registry.reason("i", "NOT_REQUIRED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["ours"]);
}

#[tokio::test]
async fn a_secret_goes_where_it_was_shown_to_go_or_nowhere() {
    let (registry, stack, _directory) = start().await;
    let put_to = async |destination: &str| {
        let request = PutInstallationCredentialRequest {
            destination: destination.to_owned(),
            ..put("i", &[("token", "new")])
        };
        stack
            .people()
            .put_installation_credential(stack.of("alice", request))
            .await
    };
    let seen = registry.binding("i");
    registry.save_entry(entry(|server, _| server.command = "bunx".to_owned()));
    registry.reason("i", "DESTINATION_CHANGED").await;
    refused(put_to(&seen).await, "DESTINATION_STALE");
    put_to(&registry.binding("i")).await.unwrap();
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["new"]);
}

/// A file or a variable that an admin stores as a secret decides what runs, like everything else.
#[tokio::test]
async fn other_secrets_of_the_entry_are_other_code() {
    let registry = FakeRegistry::new();
    let fields =
        |fields: &mut Vec<InstallField>| fields.push(stored(secret("code", true, environment("NODE_OPTIONS"))));
    registry.save_entry(entry(|_, all| fields(all)));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("code", "good")]).await.unwrap();
    stack.put("alice", "i", &[("token", "t0ken")]).await.unwrap();
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken", "good"]);

    stack.put_entry("admin", "e", &[("code", "-r ./evil")]).await.unwrap();
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    let (condition, _) = registry.reason("i", "DESTINATION_CHANGED").await;
    assert!(
        condition.message.contains("secrets of the entry"),
        "{}",
        condition.message
    );
    let seen = stack.get("alice", "i").await.unwrap();
    assert_eq!(
        (
            seen.changes.len(),
            seen.changes[0].part(),
            seen.changes[0].name.as_str()
        ),
        (1, DestinationPart::StoredSecret, "code")
    );
    assert!(!format!("{seen:?}").contains("evil"), "which it is, not what");
    // Changed again while she looks.
    stack.put_entry("admin", "e", &[("code", "-r ./worse")]).await.unwrap();
    refused(
        stack.confirm("alice", "i", &seen.present_destination).await,
        "DESTINATION_STALE",
    );
    let seen = stack.get("alice", "i").await.unwrap();
    stack.confirm("alice", "i", &seen.present_destination).await.unwrap();
    registry.reason("i", "STORED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken", "-r ./worse"]);
}

/// The new revision prompts for no secret, so the entry is no longer mixed; its installation is, until it follows.
#[tokio::test]
async fn other_secrets_of_the_entry_are_other_code_for_an_earlier_revision() {
    let registry = FakeRegistry::new();
    let code = || stored(secret("code", true, environment("NODE_OPTIONS")));
    registry.save_entry(entry(|_, fields| fields.push(code())));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("code", "good")]).await.unwrap();
    stack.put("alice", "i", &[("token", "t0ken")]).await.unwrap();
    registry.reason("i", "STORED").await;
    registry.save_entry_ahead(entry(|_, fields| fields[0] = code()));
    registry.entry_reason("e", "DESTINATION_CHANGED").await;
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken", "good"]);

    stack.put_entry("admin", "e", &[("code", "-r ./evil")]).await.unwrap();
    assert_eq!(vended(&registry, &stack).await.unwrap_err(), "DESTINATION_CHANGED");
    registry.reason("i", "DESTINATION_CHANGED").await;
}

/// A secret that is sent with each request, and not to the server, does not decide what runs.
#[tokio::test]
async fn a_rotated_header_of_the_entry_needs_no_confirmation() {
    let registry = FakeRegistry::new();
    registry.save_entry(entry(|_, all| {
        all.push(stored(secret("shared", true, header("x-key"))))
    }));
    registry.install("i", "e", "alice");
    let directory = tempfile::tempdir().unwrap();
    let stack = Stack::start(directory.path(), &registry).await;
    stack.put_entry("admin", "e", &[("shared", "one")]).await.unwrap();
    stack.put("alice", "i", &[("token", "t0ken")]).await.unwrap();
    stack.put_entry("admin", "e", &[("shared", "two")]).await.unwrap();
    assert_eq!(vended(&registry, &stack).await.unwrap(), ["t0ken"]);
}
