//! Requests about the gateway `default` and its tool `mail__send`: a test that asks for something else says
//! `ListToolsRequest { page_size: 1, ..list() }`.

use contracts::gateway::{
    CallToolRequest, DiscoverToolsRequest, ExplainResolutionRequest, ListToolsRequest, SearchToolsRequest,
};

const GATEWAY: &str = "gateways/default";
const TOOL: &str = "mail__send";

pub(crate) fn call(arguments: &str) -> CallToolRequest {
    CallToolRequest {
        parent: GATEWAY.to_owned(),
        exposed_name: TOOL.to_owned(),
        arguments_json: arguments.to_owned(),
    }
}

pub(crate) fn list() -> ListToolsRequest {
    ListToolsRequest {
        parent: GATEWAY.to_owned(),
        ..ListToolsRequest::default()
    }
}

pub(crate) fn search(query: &str) -> SearchToolsRequest {
    SearchToolsRequest {
        parent: GATEWAY.to_owned(),
        query: query.to_owned(),
        ..SearchToolsRequest::default()
    }
}

/// `user`: empty for the caller.
pub(crate) fn explain(user: &str) -> ExplainResolutionRequest {
    ExplainResolutionRequest {
        parent: GATEWAY.to_owned(),
        exposed_name: TOOL.to_owned(),
        user: user.to_owned(),
    }
}

pub(crate) fn discover(installation: &str) -> DiscoverToolsRequest {
    DiscoverToolsRequest {
        installation: installation.to_owned(),
    }
}
