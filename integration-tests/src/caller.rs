//! A caller of the gRPC services: a channel and a token.

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

/// Adds the token to each request.
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

/// A channel with a caller's token.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// A caller of the gRPC services.
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
    /// A caller with this token, or without one.
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn new(grpc_address: &str, token: Option<String>) -> Self {
        let channel = Endpoint::from_shared(format!("http://{grpc_address}"))
            .expect("host and port")
            .connect_lazy();
        Self { channel, token }
    }

    /// The token; empty if there is none.
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
        /// Tools over gRPC.
        tools: ToolServiceClient;
    }
}

/// The `reason` in a status's ErrorInfo; empty if there is none.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// The fields in a status's BadRequest.
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

/// The links in a status's Help.
pub fn help_links(status: &Status) -> Vec<String> {
    status
        .get_details_help()
        .map(|help| help.links.into_iter().map(|link| link.url).collect())
        .unwrap_or_default()
}

/// Asserts that a call failed with this code and reason, and returns the status.
///
/// # Panics
/// If it did not.
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
