//! What an entry revision says about secrets: which ones there are, who provides them, and where they go.

use registry_model::destination::{self, Destination, Part, ValuesByOthers};

use super::{
    authorization::plan::{ClientCredentials, SignIn, Source as Tokens, TokenPlan},
    destination::{Agreed, Present},
    injection::Injection,
    owner::Source,
    record::Record,
};

/// The part of an entry revision that this service uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// See `registry_model::destination`. `None` for an entry without a server.
    pub(crate) destination: Option<Destination>,
    /// The install fields whose values only this service sees, in the entry's order.
    pub(crate) fields: Vec<SecretField>,
    /// The stored credential that authenticates each request, if the entry has one.
    pub(crate) primary: Option<Primary>,
    /// The token that authenticates each request, if the entry has one.
    pub(crate) tokens: Option<TokenPlan>,
}

/// An install field of type SECRET or FILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretField {
    pub(crate) key: String,
    /// For people; never empty.
    pub(crate) title: String,
    pub(crate) required: bool,
    pub(crate) source: Source,
    pub(crate) target: Target,
}

impl SecretField {
    /// Whether the value goes to the server when it starts, rather than into each request.
    pub(crate) fn goes_to_server(&self) -> bool {
        matches!(self.target, Target::Environment(_) | Target::File(_) | Target::Argument)
    }
}

/// Where a value goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nowhere by itself: a secret of the credential model.
    Model,
    Environment(String),
    File(String),
    Header(String),
    Argument,
}

/// The primary credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    /// Key of its field.
    pub(crate) field: String,
    pub(crate) injection: Injection,
}

impl Plan {
    /// Where secrets of the entry go, or those of an installation whose values somebody else has set.
    pub(crate) fn binding(&self, foreign: Option<&ValuesByOthers>) -> Option<String> {
        let destination = self.destination.as_ref()?;
        Some(destination::with(&destination.binding, foreign))
    }

    /// Where an installation's own secrets go, given `entry`, the record of the entry: which of its secrets go to the same server is part of
    /// the destination. `None` for the entry's own secrets.
    pub(crate) fn bound(&self, foreign: Option<&ValuesByOthers>, entry: Option<&Record>) -> Option<String> {
        let stored = self.stored_for_server(entry);
        Some(destination::with_stored(&self.binding(foreign)?, stored))
    }

    /// The same with what people are shown; `values` are the values of an installation.
    pub(crate) fn present(
        &self,
        foreign: Option<&ValuesByOthers>,
        values: &[Part],
        entry: Option<&Record>,
    ) -> Option<Present> {
        let destination = self.destination.as_ref()?;
        let mut parts = destination.parts.clone();
        let stored = self.stored_for_server(entry);
        parts.extend(stored.map(|(key, generation)| destination::stored_secret(key, generation)));
        parts.extend_from_slice(values);
        Some(Present {
            destination: self.bound(foreign, entry)?,
            foreign: foreign.is_some(),
            agreed: Agreed {
                description: destination.description.clone(),
                parts,
            },
        })
    }

    /// Whether a server gets secrets stored on the entry together with those of the installation's owner.
    pub(crate) fn is_mixed(&self) -> bool {
        self.has(Source::Prompted) && self.of(Source::Stored).any(SecretField::goes_to_server)
    }

