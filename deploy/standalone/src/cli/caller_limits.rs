//! The options that say how much one caller may do.

use std::num::NonZeroU32;

use clap::Args;
use ipnet::IpNet;
use service_kit::quota::Allowance;

const HEADING: &str =
    "Limits per caller: a person by whichever token, or a gateway token of a team; sign-ins by address";

/// How much one caller may do. Beyond it, requests fail with HTTP 429 or RESOURCE_EXHAUSTED, which say when to retry.
#[derive(Debug, Args)]
pub(super) struct CallerLimits {
    /// MCP messages, gRPC requests and pages a minute. A burst may use a whole minute's allowance.
    #[arg(long, env = "CHANDLERY_MAX_REQUESTS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().requests, value_parser = batch_or_more, help_heading = HEADING)]
    max_requests_per_minute: NonZeroU32,
    /// How many of these may be gRPC requests and forms that can change something, a minute; tool calls do not count.
    #[arg(long, env = "CHANDLERY_MAX_WRITES_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().writes, help_heading = HEADING)]
    max_writes_per_minute: NonZeroU32,
    /// MCP sessions that may begin in a minute.
    #[arg(long, env = "CHANDLERY_MAX_SESSIONS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().sessions, help_heading = HEADING)]
    max_sessions_per_minute: NonZeroU32,
    /// Steps of sign-ins a minute from one address (IPv6: from one /64 network); each sign-in takes two. Not counted where one of --proxies
    /// does not name its client.
    #[arg(long, env = "CHANDLERY_MAX_SIGN_INS_PER_MINUTE", value_name = "COUNT", default_value_t = Allowance::default().sign_ins, help_heading = HEADING)]
    max_sign_ins_per_minute: NonZeroU32,
    /// Tool calls, gRPC requests (an open log stream, too) and pages at a time, of a person or a team, until their answers are sent: at most
    /// half of the 512 calls that one session with an upstream takes from all callers together.
    #[arg(long, env = "CHANDLERY_MAX_CALLS", value_name = "COUNT", default_value_t = u32::try_from(Allowance::default().calls).unwrap_or(u32::MAX), value_parser = clap::value_parser!(u32).range(1..=256), help_heading = HEADING)]
    max_calls: u32,
    /// Event streams that a person or a team may have open at a time.
    #[arg(long, env = "CHANDLERY_MAX_STREAMS", value_name = "COUNT", default_value_t = u32::try_from(Allowance::default().streams).unwrap_or(u32::MAX), value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = HEADING)]
    max_streams: u32,
}

// The texts here name them.
const _: () = assert!(gateway_svc::MAX_BATCH == 50 && gateway_svc::CALLS_OF_A_SESSION == 512);

/// A batch of MCP messages, of 50 at most, costs as much as its messages.
fn batch_or_more(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<NonZeroU32>() {
        Ok(count) if count.get() >= 50 => Ok(count),
        _ => Err("must be a number of at least 50".to_owned()),
    }
}

impl CallerLimits {
    /// What `proxies` say of where a request comes from is believed.
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
