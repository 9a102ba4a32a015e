//! What is at the root: a page for people who open the address, and an error for clients that take it for an endpoint.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{Pages, view};

/// The page, or the error where JSON is asked for.
pub(super) async fn show(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    if is_for_programs(&headers) {
        not_an_endpoint(State(pages)).await
    } else {
        view::home::page(&pages)
    }
}

/// An error that JSON-RPC clients understand. Nothing was read of what they sent, so it has no id.
pub(super) async fn not_an_endpoint(State(pages): State<Arc<Pages>>) -> Response {
    const INVALID_REQUEST: i32 = -32600;
    let endpoints = pages.mcp_endpoints();
    let message = format!(
        "There is no MCP endpoint at this path. Connect to {}, where GATEWAY is the id of a gateway; an agent's is {}.",
        endpoints[0], endpoints[1]
    );
    let data = json!({ "error": "not_an_endpoint", "mcp_endpoints": endpoints });
    let error = json!({ "code": INVALID_REQUEST, "message": message, "data": data });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Browsers ask for HTML; MCP clients for JSON or events; others take what comes.
fn is_for_programs(headers: &HeaderMap) -> bool {
    let accepted: Vec<String> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| Some(value.to_str().ok()?.to_ascii_lowercase()))
        .collect();
    let names = |kind: &str| accepted.iter().any(|value| value.contains(kind));
    (names("application/json") || names("text/event-stream")) && !names("text/html")
}
