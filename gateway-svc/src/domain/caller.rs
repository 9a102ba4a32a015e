//! Who makes a call.

use std::{borrow::Cow, fmt, sync::Arc, time::SystemTime};

use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{User, UserId, identity::Use};
use sha2::{Digest as _, Sha256};

use super::ConsumerRef;

/// Who makes a call, and what their token is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// On whose behalf.
    pub(crate) subject: Subject,
    /// Gateways and agents that a gateway token is limited to; `None`: not limited.
    pub(crate) consumers: Option<Arc<[ConsumerRef]>>,
    /// The JWT that they call with; `None`: a gateway token.
    pub(crate) token: Option<Arc<CallerToken>>,
    /// Who created the team's gateway token, `users/{user}`; `None` for a person, or where the registry does not say.
    pub(crate) creator: Option<Arc<str>>,
}

/// A verified JWT of a caller, for upstreams whose credential is made from it.
pub(crate) struct CallerToken {
    /// What it says.
    pub(crate) user: Arc<User>,
    /// The token.
    pub(crate) secret: SecretString,
    /// It is an ID token, which stands in for an access token that is opaque.
    pub(crate) is_id_token: bool,
}

/// On whose behalf a call is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A person, by a JWT or by a gateway token of theirs.
    User(Arc<CallerUser>),
    /// A team (its slug), by a gateway token: reaches that team's installations, and no personal ones.
    Team(Arc<str>),
}

/// A person, as far as calls go. Two with the same claims are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallerUser {
    /// Derived from issuer and subject.
    pub(crate) id: UserId,
    /// `iss`.
    pub(crate) issuer: String,
    /// `sub`.
    pub(crate) subject: String,
    /// Groups of the token; none for a gateway token, which carries no claims.
    pub(crate) groups: Vec<String>,
    /// Whether it is a program with a token of its own.
    pub(crate) machine: bool,
    /// Whether configuration makes them an admin; never by a gateway token.
    pub(crate) admin: bool,
}

/// A gateway token that is not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayToken {
    /// `gatewayTokens/{token}`.
    pub(crate) name: Arc<str>,
    /// Who calls with it.
    pub(crate) caller: Caller,
    /// When it ends.
    pub(crate) expires: Option<SystemTime>,
}

impl Caller {
    /// A person with this JWT, which says who they are, and is accepted for this.
    pub(crate) fn from_user(user: Arc<User>, token: &str, shown_for: Use) -> Self {
        let person = Self::person(CallerUser {
            id: user.id.clone(),
            issuer: user.issuer.clone(),
            subject: user.subject.clone(),
            groups: user.groups.clone(),
            machine: user.machine,
            admin: user.admin,
        });
        let secret = token.into();
        Self {
            token: Some(Arc::new(CallerToken {
                user,
                secret,
                is_id_token: matches!(shown_for, Use::SignIn),
            })),
            ..person
        }
    }

    /// A person, not limited to any gateways.
    pub(crate) fn person(user: CallerUser) -> Self {
        Self {
            subject: Subject::User(Arc::new(user)),
            consumers: None,
            token: None,
            creator: None,
        }
    }

    /// The person, if it is one.
    pub(crate) fn user(&self) -> Option<&Arc<CallerUser>> {
        match &self.subject {
            Subject::User(user) => Some(user),
            Subject::Team(_) => None,
        }
    }

    /// The person, who may have personal installations. A program has none.
    pub(crate) fn person_id(&self) -> Option<&UserId> {
        self.user().filter(|user| !user.machine).map(|user| &user.id)
    }

    /// `users/{user}` or `teams/{team}`: the same for all tokens of a subject. Sessions are bound to it.
    pub(crate) fn subject_name(&self) -> String {
        match &self.subject {
            Subject::User(user) => user.id.resource_name(),
            Subject::Team(team) => format!("teams/{team}"),
        }
    }

    /// Whose share of a server's processes is used. A team's gateway token uses its creator's, who would have two shares otherwise.
    /// `users/{user}`, or `teams/{team}` where the creator is not known.
    pub(crate) fn process_share(&self) -> Cow<'_, str> {
        match &self.creator {
            Some(creator) => Cow::Borrowed(creator),
            None => Cow::Owned(self.subject_name()),
        }
    }

    /// Whether the token may be used at this gateway or agent.
    pub(crate) fn reaches(&self, consumer: &ConsumerRef) -> bool {
        self.consumers.as_ref().is_none_or(|allowed| allowed.contains(consumer))
    }
}

impl CallerToken {
    /// A digest of issuer, subject and token: what is made from the token is for callers with the same digest alone.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&*self.user.issuer, &*self.user.subject, self.secret.expose_secret()] {
            // The length keeps ("a", "bc") and ("ab", "c") apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl PartialEq for CallerToken {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for CallerToken {}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerToken")
            .field("user", &self.user.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ConsumerKind;

    #[test]
    fn a_limited_token_reaches_only_what_it_names() {
        let here = ConsumerRef::new(ConsumerKind::Gateway, "default");
        let agent = ConsumerRef::new(ConsumerKind::Agent, "default");
        let mut caller = Caller {
            subject: Subject::Team("core".into()),
            consumers: None,
            token: None,
            creator: None,
        };
        assert!(caller.reaches(&here) && caller.reaches(&agent));
        caller.consumers = Some(Arc::from([here.clone()]));
        assert!(caller.reaches(&here) && !caller.reaches(&agent));
        assert_eq!(caller.subject_name(), "teams/core");
    }
}
