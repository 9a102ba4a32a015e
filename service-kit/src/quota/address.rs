//! Determines the client address of a request, including one that came through reverse proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::{edge::network, peer::Peer};

/// The largest number of reverse proxies that a request may pass.
const MAX_HOPS: usize = 16;

/// The address of the client. If the peer is a reverse proxy, that is the last address in `X-Forwarded-For` that is not
/// a proxy's: the client may have forged what is before it. `None` if a proxy does not name an address.
pub(super) fn of_client(peer: Option<Peer>, headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let Some(Peer::External(peer)) = peer else { return None };
    let is_proxy = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let address = peer.ip().to_canonical();
    if !is_proxy(&address) {
        return Some(network(address));
    }
    let lines: Vec<&[u8]> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // The client may have sent bytes that are not text; those that a proxy has appended are.
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for hop in hops.take(MAX_HOPS) {
        let address = parse(std::str::from_utf8(hop).ok()?.trim())?;
        if !is_proxy(&address) {
            return Some(network(address));
        }
    }
    None
}

/// Parses an address with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .unwrap_or(hop);
    let address = bare
        .parse()
        .ok()
        .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> Option<String> {
        let lines: Vec<&[u8]> = forwarded.iter().map(|line| line.as_bytes()).collect();
        client_of(peer, &lines)
    }

    fn client_of(peer: &str, forwarded: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        }
        let proxies = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let peer = Peer::External(peer.parse().unwrap());
        of_client(Some(peer), &headers, &proxies).map(|address| address.to_string())
    }

    #[test]
    fn a_direct_client_has_the_address_of_its_connection() {
        let address = Some("203.0.113.9".to_owned());
        assert_eq!(client("203.0.113.9:1", &[]), address);
        assert_eq!(client("203.0.113.9:1", &["198.51.100.1"]), address);
        assert_eq!(client("[2001:db8:1:2:3::4]:1", &[]), Some("2001:db8:1:2::".to_owned()));
    }

    #[test]
    fn a_proxied_client_has_the_address_that_the_last_proxy_names() {
        let address = Some("203.0.113.9".to_owned());
        assert_eq!(client("127.0.0.1:1", &["198.51.100.1, 203.0.113.9"]), address);
        assert_eq!(
            client("127.0.0.1:1", &["198.51.100.1", "203.0.113.9,10.0.0.7"]),
            address
        );
        assert_eq!(client_of("127.0.0.1:1", &[b"\xff, 203.0.113.9"]), address);
        assert_eq!(client_of("127.0.0.1:1", &[b"\xff", b"203.0.113.9"]), address);
        assert_eq!(client("[::ffff:127.0.0.1]:1", &["203.0.113.9:4711"]), address);
        assert_eq!(client("10.0.0.1:1", &["[2001:db8::1]"]), Some("2001:db8::".to_owned()));
    }

    #[test]
    fn no_address_if_a_proxy_names_none() {
        for forwarded in [&[][..], &["unknown"], &["203.0.113.9, x"], &["10.0.0.1"], &[""]] {
            assert_eq!(client("127.0.0.1:1", forwarded), None, "{forwarded:?}");
        }
        assert_eq!(of_client(None, &HeaderMap::new(), &[]), None);
    }
}
