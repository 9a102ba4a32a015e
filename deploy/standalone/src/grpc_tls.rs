//! What keeps others from reading the gRPC calls of people: they hold tokens and secrets.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use axum::{extract::Request, middleware::Next, response::Response};
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use service_kit::peer::Peer;
use tonic::{
    Status,
    service::Routes,
    transport::{Identity, ServerTlsConfig},
};

use crate::cli::Serve;

/// Who ends TLS.
#[derive(Debug)]
pub(crate) enum GrpcTls {
    /// Nobody: calls do not leave this machine.
    Loopback,
    /// We do.
    Ours(Box<ServerTlsConfig>),
    /// Proxies at these addresses, from which alone calls are taken.
    Proxies(Arc<[IpNet]>),
}

impl GrpcTls {
    /// What the options say. An address that is not loopback needs one of the two; so nobody sends a token in the clear by oversight.
    pub(crate) fn configured(arguments: &Serve) -> Result<Self, String> {
        if let (Some(certificate), Some(key)) = (&arguments.grpc_tls_cert, &arguments.grpc_tls_key) {
            return Ok(Self::Ours(Box::new(identity(certificate, key)?)));
        }
        if !arguments.grpc_tls_proxy.is_empty() {
            return Ok(Self::Proxies(arguments.grpc_tls_proxy.clone().into()));
        }
        if arguments.grpc.ip().to_canonical().is_loopback() {
            return Ok(Self::Loopback);
        }
        Err(format!(
            "--grpc {}: calls with tokens and secrets could be read on their way from other machines. Give a certificate with \
             --grpc-tls-cert FILE and --grpc-tls-key FILE; or let a proxy end TLS, and name its address with --grpc-tls-proxy CIDR; or \
             listen on 127.0.0.1",
            arguments.grpc
        ))
    }

    /// `routes` for those who may call at all.
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

/// A certificate chain and its key, read and checked: tonic itself would say nothing of what is wrong before the first client comes.
fn identity(certificate: &Path, key: &Path) -> Result<ServerTlsConfig, String> {
    const CERTIFICATE: &str = "--grpc-tls-cert";
    const KEY: &str = "--grpc-tls-key";
    let read = |flag: &str, path: &Path| {
        fs::read(path).map_err(|error| format!("{flag} {} cannot be read: {error}", path.display()))
    };
    let (chain, secret) = (read(CERTIFICATE, certificate)?, read(KEY, key)?);
    // Not refused: what Kubernetes mounts is root's, and readable by a group.
    if let Some(mode) = exposed(key) {
        tracing::warn!(
            "{KEY} {} can be read by other users (mode {mode:03o}), who can then pretend to be this server: `chmod 600` it",
            key.display()
        );
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{CERTIFICATE} {} is not a PEM file: {error}", certificate.display()))?;
    if certificates.is_empty() {
        return Err(format!(
            "{CERTIFICATE} {} holds no certificate in PEM form",
            certificate.display()
        ));
    }
    let private = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|error| format!("{KEY} {} holds no private key in PEM form: {error}", key.display()))?;
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| {
            format!(
                "{CERTIFICATE} {} and {KEY} {} do not belong together: {error}",
                certificate.display(),
                key.display()
            )
        })?;
    Ok(ServerTlsConfig::new().identity(Identity::from_pem(chain, secret)))
}

/// The permissions of a file that others than its owner may read or change.
fn exposed(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

async fn from_proxy(proxies: &[IpNet], request: Request, next: Next) -> Response {
    let of_proxy = |address: IpAddr| proxies.iter().any(|net| net.contains(&address.to_canonical()));
    match request.extensions().get::<Peer>() {
        Some(Peer::External(address)) if !of_proxy(address.ip()) => Status::permission_denied(
            "calls are taken from the proxy that ends TLS alone: use its address; this one is not for clients",
        )
        .into_http(),
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use clap::Parser as _;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        serve: Serve,
    }

    fn configured(arguments: &[&str]) -> Result<GrpcTls, String> {
        let arguments = ["chandlery"].iter().chain(arguments);
        GrpcTls::configured(
            &Command::try_parse_from(arguments)
                .map_err(|error| error.to_string())?
                .serve,
        )
    }

    #[test]
    fn others_reach_it_by_tls_alone() {
        assert!(matches!(configured(&["--grpc", "127.0.0.1:0"]), Ok(GrpcTls::Loopback)));
        assert!(matches!(configured(&["--grpc", "[::1]:0"]), Ok(GrpcTls::Loopback)));
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:9090"] {
            let refused = configured(&["--grpc", address]).unwrap_err();
            assert!(refused.contains("--grpc-tls-cert"), "{refused}");
            let behind = configured(&["--grpc", address, "--grpc-tls-proxy", "10.0.0.2/32"]);
            assert!(matches!(behind, Ok(GrpcTls::Proxies(_))), "{behind:?}");
        }
        let half = configured(&["--grpc-tls-cert", "a.pem"]).unwrap_err();
        assert!(half.contains("--grpc-tls-key"), "{half}");
    }

    #[test]
    fn a_certificate_is_checked_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let start = |certificate: &str, key: &str| {
            configured(&["--grpc-tls-cert", &path(certificate), "--grpc-tls-key", &path(key)])
        };
        let absent = start("none.pem", "none.pem").unwrap_err();
        assert!(
            absent.starts_with("--grpc-tls-cert") && absent.contains("cannot be read"),
            "{absent}"
        );
        fs::write(path("empty.pem"), "").unwrap();
        assert!(start("empty.pem", "empty.pem").unwrap_err().contains("no certificate"));
    }

    #[test]
    fn a_key_that_others_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        fs::write(&key, "").unwrap();
        for (mode, noticed) in [(0o600, None), (0o400, None), (0o640, Some(0o640)), (0o644, Some(0o644))] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposed(&key), noticed);
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_nobody_else_calls() {
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
