//! Stands before a gateway, and adds a person's token to each request: the suite sends none.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use integration_tests::upstream::Served;

struct Front {
    gateway: String,
    authorization: HeaderValue,
    client: Client<HttpConnector, Body>,
}

/// Starts it before the program at an address.
pub(super) async fn start(gateway: &str, token: &str) -> Served {
    let front = Front {
        gateway: gateway.to_owned(),
        authorization: format!("Bearer {token}").parse().expect("a token is ASCII"),
        client: Client::builder(TokioExecutor::new()).build_http(),
    };
    Served::start(Router::new().fallback(relay).with_state(Arc::new(front))).await
}

/// Leaves the rest of a request as it is, also `Host` and `Origin`, which a scenario changes. Bodies are streamed both ways.
async fn relay(State(front): State<Arc<Front>>, mut request: Request) -> Response {
    let target = format!("http://{}{}", front.gateway, request.uri());
    *request.uri_mut() = target.parse().expect("an address and a path");
    request.headers_mut().insert(AUTHORIZATION, front.authorization.clone());
    match front.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
