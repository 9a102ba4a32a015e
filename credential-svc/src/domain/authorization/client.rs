//! Finds the secrets of the client that an entry names.

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    plan::{AuthenticationPlan, ClientId, ClientPlan},
    servers::{Authentication, Client},
};
use crate::domain::{error::Error, plan::Plan, rendering::Secrets};

/// The client, with its secrets from the fields of the installation and of the entry.
pub(crate) fn resolve(plan: &Plan, secrets: &Secrets, client: &ClientPlan) -> Result<Client, Error> {
    let value = |key: &str| value(plan, secrets, key);
    Ok(Client {
        id: match &client.id {
            ClientId::Given(id) => id.clone(),
            ClientId::Field(key) => value(key)?.expose_secret().to_owned(),
        },
        authentication: match &client.authentication {
            AuthenticationPlan::None => Authentication::None,
            AuthenticationPlan::Basic(key) => Authentication::Basic(value(key)?),
            AuthenticationPlan::Post(key) => Authentication::Post(value(key)?),
            AuthenticationPlan::PrivateKey { field, id } => Authentication::PrivateKey {
                key: value(field)?,
                id: id.clone(),
            },
        },
    })
}

fn value(plan: &Plan, secrets: &Secrets, key: &str) -> Result<SecretString, Error> {
    let field = plan.fields.iter().find(|field| field.key == key);
    field
        .and_then(|field| secrets.value(field))
        .cloned()
        .ok_or_else(|| Error::CredentialRequired {
            message: format!("the client at the authorization server has no value for {key}"),
            condition: "CREDENTIAL_REQUIRED",
        })
}
