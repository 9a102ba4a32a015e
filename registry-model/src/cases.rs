//! Detects entry revisions that this version does not fully understand. A newer registry-svc may write oneof cases that
//! an older service reads as unset; guessing their meaning could send a secret to the wrong place.

use contracts::registry::{
    ClientAuthentication, EntryRevision, InstallField, InstallFieldSource, InstallFieldType, OAuthClient, ProcessModel,
    SessionModel, Tenancy,
    additional_header::Source,
    entry_revision::{CredentialModel, Server},
    self_hosted_server::Transport,
};

use crate::credential_models;

/// Whether this version knows every case in the revision. If not, nothing may be called, vended or started based on it.
pub fn all_known(revision: &EntryRevision) -> bool {
    let server = match &revision.server {
        Some(Server::Remote(server)) => SessionModel::try_from(server.session_model).is_ok(),
        Some(Server::SelfHosted(server)) => match &server.transport {
            Some(Transport::Stdio(stdio)) => ProcessModel::try_from(stdio.process_model).is_ok(),
            Some(Transport::StreamableHttp(http)) => {
                Tenancy::try_from(http.tenancy).is_ok() && SessionModel::try_from(http.session_model).is_ok()
            }
            None => false,
        },
        None => false,
    };
    let model = revision.credential_model.as_ref().is_some_and(is_known_model);
    let headers = &revision.additional_headers;
    server
        && model
        && headers.iter().all(|header| header.source.is_some())
        && revision.install_fields.iter().all(|field| is_known(field, revision))
}

fn is_known_model(model: &CredentialModel) -> bool {
    let authentication = |client: &OAuthClient| ClientAuthentication::try_from(client.authentication).is_ok();
    let clients = credential_models::clients(model);
    let flow = match model {
        CredentialModel::TokenExchange(model) => model.flow.is_some(),
        _ => true,
    };
    flow && clients
        .into_iter()
        .filter_map(|client| client.client)
        .all(authentication)
        && credential_models::injection(model)
            .is_none_or(|injection| injection.is_some_and(|injection| injection.kind.is_some()))
}

fn is_known(field: &InstallField, revision: &EntryRevision) -> bool {
    InstallFieldType::try_from(field.r#type).is_ok()
        && InstallFieldSource::try_from(field.source).is_ok()
        && (field.target.is_some() || has_no_target(&field.key, revision))
}

/// Whether a field needs no target: the secrets of the credential model, and fields that additional headers use, have none
/// of their own.
fn has_no_target(key: &str, revision: &EntryRevision) -> bool {
    let model = revision.credential_model.as_ref().map(credential_models::fields);
    let in_header = |source: &Option<Source>| matches!(source, Some(Source::Field(field)) if field == key);
    model.is_some_and(|fields| fields.contains(&key))
        || revision
            .additional_headers
            .iter()
            .any(|header| in_header(&header.source))
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        AdditionalHeader, BearerHeader, Injection, NoCredential, RemoteServer, SelfHostedServer, StaticCredential,
        StdioTransport, StreamableHttpTransport, injection, install_field::Target,
    };

    use super::*;

    fn field(key: &str, target: Option<Target>) -> InstallField {
        InstallField {
            key: key.to_owned(),
            r#type: InstallFieldType::Secret.into(),
            source: InstallFieldSource::Prompted.into(),
            target,
            ..InstallField::default()
        }
    }

    fn remote() -> EntryRevision {
        EntryRevision {
            server: Some(Server::Remote(RemoteServer::default())),
            credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
            ..EntryRevision::default()
        }
    }

    fn with(injection: Option<Injection>) -> EntryRevision {
        EntryRevision {
            credential_model: Some(CredentialModel::StaticCredential(StaticCredential {
                field: "key".to_owned(),
                injection,
            })),
            install_fields: vec![field("key", None)],
            ..remote()
        }
    }

    #[test]
    fn cases_of_this_version_are_known() {
        assert!(all_known(&remote()));
        let bearer = injection::Kind::Bearer(BearerHeader {});
        assert!(all_known(&with(Some(Injection { kind: Some(bearer) }))));
        let hosted = EntryRevision {
            server: Some(Server::SelfHosted(SelfHostedServer {
                transport: Some(Transport::Stdio(StdioTransport::default())),
                ..SelfHostedServer::default()
            })),
            ..remote()
        };
        assert!(all_known(&hosted));
    }

    #[test]
    fn newer_cases_are_unknown() {
        let without = |change: &dyn Fn(&mut EntryRevision)| {
            let mut revision = remote();
            change(&mut revision);
            revision
        };
        for (what, revision) in [
            ("server", without(&|revision| revision.server = None)),
            ("model", without(&|revision| revision.credential_model = None)),
            ("injection", with(None)),
            ("kind of injection", with(Some(Injection { kind: None }))),
            (
                "transport",
                without(&|revision| revision.server = Some(Server::SelfHosted(SelfHostedServer::default()))),
            ),
            (
                "process model",
                without(&|revision| {
                    revision.server = Some(Server::SelfHosted(SelfHostedServer {
                        transport: Some(Transport::Stdio(StdioTransport { process_model: 99 })),
                        ..SelfHostedServer::default()
                    }));
                }),
            ),
            (
                "tenancy",
                without(&|revision| {
                    revision.server = Some(Server::SelfHosted(SelfHostedServer {
                        transport: Some(Transport::StreamableHttp(StreamableHttpTransport {
                            tenancy: 99,
                            ..StreamableHttpTransport::default()
                        })),
                        ..SelfHostedServer::default()
                    }));
                }),
            ),
            (
                "session model",
                without(&|revision| {
                    revision.server = Some(Server::Remote(RemoteServer {
                        session_model: 99,
                        ..RemoteServer::default()
                    }));
                }),
            ),
            (
                "target",
                without(&|revision| revision.install_fields = vec![field("key", None)]),
            ),
            (
                "header",
                without(&|revision| revision.additional_headers = vec![AdditionalHeader::default()]),
            ),
            (
                "type",
                without(&|revision| {
                    revision.install_fields = vec![InstallField {
                        r#type: 99,
                        ..field("key", Some(Target::Header(Default::default())))
                    }];
                }),
            ),
        ] {
            assert!(!all_known(&revision), "{what}");
        }
    }
}
