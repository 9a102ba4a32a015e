//! The parts of a destination, in canonical order.

use std::borrow::Cow;

use contracts::{
    credential::DestinationPart as Kind,
    registry::{
        AuthorizationServer, EntryRevision, InstallField, InstallFieldType, SelfHostedServer, StdioTransport,
        StreamableHttpTransport, Tenancy, install_field::Target, self_hosted_server::Transport,
    },
};

use super::launch;
use crate::{
    credential_models,
    install_fields::{entry_value, is_prompted},
};

/// One part of a destination, unabridged.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// The number of a `DestinationPart`.
    pub(super) kind: i32,
    /// Distinguishes parts of one kind: the position of an argument, the name of a variable, the path of a file.
    pub(super) name: Cow<'a, str>,
    /// The text in the digest.
    pub(super) bound: Cow<'a, str>,
    /// The text for people, if it says more.
    pub(super) shown: Option<&'a str>,
}

impl<'a> Part<'a> {
    pub(super) fn new(kind: Kind, name: impl Into<Cow<'a, str>>, bound: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            bound: bound.into(),
            shown: None,
        }
    }

    pub(super) fn shown(&self) -> &str {
        self.shown.unwrap_or(&self.bound)
    }
}

/// The only part of a remote server.
pub(super) fn origin(origin: &str) -> Part<'_> {
    Part::new(Kind::Origin, "", origin)
}

/// The authorization servers that the entry names: they get client secrets and refresh tokens.
pub(super) fn of_authorization_servers(revision: &EntryRevision) -> Vec<Part<'_>> {
    let model = revision.credential_model.as_ref();
    let clients = model.map(credential_models::clients).unwrap_or_default();
    let mut parts = Vec::new();
    for (index, server) in clients.into_iter().filter_map(|client| client.server).enumerate() {
        // Destructured without `..`, so that a new field does not compile until somebody decides whether it is a part.
        let AuthorizationServer {
            issuer,
            authorization_endpoint,
            token_endpoint,
            revocation_endpoint,
        } = server;
        for (name, url) in [
            ("issuer", issuer),
            ("authorization_endpoint", authorization_endpoint),
            ("token_endpoint", token_endpoint),
            ("revocation_endpoint", revocation_endpoint),
        ] {
            if !url.is_empty() {
                let name = format!("{name} {}", index + 1);
                parts.push(Part::new(Kind::AuthorizationServer, name, url));
            }
        }
    }
    parts
}

/// Everything that decides what a self-hosted server runs.
pub(super) fn of_server<'a>(server: &'a SelfHostedServer, fields: &'a [InstallField]) -> Vec<Part<'a>> {
    // Destructured without `..`, so that a new field does not compile until somebody decides whether it is a part.
    let SelfHostedServer {
        command,
        arguments,
        environment,
        files,
        transport,
        confirm_new_versions,
    } = server;
    let mut parts = vec![Part::new(Kind::Command, "", command)];
    let package = if *confirm_new_versions {
        parts.push(Part::new(Kind::ConfirmNewVersions, "", "true"));
        None
    } else {
        launch::package(command, arguments)
    };
    for (index, argument) in arguments.iter().enumerate() {
        let place = (index + 1).to_string();
        parts.push(match &package {
            Some(package) if package.index == index => Part {
                shown: Some(argument),
                ..Part::new(Kind::Package, place, package.name)
            },
            _ => Part::new(Kind::Argument, place, argument),
        });
    }
    let mut environment: Vec<_> = environment.iter().collect();
    environment.sort();
    parts.extend(
        environment
            .into_iter()
            .map(|(name, value)| Part::new(Kind::Environment, name, value)),
    );
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    parts.extend(
        files
            .into_iter()
            .map(|file| Part::new(Kind::File, &file.path, &file.content)),
    );
    parts.push(Part::new(Kind::Transport, "", transport_text(transport.as_ref())));
    parts.extend(of_fields(fields));
    parts
}

fn transport_text(transport: Option<&Transport>) -> Cow<'static, str> {
    match transport {
        None => "unknown".into(),
        // The number of processes decides neither what runs nor who gets secrets.
        Some(Transport::Stdio(StdioTransport { process_model: _ })) => "stdio".into(),
        Some(Transport::StreamableHttp(http)) => {
            let StreamableHttpTransport {
                port,
                path,
                tenancy,
                // Nor does the number of sessions.
                session_model: _,
            } = http;
            // A process that others use, too, may mix them up: owners agree to that.
            let shared = match Tenancy::try_from(*tenancy) {
                Ok(Tenancy::Unspecified | Tenancy::OnePerInstallation) => "",
                Ok(Tenancy::Shared) => " shared by all installations",
                Err(_) => " of an unknown tenancy",
            };
            format!("streamable_http port {port} path {}{shared}", quoted(path)).into()
        }
    }
}

/// The parts of install fields whose values go to the server itself. Fields for arguments keep their order, which is
/// that of the arguments; the others have no order and are sorted.
fn of_fields(fields: &[InstallField]) -> Vec<Part<'_>> {
    let (mut ordered, mut others): (Vec<_>, Vec<_>) = fields
        .iter()
        .filter_map(|field| Some((field, target_text(field)?)))
        .partition(|(field, _)| matches!(field.target, Some(Target::Argument(_))));
    others.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    ordered.append(&mut others);
    let mut parts = Vec::new();
    for (index, (field, target)) in ordered.into_iter().enumerate() {
        let target = match field.target {
            Some(Target::Argument(_)) => format!("{target} in place {}", index + 1),
            _ => target,
        };
        parts.push(Part::new(Kind::Template, &field.key, target));
        let given = entry_value(field);
        if !given.is_empty() {
            parts.push(Part::new(Kind::FieldValue, &field.key, given));
        }
    }
    parts
}

/// An unambiguous description of a field's target; `None` if the value does not go to the server itself.
fn target_text(field: &InstallField) -> Option<String> {
    let target = match field.target.as_ref()? {
        Target::EnvironmentVariable(target) => format!("environment variable {}", quoted(&target.name)),
        Target::MountedFile(target) if target.path_environment_variable.is_empty() => {
            format!("file {}", quoted(&target.path))
        }
        Target::MountedFile(target) => format!(
            "file {} named by environment variable {}",
            quoted(&target.path),
            quoted(&target.path_environment_variable)
        ),
        Target::Argument(target) => {
            let template: Vec<String> = target.template.iter().map(|argument| quoted(argument)).collect();
            format!("arguments [{}]", template.join(", "))
        }
        Target::Header(_) => return None,
    };
    let from = if is_prompted(field) {
        "prompted"
    } else {
        "stored on the entry"
    };
    let kind = match field.r#type() {
        InstallFieldType::Secret => "secret",
        InstallFieldType::File => "secret file",
        _ => "value",
    };
    Some(format!("{kind}, {from}, to {target}"))
}

/// Quotes a text as a JSON string, which is unambiguous.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
