//! Adds what a first tool call requires at the first start: a demo entry, a team of all users, an installation for it,
//! and a gateway.
//!
//! It uses the public API as an admin would. Every step has a fixed `request_id`, so the next start completes an
//! interrupted one, and nothing is created twice.

use std::{collections::HashMap, time::Duration};

use contracts::registry as pb;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// The command of the demo entry, which is this program's demo server.
pub(crate) const DEMO_COMMAND: &str = "chandlery-demo";
const LABEL: &str = "catalog";
const LABEL_VALUE: &str = "starter";
/// How long the first start waits for the demo server's tools before it is ready without them.
const DISCOVERY: Duration = Duration::from_secs(10);

/// Adds everything with `token`. The users of `issuer` are the members of the team `everyone`. A registry in which
/// these names are or were in use is left unchanged.
pub(crate) async fn seed(registry: Channel, token: &str, issuer: &str) -> Result<(), Status> {
    match add(registry, token, issuer).await {
        Err(status) if matches!(status.code(), Code::AlreadyExists | Code::NotFound) => {
            tracing::warn!(reason = %status.message(), "the demo is not added: the registry is already in use");
            Ok(())
        }
        added => added,
    }
}

async fn add(registry: Channel, token: &str, issuer: &str) -> Result<(), Status> {
    let bearer = Bearer(
        format!("Bearer {token}")
            .parse()
            .map_err(|_| Status::internal("a JWT is ASCII"))?,
    );
    let authorized = InterceptedService::new(registry, bearer);
    let mut teams = pb::team_service_client::TeamServiceClient::new(authorized.clone());
    let mut entries = pb::entry_service_client::EntryServiceClient::new(authorized.clone());
    let mut installations = pb::installation_service_client::InstallationServiceClient::new(authorized.clone());
    let mut gateways = pb::gateway_service_client::GatewayServiceClient::new(authorized);

    teams
        .create_team(pb::CreateTeamRequest {
            team_id: "everyone".to_owned(),
            team: Some(everyone(issuer)),
            request_id: request_id(1),
        })
        .await?;
    let entry = entries
        .create_entry(pb::CreateEntryRequest {
            entry_id: "demo".to_owned(),
            entry: Some(demo_entry()),
            request_id: request_id(2),
        })
        .await?
        .into_inner();
    // The entry in the response may be outdated. Approving it again changes nothing.
    entries
        .approve_entry(pb::ApproveEntryRequest {
            name: entry.name.clone(),
            etag: String::new(),
        })
        .await?;
    gateways
        .create_gateway(pb::CreateGatewayRequest {
            gateway_id: "default".to_owned(),
            gateway: Some(default_gateway()),
            request_id: request_id(3),
        })
        .await?;
    let installation = installations
        .create_installation(pb::CreateInstallationRequest {
            installation: Some(pb::Installation {
                entry: entry.name,
                scope: Some(pb::installation::Scope::Team("teams/everyone".to_owned())),
                ..pb::Installation::default()
            }),
            request_id: request_id(4),
        })
        .await?
        .into_inner();
    let discovered = wait_until_ready(&mut installations, &installation.name);
    if tokio::time::timeout(DISCOVERY, discovered).await.is_err() {
        tracing::warn!(installation = %installation.name, "the demo server's tools are not discovered yet");
    }
    Ok(())
}

/// Adds the token to each request.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

async fn wait_until_ready(
    installations: &mut pb::installation_service_client::InstallationServiceClient<InterceptedService<Channel, Bearer>>,
    name: &str,
) {
    loop {
        let request = pb::GetInstallationRequest { name: name.to_owned() };
        if let Ok(installation) = installations.get_installation(request).await
            && installation.get_ref().state() == pb::InstallationState::Ready
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn request_id(step: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{step:02}")
}

fn everyone(issuer: &str) -> pb::Team {
    pb::Team {
        display_name: "Everyone".to_owned(),
        mappings: vec![pb::TeamMapping {
            issuer: issuer.to_owned(),
            selector: Some(pb::team_mapping::Selector::WholeIssuer(pb::WholeIssuer {})),
        }],
        ..pb::Team::default()
    }
}

fn demo_entry() -> pb::Entry {
    pb::Entry {
        display_name: "Demo".to_owned(),
        description: "A small MCP server that is part of Chandlery, to try things with.".to_owned(),
        labels: HashMap::from([(LABEL.to_owned(), LABEL_VALUE.to_owned())]),
        server: Some(pb::entry::Server::SelfHosted(pb::SelfHostedServer {
            command: DEMO_COMMAND.to_owned(),
            transport: Some(pb::self_hosted_server::Transport::Stdio(pb::StdioTransport::default())),
            ..pb::SelfHostedServer::default()
        })),
        credential_model: Some(pb::entry::CredentialModel::NoCredential(pb::NoCredential {})),
        ..pb::Entry::default()
    }
}

fn default_gateway() -> pb::Gateway {
    pb::Gateway {
        display_name: "Default".to_owned(),
        description: "The tools of every entry with the label catalog: starter.".to_owned(),
        labels: HashMap::from([(LABEL.to_owned(), LABEL_VALUE.to_owned())]),
        assignment_mode: pb::AssignmentMode::Automatic.into(),
        ..pb::Gateway::default()
    }
}
