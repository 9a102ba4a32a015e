//! Configures TLS for gRPC, since people's calls contain tokens and secrets.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{extract::Request, middleware::Next, response::Response};
use ipnet::IpNet;
use rustls::ServerConfig;
use service_kit::peer::Peer;
use tonic::{
    Status,
    service::Routes,
    transport::{Identity, ServerTlsConfig},
};

use crate::certificate::{Files, Named};

/// The TLS options for gRPC.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// PEM files: the certificate chain, and its private key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Addresses of proxies that terminate TLS.
    pub(crate) proxies: Vec<IpNet>,
}

/// What terminates TLS for gRPC.
#[derive(Debug)]
pub(crate) enum GrpcTls {
    /// Nothing, because calls do not leave this machine.
    Loopback,
    /// This process.
    Ours(Box<ServerTlsConfig>),
    /// Proxies at these addresses. Other callers are refused.
    Proxies(Arc<[IpNet]>),
}

impl GrpcTls {
    /// The TLS configuration of an address. An address that is not loopback requires a certificate or a proxy, so that
    /// tokens are not sent unencrypted by mistake.
    pub(crate) fn configured(address: SocketAddr, config: Config) -> Result<Self, String> {
        if let Some((certificate, key)) = &config.certificate {
            return Ok(Self::Ours(Box::new(identity(certificate, key)?)));
        }
        if !config.proxies.is_empty() {
            return Ok(Self::Proxies(config.proxies.into()));
        }
        if address.ip().to_canonical().is_loopback() {
            return Ok(Self::Loopback);
        }
        Err(format!(
            "--grpc {address}: other machines would send tokens and secrets in the clear. Give a certificate with \
             --grpc-tls-cert FILE and --grpc-tls-key FILE; or let a proxy terminate TLS, and name its address with --grpc-tls-proxy CIDR; or \
             listen on 127.0.0.1"
        ))
    }

    /// Refuses calls that do not come from a configured proxy, if there are any.
    pub(crate) fn guard(&self, routes: Routes) -> Routes {
        let Self::Proxies(proxies) = self else { return routes };
        let proxies = Arc::clone(proxies);
        let guarded =
            routes
                .into_axum_router()
                .layer(axum::middleware::from_fn(move |request: Request, next: Next| {
                    let proxies = Arc::clone(&proxies);
                    async move { from_proxy(&proxies, request, next).await }
                }));
        Routes::from(guarded)
    }
}

/// Reads and checks a certificate chain and its key. tonic itself would report an error only when the first client
/// connects.
fn identity(certificate: &Path, key: &Path) -> Result<ServerTlsConfig, String> {
    let named = |option, path: &Path| Named {
        option,
        path: path.to_owned(),
    };
    let files = Files {
        certificate: named("--grpc-tls-cert", certificate),
        key: named("--grpc-tls-key", key),
    };
    let contents = files.read()?;
    files.warn_if_exposed();
    files.certified(&contents, ServerConfig::builder().crypto_provider())?;
    let identity = Identity::from_pem(contents.chain, &*contents.key);
    Ok(ServerTlsConfig::new().identity(identity))
}

async fn from_proxy(proxies: &[IpNet], request: Request, next: Next) -> Response {
    let of_proxy = |address: IpAddr| proxies.iter().any(|net| net.contains(&address.to_canonical()));
    match request.extensions().get::<Peer>() {
        Some(Peer::External(address)) if !of_proxy(address.ip()) => Status::permission_denied(
            "only the proxy that terminates TLS may call this address; use the address of the proxy",
        )
        .into_http(),
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::{Router, body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    fn configured(address: &str, config: Config) -> Result<GrpcTls, String> {
        GrpcTls::configured(address.parse().unwrap(), config)
    }

    #[test]
    fn other_machines_require_tls() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert!(matches!(configured(address, Config::default()), Ok(GrpcTls::Loopback)));
        }
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:9090"] {
            let refused = configured(address, Config::default()).unwrap_err();
            assert!(refused.contains("--grpc-tls-cert"), "{refused}");
            let proxy = Config {
                proxies: vec!["10.0.0.2/32".parse().unwrap()],
                ..Config::default()
            };
            let behind = configured(address, proxy);
            assert!(matches!(behind, Ok(GrpcTls::Proxies(_))), "{behind:?}");
        }
    }

    #[test]
    fn a_certificate_is_checked_at_startup() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let start = |certificate: &str, key: &str| {
            let certificate = Some((path(certificate), path(key)));
            configured(
                "127.0.0.1:0",
                Config {
                    certificate,
                    ..Config::default()
                },
            )
        };
        let absent = start("none.pem", "none.pem").unwrap_err();
        assert!(
            absent.starts_with("--grpc-tls-cert") && absent.contains("cannot be read"),
            "{absent}"
        );
        fs::write(path("empty.pem"), "").unwrap();
        assert!(
            start("empty.pem", "empty.pem")
                .unwrap_err()
                .contains("no PEM certificate")
        );
    }

    #[tokio::test]
    async fn behind_a_proxy_only_the_proxy_may_call() {
        let tls = GrpcTls::Proxies(vec!["10.0.0.2/32".parse().unwrap()].into());
        let routes = Routes::from(Router::new().route("/call", get(async || "called")));
        let routes = tls.guard(routes).prepare().into_axum_router();
        for (from, status) in [
            ("10.0.0.2:1", None),
            ("[::ffff:10.0.0.2]:1", None),
            ("10.0.0.3:1", Some("7")),
        ] {
            let mut request = Request::get("/call").body(Body::empty()).unwrap();
            request.extensions_mut().insert(Peer::External(from.parse().unwrap()));
            let answer = routes.clone().oneshot(request).await.unwrap();
            let refused = answer
                .headers()
                .get("grpc-status")
                .map(|status| status.to_str().unwrap());
            assert_eq!(refused, status, "{from}");
        }
    }
}
