//! Requests of ToolService.

use contracts::gateway as g;

use super::request::{Request, scope, seen};
use crate::world::{Seen, Who, World};

pub(super) async fn tools(world: &World, method: &str, about: &str, who: Who) -> Option<Request> {
    if method == "DiscoverTools" {
        let entry = world.open_entry(Seen::ByAll).await;
        let installation = world.ready_installation(&entry, scope(about, who)?).await;
        return Some(Request::on(
            &installation,
            g::DiscoverToolsRequest {
                installation: installation.clone(),
            },
        ));
    }
    let (user, about) = match (method, about) {
        ("ExplainResolution", "everybody's, for another user") => (world.newcomer().await, "everybody's"),
        (_, about) => (String::new(), about),
    };
    let (parent, exposed_name) = world.gateway_with_tool(who, seen(about)?).await;
    let name = parent.clone();
    Some(match method {
        "ListTools" => Request::on(
            &name,
            g::ListToolsRequest {
                parent,
                ..g::ListToolsRequest::default()
            },
        ),
        "SearchTools" => Request::on(
            &name,
            g::SearchToolsRequest {
                parent,
                ..g::SearchToolsRequest::default()
            },
        ),
        "CallTool" => Request::on(
            &name,
            g::CallToolRequest {
                parent,
                exposed_name,
                arguments_json: String::new(),
            },
        ),
        "ExplainResolution" => Request::on(
            &name,
            g::ExplainResolutionRequest {
                parent,
                exposed_name,
                user,
            },
        ),
        _ => return None,
    })
}
