//! The steps of most journeys: publish an entry, install it, assign its tools.

use std::collections::HashMap;

use contracts::{
    credential as c,
    registry::{
        self as r, Entry, Installation, InstallationState, entry::CredentialModel, entry::Server, injection,
        install_field::Target, installation::Scope, self_hosted_server::Transport, tool_assignment::Selection,
    },
};
use tonic::Status;

use crate::{
    caller::Caller,
    wait::{TIMEOUT, eventually_within},
};

/// An entry for a remote server.
pub fn remote(url: &str) -> Entry {
    Entry {
        display_name: "A remote server".to_owned(),
        server: Some(Server::Remote(r::RemoteServer {
            url: url.to_owned(),
            ..r::RemoteServer::default()
        })),
        ..Entry::default()
    }
}

/// An entry for a command that speaks MCP over standard input and output.
pub fn stdio(command: &str, arguments: &[&str]) -> Entry {
    Entry {
        display_name: "A local server".to_owned(),
        server: Some(Server::SelfHosted(r::SelfHostedServer {
            command: command.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            transport: Some(Transport::Stdio(r::StdioTransport::default())),
            ..r::SelfHostedServer::default()
        })),
        ..Entry::default()
    }
}

/// A prompted secret without a target, which is the primary credential.
pub fn secret(key: &str) -> r::InstallField {
    r::InstallField {
        key: key.to_owned(),
        title: "API key".to_owned(),
        r#type: r::InstallFieldType::Secret.into(),
        required: true,
        source: r::InstallFieldSource::Prompted.into(),
        ..r::InstallField::default()
    }
}

/// A prompted secret for an environment variable.
pub fn environment_secret(key: &str, variable: &str) -> r::InstallField {
    let target = r::EnvironmentVariableTarget {
        name: variable.to_owned(),
    };
    r::InstallField {
        target: Some(Target::EnvironmentVariable(target)),
        ..secret(key)
    }
}

/// Adds a static credential to an entry: a secret field and its injection.
#[must_use]
pub fn with_static(mut entry: Entry, field: &str, kind: injection::Kind) -> Entry {
    entry.install_fields.push(secret(field));
    entry.credential_model = Some(CredentialModel::StaticCredential(r::StaticCredential {
        field: field.to_owned(),
        injection: Some(r::Injection { kind: Some(kind) }),
    }));
    entry
}

/// A secret for the credential model, stored once on the entry.
pub fn stored_secret(key: &str) -> r::InstallField {
    r::InstallField {
        title: "Client secret".to_owned(),
        source: r::InstallFieldSource::Stored.into(),
        ..secret(key)
    }
}

/// An authorization server with metadata.
pub fn issuer(issuer: &str) -> r::AuthorizationServer {
    r::AuthorizationServer {
        issuer: issuer.to_owned(),
        ..r::AuthorizationServer::default()
    }
}

/// Bearer injection.
pub fn bearer() -> injection::Kind {
    injection::Kind::Bearer(r::BearerHeader {})
}

/// Secrets in the form of a request.
pub fn secrets(values: &[(&str, &str)]) -> Vec<c::SecretValue> {
    values
        .iter()
        .map(|(key, value)| c::SecretValue {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        })
        .collect()
}

/// A new request id.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Steps that people take. A method that returns no `Result` panics if the step fails.
impl Caller {
    /// Creates an entry and approves it.
    pub async fn publish(&self, id: &str, entry: Entry) -> Entry {
        let name = self
            .create_entry(id, entry)
            .await
            .unwrap_or_else(|status| panic!("create {id}: {status:?}"))
            .name;
        let request = r::ApproveEntryRequest {
            name,
            etag: String::new(),
        };
        self.entries()
            .approve_entry(request)
            .await
            .unwrap_or_else(|status| panic!("approve {id}: {status:?}"))
            .into_inner()
    }

    /// Creates an entry. May fail.
    pub async fn create_entry(&self, id: &str, entry: Entry) -> Result<Entry, Status> {
        let request = r::CreateEntryRequest {
            entry_id: id.to_owned(),
            entry: Some(entry),
            request_id: request_id(),
        };
        Ok(self.entries().create_entry(request).await?.into_inner())
    }

    /// Reads an entry.
    pub async fn entry(&self, id: &str) -> Result<Entry, Status> {
        Ok(self
            .entries()
            .get_entry(r::GetEntryRequest {
                name: format!("entries/{id}"),
            })
            .await?
            .into_inner())
    }

    /// Updates these fields of an entry.
    pub async fn update_entry(&self, entry: Entry, fields: &[&str]) -> Result<Entry, Status> {
        let update_mask = Some(mask(fields));
        Ok(self
            .entries()
            .update_entry(r::UpdateEntryRequest {
                entry: Some(entry),
                update_mask,
            })
            .await?
            .into_inner())
    }

