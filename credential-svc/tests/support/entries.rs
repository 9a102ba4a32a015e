//! Entries and their install fields.

use contracts::registry::{
    BearerHeader, Entry, EnvironmentVariableTarget, HeaderTarget, Injection, InstallField, InstallFieldSource,
    InstallFieldType, NoCredential, RemoteServer, SelfHostedServer, StaticCredential, StdioTransport,
    StreamableHttpTransport, Tenancy, entry, injection, install_field, self_hosted_server,
};

pub fn secret(key: &str, required: bool, target: Option<install_field::Target>) -> InstallField {
    InstallField {
        key: key.to_owned(),
        title: format!("The {key}"),
        r#type: InstallFieldType::Secret.into(),
        required,
        source: InstallFieldSource::Prompted.into(),
        target,
        ..InstallField::default()
    }
}

pub fn stored(mut field: InstallField) -> InstallField {
    field.source = InstallFieldSource::Stored.into();
    field
}

pub fn header(name: &str) -> Option<install_field::Target> {
    Some(install_field::Target::Header(HeaderTarget { name: name.to_owned() }))
}

pub fn environment(name: &str) -> Option<install_field::Target> {
    Some(install_field::Target::EnvironmentVariable(EnvironmentVariableTarget {
        name: name.to_owned(),
    }))
}

/// A remote entry whose primary credential is the field `token`, sent as a bearer token.
pub fn remote(uid: &str, url: &str, install_fields: Vec<InstallField>) -> Entry {
    let primary = StaticCredential {
        field: "token".to_owned(),
        injection: Some(Injection {
            kind: Some(injection::Kind::Bearer(BearerHeader {})),
        }),
    };
    Entry {
        name: format!("entries/{uid}"),
        uid: uid.to_owned(),
        server: Some(entry::Server::Remote(RemoteServer {
            url: url.to_owned(),
            ..RemoteServer::default()
        })),
        credential_model: Some(entry::CredentialModel::StaticCredential(primary)),
        install_fields,
        ..Entry::default()
    }
}

/// A self-hosted entry.
pub fn self_hosted(uid: &str, command: &str, install_fields: Vec<InstallField>) -> Entry {
    let server = SelfHostedServer {
        command: command.to_owned(),
        transport: Some(self_hosted_server::Transport::Stdio(StdioTransport::default())),
        ..SelfHostedServer::default()
    };
    Entry {
        name: format!("entries/{uid}"),
        uid: uid.to_owned(),
        server: Some(entry::Server::SelfHosted(server)),
        credential_model: Some(entry::CredentialModel::NoCredential(NoCredential {})),
        install_fields,
        ..Entry::default()
    }
}

/// A self-hosted server that speaks streamable HTTP.
pub fn over_http(command: &str, tenancy: Tenancy) -> Option<entry::Server> {
    let transport = StreamableHttpTransport {
        tenancy: tenancy.into(),
        ..StreamableHttpTransport::default()
    };
    Some(entry::Server::SelfHosted(SelfHostedServer {
        command: command.to_owned(),
        transport: Some(self_hosted_server::Transport::StreamableHttp(transport)),
        ..SelfHostedServer::default()
    }))
}
