//! The limits of one caller.

use std::num::NonZeroU32;

use ipnet::IpNet;

use crate::edge::Limits;

/// The limits of one caller.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// MCP messages, gRPC requests and pages per minute.
    pub requests: NonZeroU32,
    /// gRPC requests and forms that may change something, per minute. They also count as requests; tool calls are not
    /// writes.
    pub writes: NonZeroU32,
    /// New MCP sessions per minute.
    pub sessions: NonZeroU32,
    /// Sign-in steps per minute from one address, or from one /64 network for IPv6.
    pub sign_ins: NonZeroU32,
    /// Concurrent tool calls, gRPC requests and pages; each counts until its response is sent. Less than what an
    /// upstream accepts in total, so that no caller can use all of it.
    pub calls: usize,
    /// Concurrent event streams.
    pub streams: usize,
    /// Addresses of reverse proxies, whose `X-Forwarded-For` is trusted. Sign-ins through a proxy that names no address
    /// are not counted.
    pub proxies: Vec<IpNet>,
}

impl Allowance {
    /// An allowance that no test exceeds.
    #[cfg(feature = "testing")]
    pub fn unlimited() -> Self {
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
