//! Makes the spec of a server from the registry's messages.

use std::{collections::HashMap, sync::Arc};

use contracts::registry::{
    EntryRevision, InstallField, ProcessModel, SelfHostedServer, StdioTransport, entry_revision::Server,
    install_field::Target, self_hosted_server,
};
use registry_model::{
    cases,
    install_fields::{self, is_secret, title},
};

use crate::domain::spec::{Field, FieldTarget, FieldValue, Missing, SecretSource, ServerSpec, Transport};

/// The self-hosted server of an entry revision.
pub(crate) fn self_hosted(revision: &EntryRevision) -> Option<&SelfHostedServer> {
    match revision.server.as_ref()? {
        Server::SelfHosted(server) => Some(server),
        Server::Remote(_) => None,
    }
}

/// The spec of `server`, which is that of this entry revision, for an owner at this generation. `values` are those that people entered, and
/// `secrets` is the source of its secrets.
///
/// # Errors
/// If a person must do something before the server can run.
pub(crate) fn compose(
    values: &HashMap<String, String>,
    generation: i64,
    revision: &EntryRevision,
    server: &SelfHostedServer,
    credential_generations: (i64, i64),
    secrets: Arc<dyn SecretSource>,
) -> Result<ServerSpec, Missing> {
    if !cases::all_known(revision) {
        return Err(Missing {
            reason: "VERSION_TOO_OLD",
            message: "A newer version of Chandlery wrote this entry: upgrade orchestrator-svc.".to_owned(),
        });
    }
    let mut fields = Vec::new();
    for field in &revision.install_fields {
        let Some(target) = target(field) else { continue };
        if let Some(value) = value(field, values)? {
            let title = title(field).to_owned();
            fields.push(Field { title, value, target });
        }
    }
    let files = server.files.iter();
    Ok(ServerSpec {
        command: server.command.clone(),
        arguments: server.arguments.clone(),
        environment: server.environment.clone().into_iter().collect(),
        files: files.map(|file| (file.path.clone(), file.content.clone())).collect(),
        fields,
        transport: transport(server),
        confirm_new_versions: server.confirm_new_versions,
        credential_generations,
        revision: revision.number,
        generation,
        secrets,
    })
}

/// The value of a field; `None` if there is no value and none is required.
fn value(field: &InstallField, values: &HashMap<String, String>) -> Result<Option<FieldValue>, Missing> {
    if is_secret(field) {
        if let Some(Target::Argument(target)) = &field.target
            && !target.expose_in_arguments
        {
            return Err(Missing {
                reason: "SECRET_IN_ARGUMENTS",
                message: format!(
                    "{:?} is a secret and is not passed as an argument, which every process can read: an admin must give it another target, or set expose_in_arguments.",
                    title(field)
                ),
            });
        }
        return Ok(Some(FieldValue::Secret {
            key: field.key.clone(),
            required: field.required,
        }));
    }
    match install_fields::value(field, values) {
        Some(value) => Ok(Some(FieldValue::Plain(value.to_owned()))),
        None if field.required => Err(Missing {
            reason: "FIELD_REQUIRED",
            message: format!(
                "A value for {:?} is required: enter it in the installation.",
                title(field)
            ),
        }),
        None => Ok(None),
    }
}

/// Where the value of a field goes; `None` if the gateway sends it with each request.
fn target(field: &InstallField) -> Option<FieldTarget> {
    match field.target.as_ref()? {
        Target::EnvironmentVariable(target) => Some(FieldTarget::EnvironmentVariable(target.name.clone())),
        Target::MountedFile(target) => Some(FieldTarget::File {
            path: target.path.clone(),
            path_variable: Some(target.path_environment_variable.clone()).filter(|name| !name.is_empty()),
        }),
        Target::Argument(target) => Some(FieldTarget::Arguments(target.template.clone())),
        Target::Header(_) => None,
    }
}

