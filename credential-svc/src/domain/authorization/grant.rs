//! What an authorization server issued to an owner, as it is kept in the owner's record.

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use uuid::Uuid;

use super::{
    pending::Pending,
    plan::{ClientId, Resource, Server, SignIn},
    servers::{Authentication, Client},
};

/// A token is renewed in the background after this part of its life.
const AGING: (i64, i64) = (4, 5);
/// In the last part of its life, callers wait for another: a tenth of it, at most this (microseconds).
const LAST: i64 = 10_000_000;
/// Why a person must connect again whose token has ended.
const ENDED: &str = "the access token has expired, and the authorization server issued none that could renew it";

/// Tokens of an owner, and what is under way to get more. The default has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    /// Counts the access tokens, and disconnections: where it has grown, what was requested before is not wanted any more.
    pub(crate) number: i64,
    pub(crate) grant: Option<Grant>,
    /// Who is getting another token.
    pub(crate) lease: Option<Lease>,
    /// Why the server will never issue another token, for people; `None`: it may. See [`Self::over`].
    pub(crate) failure: Option<String>,
    /// Why the server issued no other token when it was last asked, for people: an admin must change something. `None`: it issued one, or
    /// was not asked.
    pub(crate) refusal: Option<String>,
    /// Scopes that the upstream demanded; at most [`super::scopes::MAX`].
    pub(crate) demanded: Vec<String>,
    /// Sign-ins that have begun.
    pub(crate) pending: Vec<Pending>,
    /// What is to be revoked of former grants.
    pub(crate) unrevoked: Vec<Unrevoked>,
}

/// An access token, and what is needed to get the next.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The server that issued it, and that alone gets its refresh token.
    pub(crate) server: Server,
    pub(crate) client_id: String,
    /// How a client authenticates that is not the entry's. `None`: as the entry says, with the secrets in its fields.
    pub(crate) authentication: Option<Authentication>,
    /// The resource indicator that was sent; empty: none.
    pub(crate) resource: String,
    /// Those that were granted.
    pub(crate) scopes: Vec<String>,
    /// Those that a person's sign-in asked for, and that the server did not grant or grants under another name.
    pub(crate) declined: Vec<String>,
    /// What it was requested with; see [`super::requests::basis`]. Zeros for a sign-in.
    pub(crate) basis: [u8; 32],
    pub(crate) access: SecretString,
    /// When the access token expires, in microseconds since 1970; `None`: unknown.
    pub(crate) expire_time: Option<i64>,
    pub(crate) refresh: Option<SecretString>,
    /// For people; empty: unknown.
    pub(crate) account: String,
    /// When a person connected the account, or when the first token was issued.
    pub(crate) connect_time: i64,
    /// When the access token was issued.
    pub(crate) refresh_time: i64,
}

/// Tokens that are no longer used, and are to be revoked.
#[derive(Clone, Debug)]
pub(crate) struct Unrevoked {
    pub(crate) server: Server,
    /// To which they were issued.
    pub(crate) client: Client,
    /// As [`Grant::account`].
    pub(crate) account: String,
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    /// Since when (microseconds since 1970).
    pub(crate) since: i64,
}

impl Unrevoked {
    /// How many an owner has; the oldest goes.
    const MAX: usize = 4;

    /// Whether revoking it leaves the tokens of a new grant. Many servers have one grant for an account and a client, and revoke all of its
    /// tokens with one of them.
    pub(crate) fn is_apart_from(&self, new: &Grant) -> bool {
        let accounts_differ = !self.account.is_empty() && !new.account.is_empty() && self.account != new.account;
        self.server != new.server || self.client.id != new.client_id || accounts_differ
    }

    pub(crate) fn add(all: &mut Vec<Self>, new: Self) {
        all.drain(..(all.len() + 1).saturating_sub(Self::MAX));
        all.push(new);
    }

    /// The bytes of its secrets.
    pub(crate) fn size(&self) -> usize {
        let refresh = self.refresh.as_ref().map_or(0, |refresh| refresh.expose_secret().len());
        self.access.expose_secret().len() + refresh + self.client.authentication.size()
    }
}

/// The right to ask for another token, until a time. A holder that dies leaves it to expire, or to the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// A process; or the same for every process, one after the other, where no two have the store at once: then a lease that is left over is
    /// taken up by the next, and nobody waits for its end.
    pub(crate) holder: Uuid,
    /// Microseconds since 1970.
    pub(crate) until: i64,
}

/// How far an access token is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    Fresh,
    /// It serves, and another should be requested.
    Aging,
    /// It may expire on its way to the upstream.
    Last,
    Expired,
}

impl Grant {
    /// Its tokens, when they are no longer used.
    pub(crate) fn unrevoked(self, client: Client, since: i64) -> Unrevoked {
        Unrevoked {
            server: self.server,
            client,
            account: self.account,
            access: self.access,
            refresh: self.refresh,
            since,
        }
    }

    pub(crate) fn age(&self, now: i64) -> Age {
        let Some(expires) = self.expire_time else {
            return Age::Fresh;
        };
        let life = expires.saturating_sub(self.refresh_time).max(0);
        if now >= expires {
            Age::Expired
        } else if now >= expires - (life / 10).min(LAST) {
            Age::Last
        } else if now >= self.refresh_time + life / AGING.1 * AGING.0 {
            Age::Aging
        } else {
            Age::Fresh
        }
    }

