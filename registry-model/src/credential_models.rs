//! What the credential models have in common: which install fields hold their secrets, how the credential is sent, and which authorization
//! servers get secrets.

use contracts::registry::{
    AuthorizationServer, Injection, OAuthClient, entry, entry_revision::CredentialModel,
    token_exchange_credential::Flow,
};

/// The model of an entry, as its revision has it.
pub fn of_entry(model: entry::CredentialModel) -> CredentialModel {
    use entry::CredentialModel as Of;
    match model {
        Of::NoCredential(model) => CredentialModel::NoCredential(model),
        Of::StaticCredential(model) => CredentialModel::StaticCredential(model),
        Of::Oauth(model) => CredentialModel::Oauth(model),
        Of::ClientCredentials(model) => CredentialModel::ClientCredentials(model),
        Of::TokenExchange(model) => CredentialModel::TokenExchange(model),
        Of::JwtPassthrough(model) => CredentialModel::JwtPassthrough(model),
    }
}

/// The model of an entry revision, as its entry has it.
pub fn to_entry(model: CredentialModel) -> entry::CredentialModel {
    use entry::CredentialModel as To;
    match model {
        CredentialModel::NoCredential(model) => To::NoCredential(model),
        CredentialModel::StaticCredential(model) => To::StaticCredential(model),
        CredentialModel::Oauth(model) => To::Oauth(model),
        CredentialModel::ClientCredentials(model) => To::ClientCredentials(model),
        CredentialModel::TokenExchange(model) => To::TokenExchange(model),
        CredentialModel::JwtPassthrough(model) => To::JwtPassthrough(model),
    }
}

/// A client, with the authorization server that gets its secret and the path of the field in the model.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// `None`: the server that the upstream names.
    pub server: Option<&'a AuthorizationServer>,
    /// `None`: a client is registered when it is used.
    pub client: Option<&'a OAuthClient>,
}

/// The clients of a model, in the order of its steps.
pub fn clients(model: &CredentialModel) -> Vec<Client<'_>> {
    let one = |server, client| vec![Client { server, client }];
    match model {
        CredentialModel::NoCredential(_)
        | CredentialModel::StaticCredential(_)
        | CredentialModel::JwtPassthrough(_) => Vec::new(),
        CredentialModel::Oauth(model) => one(model.authorization_server.as_ref(), model.client.as_ref()),
        CredentialModel::ClientCredentials(model) => one(model.authorization_server.as_ref(), model.client.as_ref()),
        CredentialModel::TokenExchange(model) => {
            let mut clients = one(model.authorization_server.as_ref(), model.client.as_ref());
            if let Some(Flow::IdentityAssertion(flow)) = &model.flow {
                clients.push(Client {
                    server: flow.resource_authorization_server.as_ref(),
                    client: flow.resource_client.as_ref(),
                });
            }
            clients
        }
    }
}

/// Keys of the install fields that hold secrets of the model. They have no target.
pub fn fields(model: &CredentialModel) -> Vec<&str> {
    let mut fields = Vec::new();
    if let CredentialModel::StaticCredential(model) = model {
        fields.push(model.field.as_str());
    }
    for client in clients(model).into_iter().filter_map(|client| client.client) {
        fields.extend([client.client_id_field.as_str(), client.secret_field.as_str()]);
    }
    fields.retain(|field| !field.is_empty());
    fields
}

/// How the credential of the model is sent with each request; `None` if the model sends none. The inner `None` is a case that is not set.
pub fn injection(model: &CredentialModel) -> Option<Option<&Injection>> {
    match model {
        CredentialModel::NoCredential(_) => None,
        CredentialModel::StaticCredential(model) => (!model.field.is_empty()).then_some(model.injection.as_ref()),
        CredentialModel::Oauth(model) => Some(model.injection.as_ref()),
        CredentialModel::ClientCredentials(model) => Some(model.injection.as_ref()),
        CredentialModel::TokenExchange(model) => Some(model.injection.as_ref()),
        CredentialModel::JwtPassthrough(model) => Some(model.injection.as_ref()),
    }
}

/// Whether each caller gets a credential of their own, made from the token with which they call.
pub fn is_per_caller(model: &CredentialModel) -> bool {
    matches!(
        model,
        CredentialModel::TokenExchange(_) | CredentialModel::JwtPassthrough(_)
    )
}