fn transport(server: &SelfHostedServer) -> Transport {
    match &server.transport {
        Some(self_hosted_server::Transport::StreamableHttp(http)) => Transport::StreamableHttp {
            port: u16::try_from(http.port).unwrap_or_default(),
            path: http.path.clone(),
        },
        // `cases::all_known` has refused any other.
        Some(self_hosted_server::Transport::Stdio(StdioTransport { process_model })) => Transport::Stdio {
            one_per_session: *process_model == i32::from(ProcessModel::OnePerSession),
        },
        None => Transport::Stdio { one_per_session: false },
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        ArgumentTarget, EnvironmentVariableTarget, HeaderTarget, InstallFieldSource, InstallFieldType,
        MountedFileTarget, NoCredential, ServerFile, entry_revision::CredentialModel,
    };
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::domain::spec::{Secrets, tests::Fixed};

    fn field(key: &str, kind: InstallFieldType, target: Target) -> InstallField {
        InstallField {
            key: key.to_owned(),
            r#type: kind.into(),
            target: Some(target),
            ..InstallField::default()
        }
    }

    fn variable(name: &str) -> Target {
        Target::EnvironmentVariable(EnvironmentVariableTarget { name: name.to_owned() })
    }

    fn argument(template: &[&str], expose_in_arguments: bool) -> Target {
        Target::Argument(ArgumentTarget {
            template: template.iter().map(|&t| t.to_owned()).collect(),
            expose_in_arguments,
        })
    }

    fn composed(install_fields: Vec<InstallField>, values: &[(&str, &str)]) -> Result<ServerSpec, Missing> {
        let server = SelfHostedServer {
            command: "serve".to_owned(),
            arguments: vec!["--fixed".to_owned()],
            environment: [("MODE".to_owned(), "fixed".to_owned())].into(),
            files: vec![ServerFile {
                path: "a.txt".to_owned(),
                content: "fixed".to_owned(),
            }],
            transport: Some(self_hosted_server::Transport::Stdio(StdioTransport::default())),
            ..SelfHostedServer::default()
        };
        let revision = EntryRevision {
            number: 3,
            server: Some(Server::SelfHosted(server)),
            credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
            install_fields,
            ..EntryRevision::default()
        };
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let server = self_hosted(&revision).unwrap();
        compose(&values, 7, &revision, server, (1, 2), Arc::new(Fixed(Secrets::new())))
    }

    #[test]
    fn takes_all_that_a_server_gets() {
        use InstallFieldType::{Boolean, File, Number, Secret, String as Text};
        let file = MountedFileTarget {
            path: "key.pem".to_owned(),
            path_environment_variable: "KEY_FILE".to_owned(),
        };
        let mut token = field("token", Secret, variable("TOKEN"));
        token.title = "API token".to_owned();
        token.required = true;
        let mut stored = field("region", Text, variable("REGION"));
        stored.set_source(InstallFieldSource::Stored);
        stored.stored_value = "eu".to_owned();
        let mut defaulted = field("level", Number, variable("LEVEL"));
        defaulted.default_value = "3".to_owned();
        let header = Target::Header(HeaderTarget {
            name: "x-tenant".to_owned(),
        });
        let fields = vec![
            token,
            field("key", File, Target::MountedFile(file)),
            stored,
            defaulted,
            field("root", Text, argument(&["--root", "{value}"], false)),
            field("flag", Boolean, argument(&[], false)),
            field("pin", Secret, argument(&["--pin={value}"], true)),
            field("tenant", Text, header),
            field("absent", Text, variable("ABSENT")),
        ];
        let values = [
            ("root", "/data"),
            ("flag", "true"),
            ("region", "ignored"),
            ("tenant", "t"),
        ];
        let spec = composed(fields, &values).unwrap();
        assert_eq!(
            (spec.command.as_str(), &spec.arguments[..]),
            ("serve", &["--fixed".to_owned()][..])
        );
        assert_eq!(spec.files, [("a.txt".to_owned(), "fixed".to_owned())]);
        assert_eq!(
            (spec.revision, spec.generation, spec.credential_generations),
            (3, 7, (1, 2))
        );
        let fields: Vec<_> = spec.fields.iter().map(|f| (f.title.as_str(), &f.value)).collect();
        let plain = |value: &str| FieldValue::Plain(value.to_owned());
        let secret = |key: &str, required| FieldValue::Secret {
            key: key.to_owned(),
            required,
        };
        let expected = [
            ("API token", &secret("token", true)),
            ("key", &secret("key", false)),
            ("region", &plain("eu")),
            ("level", &plain("3")),
            ("root", &plain("/data")),
            ("flag", &plain("true")),
            ("pin", &secret("pin", false)),
        ];
        assert_eq!(fields, expected);
        let key = FieldTarget::File {
            path: "key.pem".to_owned(),
            path_variable: Some("KEY_FILE".to_owned()),
        };
        assert_eq!(spec.fields[1].target, key);
    }

    #[test]
    fn the_entry_says_how_many_processes_there_are() {
        for (model, expected) in [
            (ProcessModel::Unspecified, false),
            (ProcessModel::OneForAll, false),
            (ProcessModel::OnePerSession, true),
        ] {
            let server = SelfHostedServer {
                transport: Some(self_hosted_server::Transport::Stdio(StdioTransport {
                    process_model: model.into(),
                })),
                ..SelfHostedServer::default()
            };
            let expected = Transport::Stdio {
                one_per_session: expected,
            };
            assert_eq!(transport(&server), expected, "{model:?}");
        }
    }

    #[test]
    fn says_what_is_missing() {
        let mut region = field("region", InstallFieldType::String, variable("REGION"));
        region.required = true;
        assert_eq!(composed(vec![region], &[]).unwrap_err().reason, "FIELD_REQUIRED");
        let open = field("token", InstallFieldType::Secret, argument(&[], false));
        assert_eq!(composed(vec![open], &[]).unwrap_err().reason, "SECRET_IN_ARGUMENTS");
    }
}
