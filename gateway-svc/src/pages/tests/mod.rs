//! The pages, as a browser without JavaScript sees them.

mod admin;
mod authorize;
mod browser;
mod connect;
mod consent;
mod fakes;
mod forms;
mod home;
mod install;
mod sign_in;

use std::{collections::HashSet, time::Duration};

use axum::http::{StatusCode, header};
use contracts::credential::{DestinationChange, DestinationPart, DestinationText};
use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, EntryLifecycle, InstallField, InstallFieldType,
    InstallationState, ReinstallRequired, RemoteServer, SelfHostedServer, StreamableHttpTransport, Team, Tenancy,
    entry::Server, self_hosted_server::Transport,
};
use serde_json::json;

use self::browser::Site;

const ALICE: &str = "alice@example.com";
const SECRET: &str = "s3cret-<value>";

async fn site() -> Site {
    let site = Site::start("http://localhost:8080").await;
    {
        let mut world = site.services.world();
        let field = |key: &str, title: &str, kind: InstallFieldType, required| InstallField {
            key: key.to_owned(),
            title: title.to_owned(),
            r#type: kind.into(),
            required,
            ..InstallField::default()
        };
        let entry = Entry {
            name: "entries/time".to_owned(),
            display_name: "Time <b>service</b>".to_owned(),
            description: "Tells the time.".to_owned(),
            lifecycle: EntryLifecycle::Approved.into(),
            server: Some(Server::Remote(RemoteServer {
                url: "https://time.example.com/mcp".to_owned(),
                ..RemoteServer::default()
            })),
            install_fields: vec![
                field("zone", "Time zone", InstallFieldType::String, true),
                field("api_key", "API key", InstallFieldType::Secret, true),
            ],
            ..Entry::default()
        };
        world.entries.insert(entry.name.clone(), entry);
        world.present_destination = "https://time.example.com".to_owned();
        for (slug, members_manage) in [("blue", true), ("red", false)] {
            let name = format!("teams/{slug}");
            let team = Team {
                name: name.clone(),
                display_name: slug.to_uppercase(),
                members_manage_installations: Some(members_manage),
                ..Team::default()
            };
            world.teams.insert(name, (team, vec![ALICE.to_owned()]));
        }
    }
    site
}

fn become_ready(site: &Site) {
    let mut world = site.services.world();
    let installation = &mut world.installations[0];
    installation.set_state(InstallationState::Ready);
    installation.conditions = [ConditionType::CredentialReady, ConditionType::ToolsDiscovered]
        .map(|kind| Condition {
            r#type: kind.into(),
            status: ConditionStatus::True.into(),
            observed_generation: installation.generation,
            ..Condition::default()
        })
        .to_vec();
}

/// Installs for Alice; the page of what she has then.
async fn installed(site: &Site) -> browser::Browser<'_> {
    let mut browser = site.browser();
    browser.sign_in(ALICE, &json!({})).await;
    let state = browser.get("/install/time").await.state();
    let form = [
        ("state", state.as_str()),
        ("scope", "me"),
        ("secret.api_key", SECRET),
        ("value.zone", "UTC"),
    ];
    assert_eq!(browser.post("/install/time", &form).await.status, StatusCode::SEE_OTHER);
    browser
}