    /// Creates a personal installation, or one of a team (`teams/{team}`). May fail.
    pub async fn create_installation(
        &self,
        entry: &str,
        team: Option<&str>,
        values: &[(&str, &str)],
    ) -> Result<Installation, Status> {
        let scope = team.map(|team| Scope::Team(team.to_owned()));
        let installation = Installation {
            entry: format!("entries/{entry}"),
            scope,
            values: values
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Installation::default()
        };
        let request = r::CreateInstallationRequest {
            installation: Some(installation),
            request_id: request_id(),
        };
        Ok(self.installations().create_installation(request).await?.into_inner())
    }

    /// Stores secrets of an installation. May fail.
    pub async fn put_secrets(&self, installation: &str, values: &[(&str, &str)]) -> Result<c::Credential, Status> {
        let request = c::PutInstallationCredentialRequest {
            installation: installation.to_owned(),
            values: secrets(values),
            request_id: request_id(),
            destination: String::new(),
        };
        Ok(self
            .credentials()
            .put_installation_credential(request)
            .await?
            .into_inner())
    }

    /// The state of an installation's credential.
    pub async fn credential(&self, installation: &str) -> c::Credential {
        let request = c::GetInstallationCredentialRequest {
            installation: installation.to_owned(),
        };
        let answer = self.credentials().get_installation_credential(request).await;
        answer
            .unwrap_or_else(|status| panic!("the credential of {installation}: {status:?}"))
            .into_inner()
    }

    /// Confirms the destination of an installation's secrets. May fail.
    pub async fn confirm(&self, installation: &str, destination: &str) -> Result<c::Credential, Status> {
        let request = c::ConfirmInstallationDestinationRequest {
            installation: installation.to_owned(),
            destination: destination.to_owned(),
        };
        Ok(self
            .credentials()
            .confirm_installation_destination(request)
            .await?
            .into_inner())
    }

    /// Stores secrets on an entry.
    pub async fn put_entry_secrets(&self, entry: &str, values: &[(&str, &str)]) -> Result<c::Credential, Status> {
        let request = c::PutEntryCredentialRequest {
            entry: format!("entries/{entry}"),
            values: secrets(values),
            request_id: request_id(),
            destination: String::new(),
        };
        Ok(self.credentials().put_entry_credential(request).await?.into_inner())
    }

    /// Sets the values of an installation.
    pub async fn set_values(&self, installation: &str, values: &[(&str, &str)]) -> Installation {
        let change = Installation {
            name: installation.to_owned(),
            values: labels(values),
            ..Installation::default()
        };
        let request = r::UpdateInstallationRequest {
            installation: Some(change),
            update_mask: Some(mask(&["values"])),
        };
        self.installations()
            .update_installation(request)
            .await
            .unwrap_or_else(|status| panic!("values of {installation}: {status:?}"))
            .into_inner()
    }

    /// Installs an entry with secrets, and waits until the installation is ready.
    pub async fn install(&self, entry: &str, team: Option<&str>, values: &[(&str, &str)]) -> Installation {
        let installation = self
            .create_installation(entry, team, &[])
            .await
            .unwrap_or_else(|status| panic!("install {entry}: {status:?}"));
        if !values.is_empty() {
            self.put_secrets(&installation.name, values)
                .await
                .unwrap_or_else(|status| panic!("secrets of {entry}: {status:?}"));
        }
        self.until_ready(&installation.name).await
    }

    /// Reads an installation.
    pub async fn installation(&self, name: &str) -> Result<Installation, Status> {
        let request = r::GetInstallationRequest { name: name.to_owned() };
        Ok(self.installations().get_installation(request).await?.into_inner())
    }

    /// Waits until an installation is ready.
    pub async fn until_ready(&self, name: &str) -> Installation {
        self.until_state(name, InstallationState::Ready).await
    }

    /// Waits until an installation is in a state.
    pub async fn until_state(&self, name: &str, state: InstallationState) -> Installation {
        let last = std::sync::Mutex::new(None);
        let what = format!("{name} becomes {state:?}");
        let waited = eventually_within(TIMEOUT * 2, &what, || async {
            let installation = self
                .installation(name)
                .await
                .unwrap_or_else(|status| panic!("{name}: {status:?}"));
            if installation.state() == state {
                return Some(Ok(installation));
            }
            // A test that waits for readiness fails early if the installation has failed for good.
            let mut last = last.lock().expect("no holder of this lock panics");
            let since: &mut Option<(std::time::Instant, Installation)> = &mut last;
            let start = since
                .get_or_insert_with(|| (std::time::Instant::now(), installation.clone()))
                .0;
            (start.elapsed() > TIMEOUT).then_some(Err(installation))
        })
        .await;
        waited.unwrap_or_else(|installation| {
            panic!("{what}, but: {:?} {:?}", installation.state(), installation.conditions)
        })
    }

