//! From an entry revision to what its installations derive from it: computed once, for all of them.

use std::sync::Arc;

use contracts::registry::{
    AdditionalHeader, EntryRevision, InstallField, ProcessModel, SelfHostedServer, SessionModel, additional_header,
    entry_revision::{CredentialModel, Server},
    install_field::Target,
    self_hosted_server::Transport,
    token_exchange_credential::Flow,
};
use registry_model::{
    cases, credential_models, destination,
    install_fields::{entry_value, has_stored_secrets, is_prompted, is_secret},
    tenancy,
};

use super::strings::Strings;
use crate::domain::{CredentialKind, Endpoint, FixedHeader, HeaderSource, RequiredToken, Revision};

/// An entry revision; `None` of one that a newer registry has written and this version does not know all of.
pub(super) fn parse(revision: &EntryRevision, strings: &mut Strings) -> Option<Revision> {
    if !cases::all_known(revision) {
        return None;
    }
    let remote = match &revision.server {
        Some(Server::Remote(remote)) => remote.url.parse().ok().map(|url| Endpoint::Remote(Arc::new(url))),
        Some(Server::SelfHosted(_)) | None => None,
    };
    Some(Revision {
        remote,
        self_hosted: matches!(revision.server, Some(Server::SelfHosted(_))),
        shared: tenancy::is_shared(revision),
        session_each: has_session_each(revision),
        destination: destination::of(revision).map(|destination| strings.get(&destination)),
        vends_headers: vends_headers(revision),
        credential: revision.credential_model.as_ref().map(kind).unwrap_or_default(),
        per_caller: revision
            .credential_model
            .as_ref()
            .is_some_and(credential_models::is_per_caller),
        required_token: revision.credential_model.as_ref().and_then(required_token),
        stored_secrets: has_stored_secrets(&revision.install_fields),
        headers: headers(revision, strings),
    })
}

/// Whether clients have sessions of their own: at all servers but those for which the entry says that all share a session, or a process.
fn has_session_each(revision: &EntryRevision) -> bool {
    match &revision.server {
        Some(Server::Remote(server)) => server.session_model() != SessionModel::OneForAll,
        Some(Server::SelfHosted(SelfHostedServer {
            transport: Some(transport),
            ..
        })) => match transport {
            Transport::Stdio(stdio) => stdio.process_model() == ProcessModel::OnePerSession,
            Transport::StreamableHttp(http) => http.session_model() != SessionModel::OneForAll,
        },
        _ => true,
    }
}

fn kind(model: &CredentialModel) -> CredentialKind {
    match model {
        CredentialModel::NoCredential(_) => CredentialKind::None,
        CredentialModel::StaticCredential(_) => CredentialKind::Static,
        CredentialModel::Oauth(_) => CredentialKind::OAuth,
        CredentialModel::ClientCredentials(_) => CredentialKind::ClientCredentials,
        CredentialModel::TokenExchange(_) => CredentialKind::TokenExchange,
        CredentialModel::JwtPassthrough(_) => CredentialKind::JwtPassthrough,
    }
}

/// As credential-svc requires it, in `authorization/exchange.rs`.
fn required_token(model: &CredentialModel) -> Option<RequiredToken> {
    match model {
        CredentialModel::TokenExchange(model) => {
            let server = model.authorization_server.as_ref();
            let issuer = server.map(|server| server.issuer.as_str());
            Some(RequiredToken {
                issuer: issuer.filter(|issuer| !issuer.is_empty()).map(Into::into),
                audiences: None,
                is_access_token: matches!(model.flow, Some(Flow::OnBehalfOf(_))),
            })
        }
        CredentialModel::JwtPassthrough(model) => {
            let audiences = model.audiences.iter().map(|audience| audience.as_str().into());
            Some(RequiredToken {
                issuer: Some(model.issuer.as_str().into()),
                audiences: Some(audiences.collect()),
                is_access_token: true,
            })
        }
        CredentialModel::NoCredential(_)
        | CredentialModel::StaticCredential(_)
        | CredentialModel::Oauth(_)
        | CredentialModel::ClientCredentials(_) => None,
    }
}

fn vends_headers(revision: &EntryRevision) -> bool {
    let model = revision.credential_model.as_ref();
    let primary = model.is_some_and(|model| credential_models::injection(model).is_some());
    let in_header = |field: &InstallField| is_secret(field) && matches!(field.target, Some(Target::Header(_)));
    primary || revision.install_fields.iter().any(in_header)
}

fn headers(revision: &EntryRevision, strings: &mut Strings) -> Box<[FixedHeader]> {
    let mut headers = Vec::new();
    for AdditionalHeader { name, source } in &revision.additional_headers {
        let value = match source {
            Some(additional_header::Source::Value(value)) => Some(HeaderSource::Fixed(value.as_str().into())),
            Some(additional_header::Source::Field(key)) => {
                let field = revision.install_fields.iter().find(|field| field.key == *key);
                field.and_then(|field| source_of(field, strings))
            }
            None => None,
        };
        headers.extend(value.map(|value| (name, value)));
    }
    for field in &revision.install_fields {
        if let Some(Target::Header(target)) = &field.target {
            headers.extend(source_of(field, strings).map(|value| (&target.name, value)));
        }
    }
    let header = |(name, value): (&String, HeaderSource)| FixedHeader {
        name: name.as_str().into(),
        value,
    };
    headers.into_iter().map(header).collect()
}

/// Where the value of a field comes from; `None` for a secret.
fn source_of(field: &InstallField, strings: &mut Strings) -> Option<HeaderSource> {
    if is_secret(field) {
        return None;
    }
    let own = entry_value(field).into();
    Some(if is_prompted(field) {
        HeaderSource::Prompted {
            key: strings.get(&field.key),
            default: own,
        }
    } else {
        HeaderSource::Fixed(own)
    })
}
