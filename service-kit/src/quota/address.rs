//! Where a request comes from, also behind reverse proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::{edge::network, peer::Peer};

/// Reverse proxies that a request passed, at most.
const MAX_HOPS: usize = 16;

/// The address of the client: that of the connection or, where that is a reverse proxy's, the last one in `X-Forwarded-For` that is none.
/// What stands before it the client may have made up. `None` where a proxy does not say.
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
    // What a proxy has added is text, whatever stands before it.
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for hop in hops.take(MAX_HOPS) {
        let address = parse(std::str::from_utf8(hop).ok()?.trim())?;
        if !is_proxy(&address) {
            return Some(network(address));
        }
    }
    None
}

/// An address, with a port or without.
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
    fn is_that_of_the_connection_whatever_the_client_says() {
        let address = Some("203.0.113.9".to_owned());
        assert_eq!(client("203.0.113.9:1", &[]), address);
        assert_eq!(client("203.0.113.9:1", &["198.51.100.1"]), address);
        assert_eq!(client("[2001:db8:1:2:3::4]:1", &[]), Some("2001:db8:1:2::".to_owned()));
    }

    #[test]
    fn is_what_the_last_proxy_says_and_not_what_the_client_made_up() {
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
    fn is_not_known_where_proxies_do_not_say() {
        for forwarded in [&[][..], &["unknown"], &["203.0.113.9, x"], &["10.0.0.1"], &[""]] {
            assert_eq!(client("127.0.0.1:1", forwarded), None, "{forwarded:?}");
        }
        assert_eq!(of_client(None, &HeaderMap::new(), &[]), None);
    }
}
