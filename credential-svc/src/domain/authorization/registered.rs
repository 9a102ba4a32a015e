//! Clients that were registered dynamically (RFC 7591), kept with the entry that all its installations use them for.

use std::time::Duration;

use super::servers::Client;

/// How many an entry has. An upstream may name another authorization server each time, so there is a bound; the oldest goes.
const MAX: usize = 20;
/// A secret that expires within this time is not used for a new sign-in (microseconds).
const MARGIN: i64 = Duration::from_secs(3600).as_micros() as i64;

/// A registered client.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) issuer: String,
    pub(crate) redirect_uri: String,
    pub(crate) client: Client,
    /// When its secret expires, in microseconds since 1970.
    pub(crate) expire_time: Option<i64>,
}

/// The client for this issuer and redirect URI.
pub(crate) fn find<'a>(
    clients: &'a [Registered],
    issuer: &str,
    redirect_uri: &str,
    now: i64,
) -> Option<&'a Registered> {
    clients.iter().find(|one| {
        one.issuer == issuer
            && one.redirect_uri == redirect_uri
            && one
                .expire_time
                .is_none_or(|expires| expires > now.saturating_add(MARGIN))
    })
}

/// With a client in place of the one before.
pub(crate) fn with(clients: &[Registered], new: Registered) -> Vec<Registered> {
    let replaced = |one: &&Registered| one.issuer == new.issuer && one.redirect_uri == new.redirect_uri;
    let mut kept: Vec<Registered> = clients.iter().filter(|one| !replaced(one)).cloned().collect();
    kept.drain(..(kept.len() + 1).saturating_sub(MAX));
    kept.push(new);
    kept
}

/// Without the client, which its server no longer knows.
pub(crate) fn without(clients: &[Registered], issuer: &str, id: &str) -> Vec<Registered> {
    let gone = |one: &&Registered| one.issuer == issuer && one.client.id == id;
    clients.iter().filter(|one| !gone(one)).cloned().collect()
}
