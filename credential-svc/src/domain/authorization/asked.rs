//! What a workload says when it asks for headers.

use std::time::SystemTime;

use secrecy::SecretString;

use super::exchange::Caller;

/// The generations of an installation's own secrets and of its entry's. Both 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    pub(crate) own: i64,
    pub(crate) entry: i64,
}

/// What is known of the request that the headers are for, and of headers that were rejected before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Those that the caller knows of: nothing older is vended.
    pub(crate) known: Generations,
    /// Of headers that the upstream rejected.
    pub(crate) rejected: Generations,
    /// The number of the token in them; 0: none.
    pub(crate) rejected_token: i64,
    /// Scopes that the upstream demanded.
    pub(crate) demanded: Vec<String>,
    /// Who calls, if with a JWT.
    pub(crate) caller: Option<Caller>,
}

impl Asked {
    /// Whether headers were refused that were vended before.
    pub(crate) fn is_refused(&self) -> bool {
        self.rejected != Generations::default() || self.rejected_token != 0 || !self.demanded.is_empty()
    }
}

/// A token to send.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) token: SecretString,
    /// `None`: unknown.
    pub(crate) expire_time: Option<SystemTime>,
    /// As `VendHeadersResponse.token_number`.
    pub(crate) number: i64,
    /// It is the caller's, and nobody else's.
    pub(crate) for_caller_only: bool,
}
