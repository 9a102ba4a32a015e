//! Somebody who calls the gRPC services: a channel and a token.

use contracts::{
    credential::credential_service_client::CredentialServiceClient,
    gateway::tool_service_client::ToolServiceClient,
    orchestrator::runtime_service_client::RuntimeServiceClient,
    registry::{
        agent_service_client::AgentServiceClient, entry_service_client::EntryServiceClient,
        gateway_service_client::GatewayServiceClient, gateway_token_service_client::GatewayTokenServiceClient,
        installation_service_client::InstallationServiceClient, team_service_client::TeamServiceClient,
        tool_assignment_service_client::ToolAssignmentServiceClient, user_service_client::UserServiceClient,
    },
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// Puts the token on every request.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel that carries somebody's token.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// Somebody who calls the gRPC services.
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
    token: Option<String>,
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(&self) -> $client<Authenticated> {
            $client::with_interceptor(self.channel.clone(), self.bearer())
        })*
    };
}

impl Caller {
    /// Somebody with this token, or with none.
    ///
    /// # Panics
    /// If the address is none.
    pub fn new(grpc_address: &str, token: Option<String>) -> Self {
        let channel = Endpoint::from_shared(format!("http://{grpc_address}"))
            .expect("host and port")
            .connect_lazy();
        Self { channel, token }
    }

    /// The token.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    fn bearer(&self) -> Bearer {
        Bearer(
            self.token
                .as_ref()
                .map(|token| format!("Bearer {token}").parse().expect("a token is ASCII")),
        )
    }

    clients! {
        /// Registry entries.
        entries: EntryServiceClient;
        /// Installations.
        installations: InstallationServiceClient;
        /// MCP gateways.
        gateways: GatewayServiceClient;
        /// Agents.
        agents: AgentServiceClient;
        /// Tool assignments.
        assignments: ToolAssignmentServiceClient;
        /// Teams.
        teams: TeamServiceClient;
        /// Users.
        users: UserServiceClient;
        /// Gateway tokens.
        gateway_tokens: GatewayTokenServiceClient;
        /// Secrets.
        credentials: CredentialServiceClient;
        /// Running servers.
        runtimes: RuntimeServiceClient;
        /// Tools, by gRPC.
        tools: ToolServiceClient;
    }
}

/// The `reason` of a status' ErrorInfo; empty where it has none.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// The fields that a status' BadRequest names.
pub fn bad_fields(status: &Status) -> Vec<String> {
    status
        .get_details_bad_request()
        .map(|request| {
            request
                .field_violations
                .into_iter()
                .map(|violation| violation.field)
                .collect()
        })
        .unwrap_or_default()
}

/// The links of a status' Help.
pub fn help_links(status: &Status) -> Vec<String> {
    status
        .get_details_help()
        .map(|help| help.links.into_iter().map(|link| link.url).collect())
        .unwrap_or_default()
}

/// Asserts that a call was refused with this code and reason, and gives the status back.
///
/// # Panics
/// If it was not.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: tonic::Code, expected: &str) -> Status {
    let status = result.expect_err("the call should have been refused");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (code, expected),
        "{status:?}"
    );
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "chandlery.dev");
    status
}