    /// Creates a gateway.
    pub async fn gateway(&self, id: &str) -> r::Gateway {
        self.create_gateway(id, r::Gateway::default())
            .await
            .unwrap_or_else(|status| panic!("gateway {id}: {status:?}"))
    }

    /// Creates a gateway that everybody may use.
    pub async fn gateway_of_all(&self, id: &str) {
        let audience = Some(r::visibility::Audience::Organization(r::OrganizationAudience {}));
        let gateway = r::Gateway {
            visibility: Some(r::Visibility { audience }),
            ..r::Gateway::default()
        };
        self.create_gateway(id, gateway).await.expect("an admin may");
    }

    /// Creates a gateway. May fail.
    pub async fn create_gateway(&self, id: &str, gateway: r::Gateway) -> Result<r::Gateway, Status> {
        let request = r::CreateGatewayRequest {
            gateway_id: id.to_owned(),
            gateway: Some(gateway),
            request_id: request_id(),
        };
        Ok(self.gateways().create_gateway(request).await?.into_inner())
    }

    /// A personal gateway token.
    pub async fn gateway_token(&self) -> String {
        let request = r::CreateGatewayTokenRequest {
            gateway_token: Some(r::GatewayToken {
                display_name: "a script".to_owned(),
                ..r::GatewayToken::default()
            }),
            request_id: request_id(),
        };
        let made = self.gateway_tokens().create_gateway_token(request).await;
        made.expect("everybody may").into_inner().token
    }

    /// Assigns a tool, whose installation is resolved at call time.
    pub async fn assign(&self, gateway: &str, entry: &str, tool: &str) -> r::ToolAssignment {
        self.create_assignment(&format!("gateways/{gateway}"), assignment(entry, tool), false)
            .await
            .unwrap_or_else(|status| panic!("assign {entry} {tool}: {status:?}"))
    }

    /// Creates a tool assignment. May fail.
    pub async fn create_assignment(
        &self,
        parent: &str,
        assignment: r::ToolAssignment,
        confirm_shared_account: bool,
    ) -> Result<r::ToolAssignment, Status> {
        let request = r::CreateToolAssignmentRequest {
            parent: parent.to_owned(),
            tool_assignment: Some(assignment),
            request_id: request_id(),
            confirm_shared_account,
        };
        Ok(self.assignments().create_tool_assignment(request).await?.into_inner())
    }

    /// Creates a team with these mappings, whose members manage its installations.
    pub async fn team(&self, id: &str, mappings: Vec<r::TeamMapping>) -> r::Team {
        let team = r::Team {
            mappings,
            members_manage_installations: Some(true),
            ..r::Team::default()
        };
        let request = r::CreateTeamRequest {
            team_id: id.to_owned(),
            team: Some(team),
            request_id: request_id(),
        };
        self.teams()
            .create_team(request)
            .await
            .unwrap_or_else(|status| panic!("team {id}: {status:?}"))
            .into_inner()
    }

    /// The caller's own user.
    pub async fn me(&self) -> r::User {
        let request = r::GetUserRequest {
            name: "users/me".to_owned(),
        };
        self.users()
            .get_user(request)
            .await
            .unwrap_or_else(|status| panic!("users/me: {status:?}"))
            .into_inner()
    }

    /// The names of the tools discovered for an entry.
    pub async fn entry_tools(&self, entry: &str) -> Vec<String> {
        let request = r::ListEntryToolsRequest {
            parent: format!("entries/{entry}"),
            page_size: 500,
            page_token: String::new(),
        };
        let answer = self
            .entries()
            .list_entry_tools(request)
            .await
            .unwrap_or_else(|status| panic!("{entry}: {status:?}"));
        answer.into_inner().tools.into_iter().map(|tool| tool.tool).collect()
    }
}

/// An assignment of one tool of an entry, resolved at call time.
pub fn assignment(entry: &str, tool: &str) -> r::ToolAssignment {
    r::ToolAssignment {
        entry: format!("entries/{entry}"),
        selection: Some(Selection::Tool(tool.to_owned())),
        ..r::ToolAssignment::default()
    }
}

/// An assignment of all present and future tools of an entry, resolved at call time.
pub fn all_tools(entry: &str) -> r::ToolAssignment {
    r::ToolAssignment {
        entry: format!("entries/{entry}"),
        selection: Some(Selection::AllTools(r::AllTools {})),
        ..r::ToolAssignment::default()
    }
}

/// A field mask.
pub fn mask(fields: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask {
        paths: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

/// Labels.
pub fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A mapping for users whose token of this issuer contains a group.
pub fn group(issuer: &str, group: &str) -> r::TeamMapping {
    r::TeamMapping {
        issuer: issuer.to_owned(),
        selector: Some(r::team_mapping::Selector::Group(group.to_owned())),
    }
}
