//! Requests of RuntimeService.

use contracts::orchestrator as o;

use super::request::{Request, scope, seen};
use crate::world::{Who, World};

pub(super) async fn runtimes(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let owner = match seen(about) {
        Some(seen) => world.shared(seen).await,
        None => world.running(scope(about, who)?).await,
    };
    let name = format!("{owner}/runtime");
    Some(match method {
        "GetRuntime" => Request::on(&owner, o::GetRuntimeRequest { name }),
        "RestartRuntime" => Request::on(
            &owner,
            o::RestartRuntimeRequest {
                name,
                ..o::RestartRuntimeRequest::default()
            },
        ),
        "StreamRuntimeLogs" => Request::on(
            &owner,
            o::StreamRuntimeLogsRequest {
                name,
                ..o::StreamRuntimeLogsRequest::default()
            },
        ),
        _ => return None,
    })
}
