//! What every creation begins with: whether the request may be a retry, and everything that is wrong with its fields.

use std::collections::HashMap;

use prost::Message;
use service_kit::status::Violations;

use super::slug_in;
use crate::{
    domain::{
        Caller, Error,
        text::{SLUG_RULE, is_slug},
    },
    store::requests::Request,
};

/// The look at a request that creates something, before its transaction begins.
#[derive(Debug)]
pub(super) struct Creation<'a> {
    retry: Option<Request<'a>>,
    violations: Violations,
}

impl<'a> Creation<'a> {
    /// `message` is the request without its `request_id` and its maps, which have no order and are passed separately.
    pub(super) fn new(
        caller: &'a Caller,
        rpc: &'static str,
        request_id: &str,
        maps: &[&HashMap<String, String>],
        message: &impl Message,
    ) -> Self {
        let retry = Request::new(&caller.uid, rpc, request_id, maps, message);
        let mut violations = Violations::new();
        if retry.is_none() {
            violations.add("request_id", "must be a UUID, or empty");
        }
        Self { retry, violations }
    }

    /// Requires that the id which the request gives to the resource is a slug.
    pub(super) fn require_slug(&mut self, field: &str, id: &str) {
        if !is_slug(id) {
            self.violations.add(field, SLUG_RULE);
        }
    }

    /// Requires that `name` is `{collection}/` and a slug. Whether there is such a resource is for later.
    pub(super) fn require_name(&mut self, collection: &str, field: &str, name: &str) {
        if let Err(Error::Invalid(violations)) = slug_in(collection, field, name) {
            self.violations.extend("", violations);
        }
    }

    /// Requires that the field is set, and parses it.
    pub(super) fn parse<M, S>(
        &mut self,
        field: &str,
        message: Option<M>,
        parse: impl FnOnce(M) -> Result<S, Violations>,
    ) -> Option<S> {
        let Some(message) = message else {
            self.violations.add(field, "must be set");
            return None;
        };
        match parse(message) {
            Ok(parsed) => Some(parsed),
            Err(more) => {
                self.violations.extend("", more);
                None
            }
        }
    }

    /// For what else is wrong.
    pub(super) fn violations(&mut self) -> &mut Violations {
        &mut self.violations
    }

    /// What was parsed, and what recognizes a retry; INVALID_ARGUMENT with all violations if there are any.
    pub(super) fn finish<S>(self, parsed: Option<S>) -> Result<(S, Request<'a>), Error> {
        match (parsed, self.retry) {
            (Some(parsed), Some(retry)) if self.violations.is_empty() => Ok((parsed, retry)),
            _ => Err(self.violations.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::Team;

    use super::*;

    fn caller() -> Caller {
        Caller {
            uid: "u".to_owned(),
            admin: true,
            machine: false,
            teams: Vec::new(),
        }
    }

    #[test]
    fn names_everything_that_is_wrong_at_once() {
        let caller = caller();
        let mut creation = Creation::new(&caller, "CreateTeam", "no uuid", &[], &Team::default());
        creation.require_slug("team_id", "Ä");
        creation.require_name("gateways", "parent", "gateway/default");
        creation.require_name("gateways", "other", "gateways/default");
        let parsed = creation.parse("team", None, |team: Team| Ok(team));
        let Error::Invalid(violations) = creation.finish(parsed).unwrap_err() else {
            panic!("not a violation")
        };
        let fields: Vec<_> = violations.iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["request_id", "team_id", "parent", "team"]);
    }

    #[test]
    fn gives_what_was_parsed_where_nothing_is_wrong() {
        let caller = caller();
        let mut creation = Creation::new(&caller, "CreateTeam", "", &[], &Team::default());
        creation.require_slug("team_id", "ops");
        let parsed = creation.parse("team", Some(Team::default()), |_| Ok(7));
        assert_eq!(creation.finish(parsed).unwrap().0, 7);
    }
}
