//! The gRPC services: each method identifies the caller, makes one call into `operate`, and converts.

mod access;
mod agent;
mod entry;
mod gateway;
mod gateway_token;
mod installation;
mod report;
mod status;
mod team;
mod tool_assignment;
mod user;
mod watch;

use std::sync::Arc;

use contracts::registry::{
    access_service_server::AccessServiceServer, agent_service_server::AgentServiceServer,
    entry_service_server::EntryServiceServer, gateway_service_server::GatewayServiceServer,
    gateway_token_service_server::GatewayTokenServiceServer, installation_service_server::InstallationServiceServer,
    report_service_server::ReportServiceServer, team_service_server::TeamServiceServer,
    tool_assignment_service_server::ToolAssignmentServiceServer, user_service_server::UserServiceServer,
};
use service_kit::{
    Workload,
    identity::{self, Admitted},
};
use tonic::{Request, Response, Status, server::NamedService, service::Routes};

use crate::{
    domain::Caller,
    operate::{Registry, propagation::Propagated},
};
use access::AccessApi;
use agent::Agents;
use entry::Entries;
use gateway::Gateways;
use gateway_token::GatewayTokenApi;
use installation::Installations;
use report::ReportApi;
use team::TeamApi;
use tool_assignment::ToolAssignments;
use user::UserApi;
use watch::WatchServer;

/// The largest messages taken (bytes), by what is sent: a message may take a hundred times as much in memory. An entry has up to a
/// megabyte, many tool assignments that are made at once about as much, and the tools of one server are the largest that comes.
const LARGE: usize = 16 << 20;
const MEDIUM: usize = 2 << 20;
const SMALL: usize = 1 << 20;
/// Of the people who manage them, teams, gateways and tokens are described in few words.
const TINY: usize = 256 << 10;

impl Registry {
    /// The person who calls, as of now; UNAUTHENTICATED without a person, or if they are deactivated.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let user = identity::require_user(request)?;
        Ok(self.known(&user).await?)
    }
}

impl Propagated {
    /// An answer that says in its metadata at which revision it is in force, and who lags.
    fn reply<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let metadata = response.metadata_mut();
        metadata.insert("chandlery-revision", self.revision.into());
        if !self.lagging.is_empty()
            && let Ok(lagging) = self.lagging.join(",").parse()
        {
            metadata.insert("chandlery-lagging", lagging);
        }
        response
    }
}

/// The full names of all services, and their routes.
pub(crate) fn routes(registry: &Arc<Registry>) -> (Vec<&'static str>, Routes) {
    let mut names = Vec::new();
    let mut builder = Routes::builder();
    macro_rules! serve {
        ($($server:ident => $api:ident, $most:ident);* $(;)?) => {$(
            let server = $server::new($api(Arc::clone(registry))).max_decoding_message_size($most);
            names.push(name_of(&server));
            builder.add_service(server);
        )*};
    }
    serve! {
        EntryServiceServer => Entries, MEDIUM;
        InstallationServiceServer => Installations, SMALL;
        GatewayServiceServer => Gateways, TINY;
        AgentServiceServer => Agents, TINY;
        ToolAssignmentServiceServer => ToolAssignments, MEDIUM;
        TeamServiceServer => TeamApi, TINY;
        UserServiceServer => UserApi, TINY;
        GatewayTokenServiceServer => GatewayTokenApi, TINY;
        ReportServiceServer => ReportApi, LARGE;
        AccessServiceServer => AccessApi, TINY;
    }
    let watch = WatchServer::new(Arc::clone(registry));
    names.push(name_of(&watch));
    builder.add_service(watch);
    (names, builder.routes())
}

/// Who may call a service.
pub(crate) fn admitted(service: &str) -> Option<Admitted> {
    const WORKLOADS: [Workload; 3] = [Workload::Credential, Workload::Orchestrator, Workload::Gateway];
    let for_workloads = [
        ReportServiceServer::<ReportApi>::NAME,
        AccessServiceServer::<AccessApi>::NAME,
        WatchServer::NAME,
    ];
    if for_workloads.contains(&service) {
        return Some(Admitted::Workloads(&WORKLOADS));
    }
    service.starts_with("chandlery.registry.").then_some(Admitted::People)
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