    /// Whether it was issued by the server and to the client that the entry names now, for the resource that the entry has now.
    pub(crate) fn fits(&self, plan: &SignIn) -> bool {
        self.is_of(plan) && self.is_for(plan)
    }

    fn is_for(&self, plan: &SignIn) -> bool {
        let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
        match (&plan.resource, &plan.upstream) {
            (Resource::Given(resource), _) => self.resource == *resource,
            (Resource::OfUpstream, Some(upstream)) => origin(&self.resource) == origin(upstream),
            (Resource::OfUpstream, None) | (Resource::Omitted, _) => true,
        }
    }

    /// Whether it was issued by the server and to the client that the entry names now.
    pub(super) fn is_of(&self, plan: &SignIn) -> bool {
        let same_client = match (&plan.client, &self.authentication) {
            (None, Some(_)) => true,
            (Some(client), None) => match &client.id {
                ClientId::Given(id) => *id == self.client_id,
                ClientId::Field(_) => true,
            },
            (None, None) | (Some(_), Some(_)) => false,
        };
        same_client && plan.server.as_ref().is_none_or(|server| *server == self.server)
    }

    /// When a token ends that nothing renews but a person (microseconds since 1970).
    pub(crate) fn end(&self) -> Option<i64> {
        self.expire_time.filter(|_| self.refresh.is_none())
    }

    /// The scopes of the entry that nobody asked for yet: the entry named fewer when the account was connected.
    pub(crate) fn unasked(&self, plan: &SignIn) -> Vec<String> {
        let mut unasked = self.lacks(&plan.scopes);
        unasked.retain(|scope| !self.declined.contains(scope));
        unasked
    }

    /// Those of the scopes that were not granted.
    pub(crate) fn lacks(&self, scopes: &[String]) -> Vec<String> {
        scopes
            .iter()
            .filter(|scope| !self.scopes.contains(scope))
            .cloned()
            .collect()
    }
}

impl Tokens {
    /// Without anything that was issued or is under way.
    pub(crate) fn cleared(&self) -> Self {
        if self.is_empty() {
            return Self::default();
        }
        Self {
            number: self.number + 1,
            unrevoked: self.unrevoked.clone(),
            ..Self::default()
        }
    }

    /// With another grant, or the next token of the same.
    pub(crate) fn with(&self, grant: Grant) -> Self {
        Self {
            number: self.number + 1,
            grant: Some(grant),
            lease: None,
            failure: None,
            refusal: None,
            demanded: self.demanded.clone(),
            pending: self.pending.clone(),
            unrevoked: self.unrevoked.clone(),
        }
    }

    /// Why a person must connect the account again; `None`: nobody must.
    pub(crate) fn over(&self, now: i64) -> Option<&str> {
        let end = self.grant.as_ref().and_then(Grant::end);
        let ended = end.filter(|&end| end <= now).map(|_| ENDED);
        self.failure.as_deref().or(ended)
    }

    /// The bytes of its secrets.
    pub(crate) fn size(&self) -> usize {
        let length = |secret: &SecretString| secret.expose_secret().len();
        let of_client = |client: &Option<Authentication>| client.as_ref().map_or(0, Authentication::size);
        let grant = self.grant.as_ref().map_or(0, |grant| {
            length(&grant.access) + grant.refresh.as_ref().map_or(0, length) + of_client(&grant.authentication)
        });
        let pending = self.pending.iter();
        grant
            + self.unrevoked.iter().map(Unrevoked::size).sum::<usize>()
            + pending
                .map(|one| length(&one.verifier) + of_client(&one.authentication))
                .sum::<usize>()
    }

    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            number,
            grant,
            lease,
            failure,
            refusal,
            demanded,
            pending,
            unrevoked,
        } = self;
        *number == 0
            && grant.is_none()
            && lease.is_none()
            && failure.is_none()
            && refusal.is_none()
            && demanded.is_empty()
            && pending.is_empty()
            && unrevoked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(life: Option<i64>) -> Grant {
        Grant {
            server: Server::Issuer("https://as.example.com".to_owned()),
            client_id: "client".to_owned(),
            authentication: None,
            resource: String::new(),
            scopes: vec!["read".to_owned()],
            declined: Vec::new(),
            basis: [0; 32],
            access: "token".into(),
            expire_time: life.map(|life| 1_000_000_000 + life),
            refresh: None,
            account: String::new(),
            connect_time: 0,
            refresh_time: 1_000_000_000,
        }
    }

    #[test]
    fn a_token_ages() {
        let hour = 3_600_000_000;
        for (life, passed, age) in [
            (Some(hour), 0, Age::Fresh),
            (Some(hour), hour / 5 * 4 - 1, Age::Fresh),
            (Some(hour), hour / 5 * 4, Age::Aging),
            (Some(hour), hour - LAST, Age::Last),
            (Some(hour), hour, Age::Expired),
            // Not even a token that lives for seconds is in its last ones when it is issued.
            (Some(5_000_000), 0, Age::Fresh),
            (Some(5_000_000), 4_500_000, Age::Last),
            (Some(0), 0, Age::Expired),
            (Some(-5), 0, Age::Expired),
            (None, i64::MAX / 2, Age::Fresh),
        ] {
            assert_eq!(grant(life).age(1_000_000_000 + passed), age, "{life:?} {passed}");
        }
    }
}
