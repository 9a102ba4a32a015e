//! Decides which addresses Chandlery may connect to on behalf of a user or an admin.
//!
//! A URL that an admin or a server supplies could point into the network in which Chandlery runs. Such a URL is checked
//! twice: its text when it is saved, and the addresses to which its host resolves at each connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::roots::OwnRoots;

/// The permitted addresses: all public ones, and those that the operator allows (`--allow-upstream-cidr`).
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    allowed: Vec<IpNet>,
    /// Public addresses are not permitted unless `allowed` has them.
    allowed_alone: bool,
    roots: OwnRoots,
}

impl EgressPolicy {
    /// Permits public addresses, and those in `allowed`.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self {
            allowed,
            allowed_alone: false,
            roots: OwnRoots::default(),
        }
    }

    /// The same, for servers that authorities of the organization's own have certified, too.
    #[must_use]
    pub fn trusting(self, roots: OwnRoots) -> Self {
        Self { roots, ..self }
    }

    /// The authorities of the organization's own.
    pub const fn roots(&self) -> &OwnRoots {
        &self.roots
    }

    /// The policy for secrets over plain HTTP: it permits only the addresses that the operator allows. On the way to a
    /// public address, anybody could read the secrets.
    #[must_use]
    pub fn for_plain_secrets(&self) -> Self {
        Self {
            allowed: self.allowed.clone(),
            allowed_alone: true,
            roots: self.roots.clone(),
        }
    }

    /// Whether the policy permits connections to this address.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|net| net.contains(&address)) || (!self.allowed_alone && is_public(address))
    }

    /// Why the address of a host name is refused and what to do, for the person who gave the name.
    pub fn refusal_of_name(&self) -> &'static str {
        if self.allowed_alone {
            PLAIN_SECRETS
        } else {
            REFUSED_NAME
        }
    }

    /// Why an address is refused and what to do, for the person who gave it.
    fn refusal(&self, address: IpAddr) -> String {
        if self.allowed_alone {
            return PLAIN_SECRETS.to_owned();
        }
        format!(
            "{address} is a private, loopback, link-local or otherwise reserved address; an operator can allow it with --allow-upstream-cidr"
        )
    }

    /// Checks a URL before it is saved, and returns what is wrong with it. A host name passes: its addresses can
    /// change, so they are checked at each connect.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must be an http or https URL".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment".to_owned());
        }
        let address = match url.host() {
            None => return Err("must have a host".to_owned()),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) if is_local_name(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(Host::Domain(_)) => return Ok(()),
        };
        if self.permits(address) {
            Ok(())
        } else {
            Err(self.refusal(address))
        }
    }

    /// Like [`check_url`](Self::check_url), for a URL to which secrets are sent.
    pub fn check_url_for_secrets(&self, url: &Url) -> Result<(), String> {
        self.check_url(url)?;
        if url.scheme() == "https" {
            return Ok(());
        }
        if self.allowed.is_empty() {
            return Err(PLAIN_SECRETS.to_owned());
        }
        self.for_plain_secrets().check_url(url)
    }
}

/// Why the address of a host name is refused, and what to do. It does not tell the address, which is internal to the
/// operator's network.
const REFUSED_NAME: &str = "it resolves to a private, loopback, link-local or otherwise reserved address; an operator can allow it with --allow-upstream-cidr";
/// Why a secret is not sent to a URL, and what to do.
const PLAIN_SECRETS: &str = "must be https where a credential is sent; by plain http it goes only to networks that an operator allows with --allow-upstream-cidr";

/// `localhost` and its subdomains (RFC 6761, section 6.3).
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Whether a network contains public addresses.
pub fn includes_public(network: &IpNet) -> bool {
    // A network that begins and ends with reserved addresses but has public ones between them is so large that it
    // contains one of these.
    const BETWEEN: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
        IpAddr::V4(Ipv4Addr::new(193, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1)),
    ];
    is_public(network.network())
        || is_public(network.broadcast())
        || BETWEEN.iter().any(|address| network.contains(address))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether the address is outside the IANA special-purpose registry (RFC 6890 and its updates).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Only 2000::/3 is global unicast. An address that embeds an IPv4 address is as public as that address.
    let embedded = match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    segments[0] & 0xe000 == 0x2000 && !(segments[0] == 0x2001 && (segments[1] < 0x200 || segments[1] == 0xdb8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_networks_with_public_addresses() {
        let includes = |network: &str| includes_public(&network.parse().unwrap());
        for private in [
            "10.0.0.0/8",
            "127.0.0.0/8",
            "172.16.0.0/12",
            "192.168.7.0/24",
            "169.254.169.254/32",
            "100.64.0.0/10",
            "fd00::/8",
            "::1/128",
        ] {
            assert!(!includes(private), "{private}");
        }
        for public in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "192.0.0.0/2",
            "10.0.0.0/7",
            "172.0.0.0/8",
            "8.8.8.8/32",
            "::/0",
            "2001:4860::/32",
        ] {
            assert!(includes(public), "{public}");
        }
    }

    #[test]
    fn refuses_what_is_not_public() {
        let policy = EgressPolicy::default();
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!policy.permits(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(policy.permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn secrets_go_over_plain_http_only_to_allowed_networks() {
        let (none, one) = (
            EgressPolicy::default(),
            EgressPolicy::new(vec!["10.1.0.0/16".parse().unwrap()]),
        );
        let check = |policy: &EgressPolicy, url: &str| policy.check_url_for_secrets(&url.parse().unwrap());
        for policy in [&none, &one] {
            assert_eq!(check(policy, "https://mcp.example.com/mcp"), Ok(()));
            assert!(
                check(policy, "http://1.1.1.1/mcp")
                    .unwrap_err()
                    .contains("must be https")
            );
            assert!(check(policy, "http://localhost/mcp").is_err());
            assert!(!policy.for_plain_secrets().permits("1.1.1.1".parse().unwrap()));
        }
        assert_eq!(check(&one, "http://10.1.2.3/mcp"), Ok(()));
        // The address of a host name is known only at the connect.
        assert!(check(&none, "http://mcp.example.com/mcp").is_err());
        assert_eq!(check(&one, "http://mcp.example.com/mcp"), Ok(()));
    }

    #[test]
    fn checks_urls_before_they_are_saved() {
        let strict = EgressPolicy::default();
        let local = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let check = |policy: &EgressPolicy, url: &str| policy.check_url(&url.parse().unwrap()).is_ok();
        assert!(check(&strict, "https://mcp.example.com/mcp"));
        assert!(!check(&strict, "http://127.0.0.1:8080/mcp"));
        assert!(
            !check(&strict, "http://2130706433/mcp"),
            "the decimal spelling of 127.0.0.1"
        );
        assert!(!check(&strict, "http://LOCALHOST/mcp"));
        assert!(check(&local, "http://127.0.0.1:8080/mcp"));
        assert!(check(&local, "http://localhost/mcp"));
        for url in [
            "ftp://example.com/",
            "https://user@example.com/",
            "https://example.com/#a",
            "data:text/plain,a",
        ] {
            assert!(!check(&strict, url), "{url}");
        }
    }
}
