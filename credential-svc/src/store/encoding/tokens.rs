//! Tokens and clients in an encoding.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::secret::{Digest, Secret};
use crate::domain::authorization::{
    grant::{Grant, Lease, Tokens, Unrevoked},
    pending::Pending,
    plan::Server,
    registered::Registered,
    servers::{Authentication, Client},
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodedTokens {
    number: i64,
    grant: Option<EncodedGrant>,
    lease: Option<EncodedLease>,
    failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    demanded: Vec<String>,
    pending: Vec<EncodedPending>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unrevoked: Vec<EncodedUnrevoked>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodedUnrevoked {
    server: EncodedServer,
    client_id: String,
    authentication: EncodedAuthentication,
    account: String,
    access: Secret,
    refresh: Option<Secret>,
    since: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedGrant {
    server: EncodedServer,
    client_id: String,
    authentication: Option<EncodedAuthentication>,
    resource: String,
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    declined: Vec<String>,
    basis: Digest,
    access: Secret,
    expire_time: Option<i64>,
    refresh: Option<Secret>,
    account: String,
    connect_time: i64,
    refresh_time: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedLease {
    holder: Uuid,
    until: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedPending {
    state: Digest,
    verifier: Secret,
    server: EncodedServer,
    client_id: String,
    authentication: Option<EncodedAuthentication>,
    resource: String,
    scopes: Vec<String>,
    redirect_uri: String,
    user: String,
    destination: String,
    expire_time: i64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedServer {
    issuer: String,
    endpoints: Option<EncodedEndpoints>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EncodedEndpoints {
    authorization: String,
    token: String,
    revocation: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum EncodedAuthentication {
    None,
    Basic(Secret),
    Post(Secret),
    PrivateKey { key: Secret, id: Option<String> },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodedClient {
    issuer: String,
    redirect_uri: String,
    client_id: String,
    authentication: EncodedAuthentication,
    expire_time: Option<i64>,
}

impl From<Tokens> for EncodedTokens {
    fn from(tokens: Tokens) -> Self {
        Self {
            number: tokens.number,
            grant: tokens.grant.map(EncodedGrant::from),
            lease: tokens
                .lease
                .map(|Lease { holder, until }| EncodedLease { holder, until }),
            failure: tokens.failure,
            refusal: tokens.refusal,
            demanded: tokens.demanded,
            pending: tokens.pending.into_iter().map(EncodedPending::from).collect(),
            unrevoked: tokens.unrevoked.into_iter().map(EncodedUnrevoked::from).collect(),
        }
    }
}

impl From<EncodedTokens> for Tokens {
    fn from(encoded: EncodedTokens) -> Self {
        Self {
            number: encoded.number,
            grant: encoded.grant.map(Grant::from),
            lease: encoded
                .lease
                .map(|EncodedLease { holder, until }| Lease { holder, until }),
            failure: encoded.failure,
            refusal: encoded.refusal,
            demanded: encoded.demanded,
            pending: encoded.pending.into_iter().map(Pending::from).collect(),
            unrevoked: encoded.unrevoked.into_iter().map(Unrevoked::from).collect(),
        }
    }
}

impl From<Unrevoked> for EncodedUnrevoked {
    fn from(unrevoked: Unrevoked) -> Self {
        Self {
            server: unrevoked.server.into(),
            client_id: unrevoked.client.id,
            authentication: unrevoked.client.authentication.into(),
            account: unrevoked.account,
            access: Secret(unrevoked.access),
            refresh: unrevoked.refresh.map(Secret),
            since: unrevoked.since,
        }
    }
}

impl From<EncodedUnrevoked> for Unrevoked {
    fn from(encoded: EncodedUnrevoked) -> Self {
        Self {
            server: encoded.server.into(),
            client: Client {
                id: encoded.client_id,
                authentication: encoded.authentication.into(),
            },
            account: encoded.account,
            access: encoded.access.0,
            refresh: encoded.refresh.map(|secret| secret.0),
            since: encoded.since,
        }
    }
}

impl From<Grant> for EncodedGrant {
    fn from(grant: Grant) -> Self {
        Self {
            server: grant.server.into(),
            client_id: grant.client_id,
            authentication: grant.authentication.map(EncodedAuthentication::from),
            resource: grant.resource,
            scopes: grant.scopes,
            declined: grant.declined,
            basis: Digest(grant.basis),
            access: Secret(grant.access),
            expire_time: grant.expire_time,
            refresh: grant.refresh.map(Secret),
            account: grant.account,
            connect_time: grant.connect_time,
            refresh_time: grant.refresh_time,
        }
    }
}

impl From<EncodedGrant> for Grant {
    fn from(encoded: EncodedGrant) -> Self {
        Self {
            server: encoded.server.into(),
            client_id: encoded.client_id,
            authentication: encoded.authentication.map(Authentication::from),
            resource: encoded.resource,
            scopes: encoded.scopes,
            declined: encoded.declined,
            basis: encoded.basis.0,
            access: encoded.access.0,
            expire_time: encoded.expire_time,
            refresh: encoded.refresh.map(|secret| secret.0),
            account: encoded.account,
            connect_time: encoded.connect_time,
            refresh_time: encoded.refresh_time,
        }
    }
}

impl From<Pending> for EncodedPending {
    fn from(pending: Pending) -> Self {
        Self {
            state: Digest(pending.state),
            verifier: Secret(pending.verifier),
            server: pending.server.into(),
            client_id: pending.client_id,
            authentication: pending.authentication.map(EncodedAuthentication::from),
            resource: pending.resource,
            scopes: pending.scopes,
            redirect_uri: pending.redirect_uri,
            user: pending.user,
            destination: pending.destination,
            expire_time: pending.expire_time,
        }
    }
}

impl From<EncodedPending> for Pending {
    fn from(encoded: EncodedPending) -> Self {
        Self {
            state: encoded.state.0,
            verifier: encoded.verifier.0,
            server: encoded.server.into(),
            client_id: encoded.client_id,
            authentication: encoded.authentication.map(Authentication::from),
            resource: encoded.resource,
            scopes: encoded.scopes,
            redirect_uri: encoded.redirect_uri,
            user: encoded.user,
            destination: encoded.destination,
            expire_time: encoded.expire_time,
        }
    }
}

impl From<Server> for EncodedServer {
    fn from(server: Server) -> Self {
        match server {
            Server::Issuer(issuer) => Self {
                issuer,
                endpoints: None,
            },
            Server::Endpoints {
                issuer,
                authorization,
                token,
                revocation,
            } => Self {
                issuer,
                endpoints: Some(EncodedEndpoints {
                    authorization,
                    token,
                    revocation,
                }),
            },
        }
    }
}

impl From<EncodedServer> for Server {
    fn from(encoded: EncodedServer) -> Self {
        let issuer = encoded.issuer;
        match encoded.endpoints {
            None => Self::Issuer(issuer),
            Some(EncodedEndpoints {
                authorization,
                token,
                revocation,
            }) => Self::Endpoints {
                issuer,
                authorization,
                token,
                revocation,
            },
        }
    }
}

impl From<Authentication> for EncodedAuthentication {
    fn from(authentication: Authentication) -> Self {
        match authentication {
            Authentication::None => Self::None,
            Authentication::Basic(secret) => Self::Basic(Secret(secret)),
            Authentication::Post(secret) => Self::Post(Secret(secret)),
            Authentication::PrivateKey { key, id } => Self::PrivateKey { key: Secret(key), id },
        }
    }
}

impl From<EncodedAuthentication> for Authentication {
    fn from(encoded: EncodedAuthentication) -> Self {
        match encoded {
            EncodedAuthentication::None => Self::None,
            EncodedAuthentication::Basic(secret) => Self::Basic(secret.0),
            EncodedAuthentication::Post(secret) => Self::Post(secret.0),
            EncodedAuthentication::PrivateKey { key, id } => Self::PrivateKey { key: key.0, id },
        }
    }
}

impl From<Registered> for EncodedClient {
    fn from(registered: Registered) -> Self {
        Self {
            issuer: registered.issuer,
            redirect_uri: registered.redirect_uri,
            client_id: registered.client.id,
            authentication: registered.client.authentication.into(),
            expire_time: registered.expire_time,
        }
    }
}

impl From<EncodedClient> for Registered {
    fn from(encoded: EncodedClient) -> Self {
        Self {
            issuer: encoded.issuer,
            redirect_uri: encoded.redirect_uri,
            client: Client {
                id: encoded.client_id,
                authentication: encoded.authentication.into(),
            },
            expire_time: encoded.expire_time,
        }
    }
}
