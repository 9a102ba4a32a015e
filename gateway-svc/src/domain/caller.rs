//! Who makes a call.

use std::{sync::Arc, time::SystemTime};

use service_kit::{User, UserId};

use super::ConsumerRef;

/// Who makes a call, and what their token is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// On whose behalf.
    pub(crate) subject: Subject,
    /// Gateways and agents that a gateway token is limited to; `None`: not limited.
    pub(crate) consumers: Option<Arc<[ConsumerRef]>>,
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
    /// A person with a JWT.
    pub(crate) fn from_user(user: &User) -> Self {
        Self::person(CallerUser {
            id: user.id.clone(),
            issuer: user.issuer.clone(),
            subject: user.subject.clone(),
            groups: user.groups.clone(),
            admin: user.admin,
        })
    }

    /// A person, not limited to any gateways.
    pub(crate) fn person(user: CallerUser) -> Self {
        Self {
            subject: Subject::User(Arc::new(user)),
            consumers: None,
        }
    }

    /// The person, if it is one.
    pub(crate) fn user(&self) -> Option<&Arc<CallerUser>> {
        match &self.subject {
            Subject::User(user) => Some(user),
            Subject::Team(_) => None,
        }
    }

    /// The same for all tokens of a subject: what sessions are bound to.
    /// `users/{user}` or `teams/{team}`.
    pub(crate) fn subject_name(&self) -> String {
        match &self.subject {
            Subject::User(user) => user.id.resource_name(),
            Subject::Team(team) => format!("teams/{team}"),
        }
    }

    /// Whether the token may be used at this gateway or agent.
    pub(crate) fn reaches(&self, consumer: &ConsumerRef) -> bool {
        self.consumers.as_ref().is_none_or(|allowed| allowed.contains(consumer))
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
        };
        assert!(caller.reaches(&here) && caller.reaches(&agent));
        caller.consumers = Some(Arc::from([here.clone()]));
        assert!(caller.reaches(&here) && !caller.reaches(&agent));
        assert_eq!(caller.subject_name(), "teams/core");
    }
}
