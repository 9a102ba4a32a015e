//! Credential models of authorization servers, each with what is said about it.

use contracts::registry as pb;
use pb::{
    AuthorizationServer, ClientCredentialsCredential, IdentityAssertionFlow, InstallField, InstallFieldSource,
    InstallFieldType, JwtPassthroughCredential, OAuthCredential, OnBehalfOfFlow, RemoteServer, SelfHostedServer,
    StreamableHttpTransport, TokenExchangeCredential, TokenExchangeFlow, self_hosted_server::Transport,
};

use super::*;
use crate::domain::entry::EntrySpec;

const ISSUER: &str = "https://login.example.com/tenant";

fn issuer(issuer: &str) -> AuthorizationServer {
    AuthorizationServer {
        issuer: issuer.to_owned(),
        ..Default::default()
    }
}

fn client() -> OAuthClient {
    OAuthClient {
        client_id: "chandlery".to_owned(),
        secret_field: "secret".to_owned(),
        ..Default::default()
    }
}

fn machine() -> ClientCredentialsCredential {
    ClientCredentialsCredential {
        authorization_server: Some(issuer(ISSUER)),
        client: Some(client()),
        ..Default::default()
    }
}

fn exchange(flow: Flow) -> TokenExchangeCredential {
    TokenExchangeCredential {
        authorization_server: Some(issuer(ISSUER)),
        client: Some(client()),
        flow: Some(flow),
        ..Default::default()
    }
}

