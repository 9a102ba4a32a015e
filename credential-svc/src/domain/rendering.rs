//! Turns stored secrets into headers and runtime values.

use std::{sync::Arc, time::SystemTime};

use secrecy::SecretString;

use super::{
    owner::Source,
    plan::{Plan, SecretField, Target},
    record::{Field, Record},
};

/// Secrets by name: headers by field name, runtime values by install field.
#[derive(Debug)]
pub(crate) struct Vended {
    pub(crate) secrets: Vec<(String, SecretString)>,
    /// Of the installation's own secrets.
    pub(crate) generation: i64,
    /// Of those stored on the entry.
    pub(crate) entry_credential_generation: i64,
    pub(crate) expire_time: SystemTime,
    /// As `VendHeadersResponse.token_number`.
    pub(crate) token_number: i64,
    /// For the caller who was asked for, and nobody else.
    pub(crate) for_caller_only: bool,
}

/// Of an installation and of its entry.
#[derive(Debug)]
pub(crate) struct Secrets {
    pub(crate) own: Arc<Record>,
    pub(crate) entry: Arc<Record>,
}

impl Secrets {
    pub(crate) fn value(&self, field: &SecretField) -> Option<&SecretString> {
        self.field(field).map(|field| &field.value)
    }

    /// The generation that brought the value of the field with this key; 0: it has none.
    pub(crate) fn generation(&self, plan: &Plan, key: &str) -> i64 {
        let field = plan.fields.iter().find(|field| field.key == key);
        let field = field.and_then(|field| self.field(field));
        field.map_or(0, |field| field.stored.generation)
    }

    fn field(&self, field: &SecretField) -> Option<&Field> {
        let record = match field.source {
            Source::Prompted => &self.own,
            Source::Stored => &self.entry,
        };
        record.fields.get(&field.key)
    }

    /// The headers of each request. The header of the token, or the primary credential, wins where two fields name the same header.
    pub(crate) fn headers(&self, plan: &Plan, token: Option<(String, SecretString)>) -> Vec<(String, SecretString)> {
        let mut headers: Vec<(String, SecretString)> = token.into_iter().collect();
        if let Some(primary) = &plan.primary
            && let Some(value) = plan
                .fields
                .iter()
                .find(|field| field.key == primary.field)
                .and_then(|f| self.value(f))
        {
            headers.push(primary.injection.header(value));
        }
        for field in &plan.fields {
            if let Target::Header(name) = &field.target
                && let Some(value) = self.value(field)
                && !headers.iter().any(|(taken, _)| taken.eq_ignore_ascii_case(name))
            {
                headers.push((name.clone(), value.clone()));
            }
        }
        headers
    }

    /// The values a server gets when it starts, by install field.
    pub(crate) fn runtime(&self, plan: &Plan) -> Vec<(String, SecretString)> {
        plan.fields
            .iter()
            .filter(|field| field.goes_to_server())
            .filter_map(|field| Some((field.key.clone(), self.value(field)?.clone())))
            .collect()
    }
}
