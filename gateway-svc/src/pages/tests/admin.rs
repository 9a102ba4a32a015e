//! What an admin sees: the state of what others have installed, and never a secret or a token.

use contracts::{
    credential::Connection,
    registry::{
        ClientCredentialsCredential, Installation, OAuthCredential, entry::CredentialModel, installation::Scope,
    },
};

use super::*;

const ADMIN: &str = "admin@example.com";

/// An entry with this credential, which a team has installed.
async fn site_with(model: CredentialModel, connection: Connection) -> Site {
    let site = site().await;
    {
        let mut world = site.services.world();
        world.admins = vec![ADMIN.to_owned()];
        let entry = world.entries.get_mut("entries/time").unwrap();
        entry.credential_model = Some(model);
        let mut installation = Installation {
            name: "installations/uid-1".to_owned(),
            uid: "uid-1".to_owned(),
            entry: "entries/time".to_owned(),
            scope: Some(Scope::Team("teams/blue".to_owned())),
            ..Installation::default()
        };
        installation.set_state(InstallationState::Failed);
        installation.conditions = vec![Condition {
            r#type: ConditionType::ToolsDiscovered.into(),
            status: ConditionStatus::False.into(),
            message: "the tools of <time> cannot be listed".to_owned(),
            ..Condition::default()
        }];
        let mut of_alice = Installation {
            name: "installations/uid-2".to_owned(),
            uid: "uid-2".to_owned(),
            scope: Some(Scope::User(format!("users/{ALICE}"))),
            ..installation.clone()
        };
        of_alice.set_state(InstallationState::Ready);
        of_alice.conditions[0].set_status(ConditionStatus::True);
        of_alice.conditions[0].message = "1 tool is left out".to_owned();
        world.installations = vec![installation, of_alice];
        for name in ["installations/uid-1", "installations/uid-2"] {
            world.connections.insert(name.to_owned(), connection.clone());
        }
    }
    site
}

#[tokio::test]
async fn an_admin_sees_the_state_of_all_installations() {
    let site = site_with(
        CredentialModel::Oauth(OAuthCredential::default()),
        Connection::default(),
    )
    .await;
    let mut admin = site.browser();
    admin.sign_in(ADMIN, &json!({})).await;
    let page = admin.get("/install/time").await;
    for text in [
        "All installations",
        "/install/time/progress/uid-1\">The team blue</a>: It is not working.",
        "The tools of &lt;time&gt; cannot be listed.",
        "/install/time/progress/uid-2\">alice@example.com</a>: It is ready. 1 tool is left out.",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    let mut alice = site.browser();
    alice.sign_in(ALICE, &json!({})).await;
    let page = alice.get("/install/time").await;
    assert!(!page.has("All installations"), "{}", page.body);
}

#[tokio::test]
async fn an_admin_sees_an_account_and_cannot_use_it() {
    let connection = Connection {
        issuer: "https://as.example.com".to_owned(),
        account: "alice-at-mail".to_owned(),
        refresh_time: Some(prost_types::Timestamp::default()),
        ..Connection::default()
    };
    let site = site_with(CredentialModel::Oauth(OAuthCredential::default()), connection).await;
    let mut admin = site.browser();
    admin.sign_in(ADMIN, &json!({})).await;
    let page = admin.get("/install/time/progress/uid-2").await;
    for text in [
        "alice-at-mail",
        "https://as.example.com",
        "Only the owner of the installation",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    assert!(!page.has("<button type=\"submit\">Connect"), "{}", page.body);
}

#[tokio::test]
async fn an_admin_sees_why_a_machine_gets_no_token() {
    let connection = Connection {
        issuer: "https://as.example.com".to_owned(),
        refusal: "the authorization server issues no token: invalid_client <b>; an admin must check the client"
            .to_owned(),
        ..Connection::default()
    };
    let model = CredentialModel::ClientCredentials(ClientCredentialsCredential::default());
    let site = site_with(model, connection).await;
    let mut admin = site.browser();
    admin.sign_in(ADMIN, &json!({})).await;
    let page = admin.get("/install/time/progress/uid-1").await;
    for text in [
        "https://as.example.com",
        "The authorization server issues no token: invalid_client &lt;b&gt;; an admin must check the client.",
    ] {
        assert!(page.has(text), "{text} in {}", page.body);
    }
    assert!(!page.has("Token expires"), "nothing was issued: {}", page.body);
}