    /// The secrets stored on the entry that the server gets: the key, and the generation that brought the value.
    fn stored_for_server<'a>(&'a self, entry: Option<&'a Record>) -> impl Iterator<Item = (&'a str, i64)> {
        let entry = entry.filter(|_| self.is_mixed());
        let fields = self.of(Source::Stored).filter(|field| field.goes_to_server());
        fields.filter_map(move |field| Some((field.key.as_str(), entry?.fields.get(&field.key)?.stored.generation)))
    }

    /// The fields whose values come from `source`.
    pub(crate) fn of(&self, source: Source) -> impl Iterator<Item = &SecretField> {
        self.fields.iter().filter(move |field| field.source == source)
    }

    /// Whether owners of this source connect an account.
    fn connects_account(&self, source: Source) -> bool {
        let of = self.tokens.as_ref().map(|tokens| &tokens.source);
        source == Source::Prompted && matches!(of, Some(Tokens::SignIn(_)))
    }

    /// How tokens are issued to a machine, without a person.
    pub(crate) fn machine(&self) -> Option<&ClientCredentials> {
        match self.tokens.as_ref().map(|tokens| &tokens.source) {
            Some(Tokens::ClientCredentials(plan)) => Some(plan),
            _ => None,
        }
    }

    /// How a person connects an account.
    pub(crate) fn sign_in(&self) -> Option<&SignIn> {
        match self.tokens.as_ref().map(|tokens| &tokens.source) {
            Some(Tokens::SignIn(plan)) => Some(plan),
            _ => None,
        }
    }

    /// Whether tokens are kept for owners of this source.
    pub(crate) fn keeps_tokens(&self, source: Source) -> bool {
        let of = self.tokens.as_ref().map(|tokens| &tokens.source);
        source == Source::Prompted && matches!(of, Some(Tokens::SignIn(_) | Tokens::ClientCredentials(_)))
    }

    /// Whether there are such fields.
    pub(crate) fn has(&self, source: Source) -> bool {
        self.of(source).next().is_some()
    }

    /// A field by key, if its value comes from `source`.
    pub(crate) fn field(&self, key: &str, source: Source) -> Option<&SecretField> {
        self.of(source).find(|field| field.key == key)
    }

    /// Whether the field's value is sent in a header, as the primary credential or by its target.
    pub(crate) fn is_header(&self, field: &SecretField) -> bool {
        matches!(field.target, Target::Header(_))
            || self.primary.as_ref().is_some_and(|primary| primary.field == field.key)
    }

    /// The required fields from `source` that have no value in `record`, sorted.
    pub(crate) fn missing(&self, source: Source, record: &Record) -> Vec<String> {
        let mut missing: Vec<String> = self
            .of(source)
            .filter(|field| field.required && !record.fields.contains_key(&field.key))
            .map(|field| field.key.clone())
            .collect();
        missing.sort();
        missing
    }

    /// Whether the plan would send values or tokens in `record` to `present`, which they are not bound to.
    pub(crate) fn is_bound_elsewhere(&self, source: Source, record: &Record, present: Option<&str>) -> bool {
        // A machine's token goes where the secret of its client may go.
        let has_token = self.connects_account(source) && record.tokens.grant.is_some();
        (has_token || self.of(source).any(|field| record.fields.contains_key(&field.key)))
            && !present.is_some_and(|present| destination::covers(&record.bound_destination, present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{destination::Moved, record::Field, summary::StoredField};

    /// Secrets that an earlier version bound to the program alone must be confirmed once. Origins are what they were.
    #[test]
    fn what_was_bound_to_a_program_alone_is_asked_about() {
        let field = SecretField {
            key: "token".to_owned(),
            title: "token".to_owned(),
            required: true,
            source: Source::Prompted,
            target: Target::Model,
        };
        let stored = Field {
            stored: StoredField {
                generation: 1,
                update_time: 0,
            },
            value: "secret".into(),
        };
        for (bound, present, asks) in [
            ("command:npx server", "code:v1:00", true),
            ("https://a.example", "https://a.example", false),
            ("https://a.example", "code:v1:00", true),
            ("code:v1:00", "code:v1:00", false),
            ("incomplete:code:v1:00", "code:v1:00", true),
        ] {
            let plan = Plan {
                destination: Some(Destination {
                    binding: present.to_owned(),
                    description: "npx server".to_owned(),
                    parts: Vec::new(),
                }),
                fields: vec![field.clone()],
                primary: None,
                tokens: None,
            };
            let record = Record {
                generation: 1,
                bound_destination: bound.to_owned(),
                fields: [("token".to_owned(), stored.clone())].into(),
                ..Record::default()
            };
            assert_eq!(
                plan.is_bound_elsewhere(Source::Prompted, &record, Some(present)),
                asks,
                "{bound} {present}"
            );
        }
        let moved = Moved {
            bound: "command:npx server".to_owned(),
            present: "code:v1:00".to_owned(),
        };
        let message = moved.message(Source::Prompted);
        assert!(message.contains("bound to the program alone"), "{message}");
        let incomplete = Moved {
            bound: destination::incomplete("code:v1:00"),
            present: "code:v1:00".to_owned(),
        };
        let message = incomplete.message(Source::Prompted);
        assert!(
            message.contains("are lost; their owner must") && message.contains("enter all secrets again"),
            "{message}"
        );
    }
}
