//! Requests of RuntimeService.

use contracts::orchestrator as o;

use super::request::{Request, scope};
use crate::world::{Who, World};

pub(super) async fn runtimes(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    let team = scope(about, who)?;
    let installation = world.running(team).await;
    let name = format!("{installation}/runtime");
    Some(match method {
        "GetRuntime" => Request::on(&installation, o::GetRuntimeRequest { name }),
        "RestartRuntime" => Request::on(
            &installation,
            o::RestartRuntimeRequest {
                name,
                ..o::RestartRuntimeRequest::default()
            },
        ),
        "StreamRuntimeLogs" => Request::on(
            &installation,
            o::StreamRuntimeLogsRequest {
                name,
                ..o::StreamRuntimeLogsRequest::default()
            },
        ),
        _ => return None,
    })
}
