//! The part of an entry revision that says where tokens come from.

use contracts::credential;
use contracts::registry::{
    self as pb, ClientAuthentication, EntryRevision,
    entry_revision::{CredentialModel, Server as McpServer},
    token_exchange_credential::Flow as PbFlow,
};

use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use zeroize::Zeroize as _;

use super::injection;
use crate::domain::authorization::exchange::Caller;
use crate::domain::authorization::plan::{
    AuthenticationPlan, ClientCredentials, ClientId, ClientPlan, Exchange, Flow, Passthrough, Resource, Server, SignIn,
    Source, TokenPlan,
};

/// `None` where the entry has no tokens, or says of them what this version does not know.
pub(super) fn plan(revision: &EntryRevision) -> Option<TokenPlan> {
    let (source, sent) = match revision.credential_model.as_ref()? {
        CredentialModel::NoCredential(_) | CredentialModel::StaticCredential(_) => return None,
        CredentialModel::Oauth(model) => (Source::SignIn(sign_in(model, revision)?), &model.injection),
        CredentialModel::ClientCredentials(model) => (
            Source::ClientCredentials(ClientCredentials {
                server: server(model.authorization_server.as_ref()?),
                client: client(model.client.as_ref()?)?,
                scopes: model.scopes.clone(),
                resource: model.resource.clone(),
                audience: model.audience.clone(),
            }),
            &model.injection,
        ),
        CredentialModel::TokenExchange(model) => (
            Source::Exchange(Exchange {
                server: server(model.authorization_server.as_ref()?),
                client: client(model.client.as_ref()?)?,
                scopes: model.scopes.clone(),
                flow: flow(model.flow.as_ref()?, revision)?,
            }),
            &model.injection,
        ),
        CredentialModel::JwtPassthrough(model) => (
            Source::Passthrough(Passthrough {
                issuer: model.issuer.clone(),
                audiences: model.audiences.clone(),
            }),
            &model.injection,
        ),
    };
    Some(TokenPlan {
        source,
        injection: injection(sent.as_ref()),
    })
}

fn sign_in(model: &pb::OAuthCredential, revision: &EntryRevision) -> Option<SignIn> {
    let mut parameters: Vec<_> = model.authorization_parameters.clone().into_iter().collect();
    parameters.sort();
    Some(SignIn {
        server: model.authorization_server.as_ref().map(server),
        client: match &model.client {
            None => None,
            Some(given) => Some(client(given)?),
        },
        scopes: model.scopes.clone(),
        resource: match (model.omit_resource, model.resource.as_str()) {
            (true, _) => Resource::Omitted,
            (false, "") => Resource::OfUpstream,
            (false, resource) => Resource::Given(resource.to_owned()),
        },
        parameters,
        upstream: url(revision).map(str::to_owned),
    })
}

fn flow(flow: &PbFlow, revision: &EntryRevision) -> Option<Flow> {
    Some(match flow {
        PbFlow::Exchange(flow) => Flow::Exchange {
            audience: flow.audience.clone(),
            resource: flow.resource.clone(),
            requested_token_type: flow.requested_token_type.clone(),
            subject_token_type: flow.subject_token_type.clone(),
        },
        PbFlow::OnBehalfOf(_) => Flow::OnBehalfOf,
        PbFlow::IdentityAssertion(flow) => Flow::IdentityAssertion {
            server: server(flow.resource_authorization_server.as_ref()?),
            client: client(flow.resource_client.as_ref()?)?,
            resource: match flow.resource.as_str() {
                "" => url(revision)?.to_owned(),
                given => given.to_owned(),
            },
            subject_token_type: flow.subject_token_type.clone(),
        },
    })
}

fn server(server: &pb::AuthorizationServer) -> Server {
    let pb::AuthorizationServer {
        issuer,
        authorization_endpoint,
        token_endpoint,
        revocation_endpoint,
    } = server.clone();
    if token_endpoint.is_empty() {
        return Server::Issuer(issuer);
    }
    Server::Endpoints {
        issuer,
        authorization: authorization_endpoint,
        token: token_endpoint,
        revocation: revocation_endpoint,
    }
}

fn client(client: &pb::OAuthClient) -> Option<ClientPlan> {
    let field = client.secret_field.clone();
    Some(ClientPlan {
        id: match client.client_id_field.as_str() {
            "" => ClientId::Given(client.client_id.clone()),
            key => ClientId::Field(key.to_owned()),
        },
        authentication: match client.authentication() {
            ClientAuthentication::None => AuthenticationPlan::None,
            ClientAuthentication::ClientSecretBasic => AuthenticationPlan::Basic(field),
            ClientAuthentication::ClientSecretPost => AuthenticationPlan::Post(field),
            ClientAuthentication::PrivateKeyJwt => AuthenticationPlan::PrivateKey {
                field,
                id: Some(client.key_id.clone()).filter(|id| !id.is_empty()),
            },
            ClientAuthentication::Unspecified => return None,
        },
    })
}

/// The URL of a remote server.
fn url(revision: &EntryRevision) -> Option<&str> {
    match revision.server.as_ref()? {
        McpServer::Remote(remote) => Some(&remote.url),
        McpServer::SelfHosted(_) => None,
    }
}

/// A caller, as gateway-svc verified it.
pub(crate) fn caller(caller: credential::Caller) -> Caller {
    let credential::Caller {
        issuer,
        subject,
        audiences,
        expire_time,
        mut token,
        is_id_token,
    } = caller;
    let secret = SecretString::from(token.as_str());
    token.zeroize();
    Caller {
        issuer,
        subject,
        audiences,
        // Without a time, it has expired.
        expire_time: expire_time
            .and_then(|time| SystemTime::try_from(time).ok())
            .unwrap_or(UNIX_EPOCH),
        token: secret,
        is_id_token,
    }
}
