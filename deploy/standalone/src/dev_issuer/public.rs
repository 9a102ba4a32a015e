//! The development issuer stays on one machine.

use std::net::SocketAddr;

use url::{Host, Url};

/// The server would be reachable by others.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{what} can be reached from other machines, and whoever reached the development issuer could try to sign in as anybody"
)]
pub(crate) struct PublicAddress {
    what: String,
}

/// Refuses to run the development issuer where other machines reach it: the server must listen on loopback, and its public
/// URL, where it has one, must name this machine.
pub(crate) fn refuse_public(http: SocketAddr, public_url: Option<&Url>) -> Result<(), PublicAddress> {
    if !http.ip().to_canonical().is_loopback() {
        return Err(PublicAddress {
            what: format!("--http {http}"),
        });
    }
    match public_url {
        Some(url) if !names_this_machine(url) => Err(PublicAddress {
            what: format!("--public-url {url}"),
        }),
        _ => Ok(()),
    }
}

fn names_this_machine(url: &Url) -> bool {
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
    fn runs_on_loopback_only() {
        let check = |http: &str, url: Option<&str>| {
            let url = url.map(|url| url.parse().unwrap());
            refuse_public(http.parse().unwrap(), url.as_ref()).is_ok()
        };
        assert!(check("127.0.0.1:8080", None));
        assert!(check("[::1]:8080", Some("http://localhost:8080")));
        assert!(check("127.0.0.1:8080", Some("http://chandlery.localhost:8080/")));
        assert!(!check("0.0.0.0:8080", None));
        assert!(!check("192.168.1.5:8080", None));
        assert!(!check("127.0.0.1:8080", Some("https://chandlery.example.com")));
        assert!(!check("127.0.0.1:8080", Some("http://localhost.example.com")));
    }
}
