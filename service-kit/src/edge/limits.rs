//! What a listener lets strangers have.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What a listener lets strangers have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address; from one /64 network where it is IPv6.
    pub per_address: usize,
    /// Addresses from which many people come, such as a reverse proxy's: `per_address` does not hold for them.
    pub proxies: Vec<IpNet>,
    /// How long a client may let us wait: for the whole head of a request, for the next piece of a body, until it takes the next piece
    /// of an answer.
    pub patience: Duration,
    /// How long a connection may be open without a request.
    pub idle: Duration,
}

impl Limits {
    /// This machine.
    pub fn loopback() -> Vec<IpNet> {
        vec![
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ]
    }

    /// Whether many people come from this address.
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
            patience: Duration::from_secs(20),
            idle: Duration::from_secs(300),
        }
    }
}
