//! How much one caller may do.

use std::num::NonZeroU32;

use ipnet::IpNet;

use crate::edge::Limits;

/// How much one caller may do.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// MCP messages, gRPC requests and pages a minute.
    pub requests: NonZeroU32,
    /// How many of these may be gRPC requests and forms that can change something, a minute; tool calls do not count.
    pub writes: NonZeroU32,
    /// MCP sessions a minute.
    pub sessions: NonZeroU32,
    /// Steps of sign-ins a minute from one address; from one /64 network where it is IPv6.
    pub sign_ins: NonZeroU32,
    /// Tool calls, gRPC requests and pages at a time, until their answers are sent. Less than an upstream takes from all together, so that nobody can have all of it.
    pub calls: usize,
    /// Event streams at a time.
    pub streams: usize,
    /// Addresses of reverse proxies. What they say of where a request comes from (`X-Forwarded-For`) is believed; where they say nothing,
    /// sign-ins are not counted.
    pub proxies: Vec<IpNet>,
}

impl Allowance {
    /// As good as all.
    #[cfg(feature = "testing")]
    pub fn boundless() -> Self {
        Self {
            requests: NonZeroU32::MAX,
            writes: NonZeroU32::MAX,
            sessions: NonZeroU32::MAX,
            sign_ins: NonZeroU32::MAX,
            calls: usize::MAX,
            streams: usize::MAX,
            proxies: Limits::loopback(),
        }
    }
}

impl Default for Allowance {
    fn default() -> Self {
        let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self {
            requests: count(12_000),
            writes: count(3_000),
            sessions: count(300),
            sign_ins: count(120),
            calls: 128,
            streams: 64,
            proxies: Limits::loopback(),
        }
    }
}
