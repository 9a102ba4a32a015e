//! Which requests the HTTP listener answers at all, whatever they are for: those that name us as their host, and come from no page of
//! somebody else. A name that somebody makes stand for our address (DNS rebinding) opens nothing, on no path.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use service_kit::Hosts;

use crate::health;

/// Middleware around everything that the listener serves.
pub(crate) async fn guard(hosts: Arc<Hosts>, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    // Kubernetes' probes, for example, come to the address of a pod.
    let probe = health::is_asked(uri) && Hosts::is_address(uri, headers);
    if !probe && !hosts.names_us(uri, headers) {
        let why = "Chandlery does not know itself by the name of this host. Use its public URL; whoever runs it sets that with --public-url.\n";
        return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    if !hosts.is_origin(headers) {
        let why = "a page of this origin may not use Chandlery\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Request, middleware};
    use tower::ServiceExt as _;

    use super::*;

    async fn asked(path: &str, headers: &[(&str, &str)]) -> StatusCode {
        let hosts = Arc::new(Hosts::new("https://tools.example.com".parse().unwrap(), &[]));
        let router = health::router(Vec::new()).layer(middleware::from_fn(move |request, next| {
            guard(Arc::clone(&hosts), request, next)
        }));
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| {
            request.header(*name, *value)
        });
        let answer = Router::oneshot(router, request.body(Body::empty()).unwrap());
        answer.await.unwrap().status()
    }

    #[tokio::test]
    async fn answers_under_its_own_names_on_every_path() {
        for path in ["/livez", "/readyz"] {
            for host in [
                "tools.example.com",
                "127.0.0.1:8080",
                "10.1.2.3:8080",
                "[2001:db8::1]:8080",
            ] {
                assert_eq!(asked(path, &[("host", host)]).await, StatusCode::OK, "{host}");
            }
        }
        assert_eq!(asked("/none", &[("host", "localhost")]).await, StatusCode::NOT_FOUND);
        // Not known by its address, except for probes.
        let refused = asked("/none", &[("host", "10.1.2.3:8080")]).await;
        assert_eq!(refused, StatusCode::MISDIRECTED_REQUEST);
        for path in ["/livez", "/readyz", "/none"] {
            let refused = asked(path, &[("host", "rebound.evil.example:8080")]).await;
            assert_eq!(refused, StatusCode::MISDIRECTED_REQUEST, "{path}");
            assert_eq!(asked(path, &[]).await, StatusCode::MISDIRECTED_REQUEST, "{path}");
            let foreign = [("host", "127.0.0.1:8080"), ("origin", "http://evil.example")];
            assert_eq!(asked(path, &foreign).await, StatusCode::FORBIDDEN, "{path}");
        }
    }
}
