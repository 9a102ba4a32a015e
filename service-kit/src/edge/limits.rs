//! The limits of a listener.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The limits of a listener. They apply to TCP clients, not to other services.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address, or from one /64 network for IPv6.
    pub per_address: usize,
    /// Addresses that many clients share, such as a reverse proxy's. `per_address` does not apply to them.
    pub proxies: Vec<IpNet>,
    /// How long a client may take to send the whole head of a request or the next piece of a body, or to read the next
    /// piece of a response.
    pub client_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle: Duration,
}

impl Limits {
    /// The addresses of this machine.
    pub fn loopback() -> Vec<IpNet> {
        vec![
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ]
    }

    /// Whether many clients share this address.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: 1_000,
            proxies: Self::loopback(),
            client_timeout: Duration::from_secs(20),
            idle: Duration::from_secs(300),
        }
    }
}
