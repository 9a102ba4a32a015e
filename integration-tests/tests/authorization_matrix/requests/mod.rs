//! A real request for each row of the table. What a call requires is created before each call, so that a permitted call
//! does what it is meant for.

mod consumers;
mod credentials;
mod entries;
mod installations;
mod people;
mod request;
mod runtimes;
mod tools;
mod workloads;

pub(crate) use self::request::Request;
use crate::world::{Who, World};

/// Prepares the request with which `who` calls `rpc`, such as `EntryService/GetEntry`, about this kind of resource.
/// Returns `None` if there is no request for it yet.
pub(crate) async fn prepare(world: &World, rpc: &str, about: &str, who: Who) -> Option<Request> {
    let (service, method) = rpc.split_once('/')?;
    match service {
        "EntryService" => entries::entries(world, method, about).await,
        "InstallationService" => installations::installations(world, method, about, who).await,
        "GatewayService" => consumers::gateways(world, method, about).await,
        "AgentService" => consumers::agents(world, method, about).await,
        "ToolAssignmentService" => consumers::assignments(world, method, about, who).await,
        "TeamService" => people::teams(world, method, about, who).await,
        "UserService" => people::users(world, method, about).await,
        "GatewayTokenService" => people::gateway_tokens(world, method, about, who).await,
        "ReportService" => workloads::reports(world, method, about, who).await,
        "AccessService" => workloads::access(world, method, about).await,
        "WatchService" => workloads::watch(world, method, about),
        "CredentialService" => credentials::credentials(world, method, about, who).await,
        "VendService" => workloads::vend(world, method, about).await,
        "RuntimeService" => runtimes::runtimes(world, method, about, who).await,
        "ToolService" => tools::tools(world, method, about, who).await,
        _ => None,
    }
}
