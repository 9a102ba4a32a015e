//! Options for the limits of one caller.

use std::num::NonZeroU32;

use clap::Args;
use ipnet::IpNet;
use service_kit::quota::Allowance;

const HEADING: &str = "Limits per caller (a person, or a gateway token of a team); sign-ins are limited per address";

/// The limits of one caller. Requests beyond them fail with HTTP 429 or RESOURCE_EXHAUSTED, which say when to retry.
#[derive(Debug, Args)]
pub(super) struct CallerLimits {
    /// MCP messages, gRPC requests and pages per minute. A burst may use the limit of a whole minute.
    #[arg(long, env = "CHANDLERY_MAX_REQUESTS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().requests, value_parser = batch_or_more, help_heading = HEADING)]
    max_requests_per_minute: NonZeroU32,
    /// gRPC requests and forms that may change something, per minute. They also count as requests; tool calls are not
    /// counted here.
    #[arg(long, env = "CHANDLERY_MAX_WRITES_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().writes, help_heading = HEADING)]
    max_writes_per_minute: NonZeroU32,
    /// New MCP sessions per minute.
    #[arg(long, env = "CHANDLERY_MAX_SESSIONS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().sessions, help_heading = HEADING)]
    max_sessions_per_minute: NonZeroU32,
    /// Sign-in steps per minute from one address (IPv6: from one /64 network); each sign-in takes two. Sign-ins through
    /// one of --proxies that does not name its client are not counted.
    #[arg(long, env = "CHANDLERY_MAX_SIGN_INS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().sign_ins, help_heading = HEADING)]
    max_sign_ins_per_minute: NonZeroU32,
    /// Concurrent tool calls, gRPC requests (including open log streams) and pages of a person or a team, counted until
    /// their responses are sent. At most 256: half of the 512 calls that one session with an upstream accepts from all
    /// callers together.
    #[arg(long, env = "CHANDLERY_MAX_CALLS", value_name = "COUNT", default_value_t = u32::try_from(Allowance::default().calls).unwrap_or(u32::MAX), value_parser = clap::value_parser!(u32).range(1..=256), help_heading = HEADING)]
    max_calls: u32,
    /// Concurrent event streams of a person or a team.
    #[arg(long, env = "CHANDLERY_MAX_STREAMS", value_name = "COUNT", default_value_t = u32::try_from(Allowance::default().streams).unwrap_or(u32::MAX), value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = HEADING)]
    max_streams: u32,
}

// The help texts of this file name these numbers.
const _: () = assert!(gateway_svc::MAX_BATCH == 50 && gateway_svc::CALLS_OF_A_SESSION == 512);

/// Accepts at least 50, since a batch may have 50 MCP messages, each of which is counted.
fn batch_or_more(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<NonZeroU32>() {
        Ok(count) if count.get() >= 50 => Ok(count),
        _ => Err("must be a number of at least 50".to_owned()),
    }
}

impl CallerLimits {
    /// `proxies` are the addresses whose X-Forwarded-For is trusted.
    pub(super) fn allowance(&self, proxies: Vec<IpNet>) -> Allowance {
        let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Allowance {
            requests: self.max_requests_per_minute,
            writes: self.max_writes_per_minute,
            sessions: self.max_sessions_per_minute,
            sign_ins: self.max_sign_ins_per_minute,
            calls: count(self.max_calls),
            streams: count(self.max_streams),
            proxies,
        }
    }
}
