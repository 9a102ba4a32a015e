//! Turns stored secrets into headers and runtime values.

use std::time::SystemTime;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{
    owner::Source,
    plan::{Injection, Plan, SecretField, Target},
    record::Record,
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
}

/// Of an installation and of its entry.
#[derive(Debug)]
pub(crate) struct Secrets {
    pub(crate) own: Record,
    pub(crate) entry: Record,
}

impl Secrets {
    fn value(&self, field: &SecretField) -> Option<&SecretString> {
        let record = match field.source {
            Source::Prompted => &self.own,
            Source::Stored => &self.entry,
        };
        record.fields.get(&field.key).map(|field| &field.value)
    }

    /// The headers of each request. The primary credential wins where two fields name the same header.
    pub(crate) fn headers(&self, plan: &Plan) -> Vec<(String, SecretString)> {
        let mut headers: Vec<(String, SecretString)> = Vec::new();
        if let Some(primary) = &plan.primary
            && let Some(value) = plan
                .fields
                .iter()
                .find(|field| field.key == primary.field)
                .and_then(|f| self.value(f))
        {
            headers.push(match &primary.injection {
                Injection::Authorization => ("authorization".to_owned(), value.clone()),
                Injection::Bearer => ("authorization".to_owned(), bearer(value)),
                Injection::Header(name) => (name.clone(), value.clone()),
            });
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

/// RFC 6750, section 2.1.
fn bearer(value: &SecretString) -> SecretString {
    const SCHEME: &str = "Bearer ";
    let value = value.expose_secret();
    // The exact capacity: a buffer that grows leaves copies in memory.
    let mut header = Zeroizing::new(String::with_capacity(SCHEME.len() + value.len()));
    header.push_str(SCHEME);
    header.push_str(value);
    SecretString::from(header.as_str())
}
