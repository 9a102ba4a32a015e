//! Keeps the development issuer unreachable from other machines.

use std::net::SocketAddr;

use url::{Host, Url};

/// Other machines could reach the server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{what} can be reached from other machines, and anybody who reaches the development issuer could try to sign in as any user"
)]
pub(crate) struct PublicAddress {
    what: String,
}

/// Fails if other machines could reach the development issuer. The server must listen on loopback for HTTP and for
/// gRPC, since both accept its tokens, and its public URL must name this machine.
pub(crate) fn refuse_public(http: SocketAddr, grpc: SocketAddr, public_url: &Url) -> Result<(), PublicAddress> {
    for (flag, address) in [("--http", http), ("--grpc", grpc)] {
        if !address.ip().to_canonical().is_loopback() {
            return Err(PublicAddress {
                what: format!("{flag} {address}"),
            });
        }
    }
    if names_this_machine(public_url) {
        Ok(())
    } else {
        Err(PublicAddress {
            what: format!("--public-url {public_url}"),
        })
    }
}

/// Whether requests to this URL stay on the machine that sends them.
pub(crate) fn names_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requires_loopback() {
        const GRPC: &str = "127.0.0.1:9090";
        let check = |http: &str, grpc: &str, url: &str| {
            refuse_public(http.parse().unwrap(), grpc.parse().unwrap(), &url.parse().unwrap())
                .map_err(|refusal| refusal.what)
        };
        for (http, grpc, url) in [
            ("127.0.0.1:8080", GRPC, "http://127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:9090", "http://localhost:8080"),
            ("127.0.0.1:8080", GRPC, "http://chandlery.localhost:8080/"),
        ] {
            assert_eq!(check(http, grpc, url), Ok(()));
        }
        for (http, grpc, url, what) in [
            ("0.0.0.0:8080", GRPC, "http://localhost", "--http"),
            ("192.168.1.5:8080", GRPC, "http://localhost", "--http"),
            ("127.0.0.1:8080", "0.0.0.0:9090", "http://localhost", "--grpc"),
            ("127.0.0.1:8080", "[::]:9090", "http://localhost", "--grpc"),
            ("127.0.0.1:8080", GRPC, "https://chandlery.example.com", "--public-url"),
            ("127.0.0.1:8080", GRPC, "http://localhost.example.com", "--public-url"),
        ] {
            assert!(
                check(http, grpc, url).unwrap_err().starts_with(what),
                "{http} {grpc} {url}"
            );
        }
    }
}