fn assertion() -> IdentityAssertionFlow {
    IdentityAssertionFlow {
        resource_authorization_server: Some(issuer("https://auth.tool.example")),
        resource_client: Some(OAuthClient {
            client_id: "tool".to_owned(),
            secret_field: "other".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An entry with two secrets for its model.
fn entry(model: CredentialModel) -> pb::Entry {
    let field = |key: &str| InstallField {
        key: key.to_owned(),
        r#type: InstallFieldType::Secret.into(),
        source: InstallFieldSource::Stored.into(),
        ..Default::default()
    };
    let used = credential_models::of_entry(model.clone());
    let used = credential_models::fields(&used);
    pb::Entry {
        server: Some(Server::Remote(RemoteServer {
            url: "https://mcp.example.com/mcp".to_owned(),
            ..RemoteServer::default()
        })),
        install_fields: ["secret", "other"]
            .into_iter()
            .filter(|key| used.contains(key))
            .map(field)
            .collect(),
        credential_model: Some(model),
        ..Default::default()
    }
}

fn hosted(mut entry: pb::Entry, transport: Option<Transport>) -> pb::Entry {
    entry.server = Some(Server::SelfHosted(SelfHostedServer {
        command: "server".to_owned(),
        transport,
        ..Default::default()
    }));
    entry
}

fn wrong(entry: pb::Entry) -> Vec<String> {
    match EntrySpec::parse(entry, &EgressPolicy::default()) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(|(field, _)| field.to_owned()).collect(),
    }
}

#[test]
fn each_model_is_accepted_and_its_defaults_are_written_out() {
    let models = [
        CredentialModel::Oauth(OAuthCredential::default()),
        CredentialModel::Oauth(OAuthCredential {
            authorization_server: Some(issuer(ISSUER)),
            client: Some(OAuthClient {
                client_id: "public".to_owned(),
                ..Default::default()
            }),
            scopes: vec!["read".to_owned(), "offline_access".to_owned()],
            authorization_parameters: [("access_type".to_owned(), "offline".to_owned())].into(),
            ..Default::default()
        }),
        CredentialModel::ClientCredentials(machine()),
        CredentialModel::TokenExchange(exchange(Flow::Exchange(TokenExchangeFlow::default()))),
        CredentialModel::TokenExchange(TokenExchangeCredential {
            scopes: vec!["api://tool/.default".to_owned()],
            ..exchange(Flow::OnBehalfOf(OnBehalfOfFlow {}))
        }),
        CredentialModel::TokenExchange(exchange(Flow::IdentityAssertion(assertion()))),
        CredentialModel::JwtPassthrough(JwtPassthroughCredential {
            issuer: ISSUER.to_owned(),
            audiences: vec!["tool".to_owned()],
            ..Default::default()
        }),
    ];
    for model in models {
        let entry = entry(model);
        let spec = EntrySpec::parse(entry.clone(), &EgressPolicy::default());
        let spec = spec.unwrap_or_else(|wrong| panic!("{entry:?}: {wrong:?}"));
        let revision = spec.revision();
        assert!(registry_model::cases::all_known(&revision), "{revision:?}");
        let model = revision.credential_model.unwrap();
        let kind = credential_models::injection(&model).unwrap().unwrap().kind.clone();
        assert_eq!(kind, Some(injection::Kind::Bearer(pb::BearerHeader {})));
        for client in credential_models::clients(&model)
            .into_iter()
            .filter_map(|client| client.client)
        {
            assert_ne!(client.authentication(), ClientAuthentication::Unspecified);
        }
        // What is saved is what a later update parses again.
        assert_eq!(wrong(spec.message().clone()), Vec::<String>::new());
    }
}

#[test]
fn says_everything_that_is_wrong_with_a_server() {
    let with = |server: AuthorizationServer| {
        wrong(entry(CredentialModel::ClientCredentials(ClientCredentialsCredential {
            authorization_server: Some(server),
            ..machine()
        })))
    };
    let path = |field: &str| format!("entry.client_credentials.authorization_server.{field}");
    for (server, fields) in [
        (AuthorizationServer::default(), vec!["issuer"]),
        (issuer("http://login.example.com"), vec!["issuer"]),
        (issuer("https://127.0.0.1/"), vec!["issuer"]),
        (issuer("https://login.example.com/?a=b"), vec!["issuer"]),
        (issuer("https://login.example.com/#a"), vec!["issuer"]),
        (issuer("login"), vec!["issuer"]),
        (
            AuthorizationServer {
                token_endpoint: "https://10.0.0.1/token".to_owned(),
                authorization_endpoint: "https://login.example.com/authorize".to_owned(),
                ..Default::default()
            },
            vec!["token_endpoint", "authorization_endpoint"],
        ),
        (
            AuthorizationServer {
                revocation_endpoint: "https://login.example.com/revoke".to_owned(),
                ..issuer(ISSUER)
            },
            vec!["revocation_endpoint"],
        ),
    ] {
        let expected: Vec<_> = fields.into_iter().map(path).collect();
        assert_eq!(with(server.clone()), expected, "{server:?}");
    }
    let endpoints = AuthorizationServer {
        token_endpoint: "https://login.example.com/token?tenant=a".to_owned(),
        ..Default::default()
    };
    assert!(
        with(endpoints).is_empty(),
        "endpoints may have a query (RFC 6749, section 3.2)"
    );
}

#[test]
fn says_everything_that_is_wrong_with_a_client() {
    let with = |change: &dyn Fn(&mut OAuthClient)| {
        let mut client = client();
        change(&mut client);
        let mut entry = entry(CredentialModel::ClientCredentials(machine()));
        entry.credential_model = Some(CredentialModel::ClientCredentials(ClientCredentialsCredential {
            client: Some(client),
            ..machine()
        }));
        wrong(entry)
    };
    let path = |field: &str| format!("entry.client_credentials.client.{field}");
    assert_eq!(with(&|_| {}), Vec::<String>::new());
    assert_eq!(with(&|client| client.client_id.clear()), [path("client_id")]);
    assert_eq!(
        with(&|client| client.client_id_field = "secret".to_owned()),
        [path("client_id_field"), path("secret_field")]
    );
    assert_eq!(
        with(&|client| client.secret_field = "missing".to_owned()),
        ["entry.install_fields[0].target".to_owned(), path("secret_field")]
    );
    assert_eq!(
        with(&|client| client.secret_field.clear()),
        ["entry.install_fields[0].target".to_owned(), path("secret_field")],
        "machines are never public clients"
    );
    assert_eq!(with(&|client| client.authentication = 99), [path("authentication")]);
    assert_eq!(with(&|client| client.key_id = "k".to_owned()), [path("key_id")]);
    let signed = |client: &mut OAuthClient| {
        client.key_id = "k".to_owned();
        client.set_authentication(ClientAuthentication::PrivateKeyJwt);
    };
    assert!(with(&signed).is_empty());
}

#[test]
fn says_everything_that_is_wrong_with_a_sign_in() {
    let with = |model: OAuthCredential| wrong(entry(CredentialModel::Oauth(model)));
    let base = OAuthCredential::default;
    let path = |field: &str| format!("entry.oauth.{field}");
    assert_eq!(
        with(OAuthCredential {
            client: Some(OAuthClient {
                client_id: "public".to_owned(),
                ..Default::default()
            }),
            ..base()
        }),
        [path("authorization_server")]
    );
    assert_eq!(
        with(OAuthCredential {
            authorization_server: Some(AuthorizationServer {
                token_endpoint: "https://login.example.com/token".to_owned(),
                ..Default::default()
            }),
            ..base()
        }),
        [path("authorization_server.authorization_endpoint")]
    );
    assert_eq!(
        with(OAuthCredential {
            scopes: vec!["a b".to_owned(), "c".to_owned(), "c".to_owned(), String::new()],
            resource: "tool".to_owned(),
            omit_resource: true,
            authorization_parameters: [("state".to_owned(), "x".to_owned()), ("a b".to_owned(), String::new())].into(),
            ..base()
        }),
        [
            path("scopes[0]"),
            path("scopes[2]"),
            path("scopes[3]"),
            path("resource"),
            path("omit_resource"),
            path("authorization_parameters[a b]"),
            path("authorization_parameters[state]"),
        ]
    );
    let http = || Some(Transport::StreamableHttp(StreamableHttpTransport::default()));
    let model = || CredentialModel::Oauth(base());
    assert_eq!(
        wrong(hosted(entry(model()), http())),
        [path("authorization_server"), path("resource")],
        "a self-hosted server names neither"
    );
    let given = CredentialModel::Oauth(OAuthCredential {
        authorization_server: Some(issuer(ISSUER)),
        omit_resource: true,
        ..base()
    });
    assert!(wrong(hosted(entry(given.clone()), http())).is_empty());
    assert_eq!(
        wrong(hosted(entry(given), None)),
        [path("injection")],
        "a server behind standard input gets no headers"
    );
}

#[test]
fn says_everything_that_is_wrong_with_an_exchange_and_a_passthrough() {
    let path = |field: &str| format!("entry.token_exchange.{field}");
    let with = |model: TokenExchangeCredential| wrong(entry(CredentialModel::TokenExchange(model)));
    assert_eq!(
        with(TokenExchangeCredential::default()),
        [path("authorization_server"), path("client"), path("flow")]
    );
    assert_eq!(with(exchange(Flow::OnBehalfOf(OnBehalfOfFlow {}))), [path("scopes")]);
    assert_eq!(
        with(exchange(Flow::IdentityAssertion(IdentityAssertionFlow::default()))),
        [
            path("identity_assertion.resource_authorization_server"),
            path("identity_assertion.resource_client")
        ]
    );
    let unnamed = IdentityAssertionFlow {
        resource_authorization_server: Some(AuthorizationServer {
            token_endpoint: "https://auth.tool.example/token".to_owned(),
            ..Default::default()
        }),
        ..assertion()
    };
    assert_eq!(
        with(exchange(Flow::IdentityAssertion(unnamed))),
        [path("identity_assertion.resource_authorization_server.issuer")]
    );
    assert_eq!(
        wrong(entry(CredentialModel::JwtPassthrough(
            JwtPassthroughCredential::default()
        ))),
        ["entry.jwt_passthrough.issuer", "entry.jwt_passthrough.audiences"]
    );
}
