//! The credential model of an entry: the authorization servers, clients and install fields that it names.

use std::collections::BTreeSet;

use contracts::registry as pb;
use pb::{
    ClientAuthentication, Injection, InstallFieldType, OAuthClient,
    entry::{CredentialModel, Server},
    injection,
    token_exchange_credential::Flow,
};
use registry_model::credential_models;
use service_kit::{egress::EgressPolicy, status::Violations};

use self::server::{Role, check_server};
use super::transport::{REQUIRES_HTTP, takes_headers};
use crate::domain::text::{check_line, parse_url};

mod server;
#[cfg(test)]
mod tests;

const MAX_SCOPES: usize = 100;
const MAX_SCOPE: usize = 200;
const MAX_PARAMETERS: usize = 20;
const MAX_AUDIENCES: usize = 20;
const MAX_TEXT: usize = 2_048;
/// What the authorization request says in any case.
const RESERVED: [&str; 14] = [
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "resource",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// The field of the oneof, for paths.
pub(super) fn name(model: &CredentialModel) -> &'static str {
    match model {
        CredentialModel::NoCredential(_) => "no_credential",
        CredentialModel::StaticCredential(_) => "static_credential",
        CredentialModel::Oauth(_) => "oauth",
        CredentialModel::ClientCredentials(_) => "client_credentials",
        CredentialModel::TokenExchange(_) => "token_exchange",
        CredentialModel::JwtPassthrough(_) => "jwt_passthrough",
    }
}

/// Keys of the install fields that hold secrets of the model.
pub(super) fn fields(entry: &pb::Entry) -> Vec<String> {
    let model = entry.credential_model.clone().map(credential_models::of_entry);
    let fields = model.as_ref().map(credential_models::fields).unwrap_or_default();
    fields.into_iter().map(str::to_owned).collect()
}

/// How the credential is sent; `None` if none is. The inner `None` is the default.
pub(super) fn injection(entry: &pb::Entry) -> Option<Option<Injection>> {
    let model = credential_models::of_entry(entry.credential_model.clone()?);
    credential_models::injection(&model).map(Option::<&Injection>::cloned)
}

/// Checks everything but the injection, which is checked with the other headers.
pub(super) fn check(violations: &mut Violations, entry: &pb::Entry, egress: &EgressPolicy) {
    let Some(model) = &entry.credential_model else { return };
    let mut part = Violations::new();
    let checks = Checks { entry, egress };
    match model {
        CredentialModel::NoCredential(_) => {}
        CredentialModel::StaticCredential(model) => checks.static_credential(&mut part, model),
        CredentialModel::Oauth(model) => checks.oauth(&mut part, model),
        CredentialModel::ClientCredentials(model) => checks.client_credentials(&mut part, model),
        CredentialModel::TokenExchange(model) => checks.token_exchange(&mut part, model),
        CredentialModel::JwtPassthrough(model) => checks.jwt_passthrough(&mut part, model),
    }
    if injection(entry).is_some() && !takes_headers(entry) {
        let field = match model {
            CredentialModel::StaticCredential(_) => "field",
            _ => "injection",
        };
        part.add(
            field,
            format!(
                "{}; let secrets go to the environment, files or arguments",
                REQUIRES_HTTP
            ),
        );
    }
    violations.extend(&format!("entry.{}", name(model)), part);
}

/// Writes defaults out, so that a reader can distinguish an unset case from one that is newer than the reader.
pub(super) fn make_explicit(model: &mut Option<CredentialModel>) {
    let model = model.get_or_insert(CredentialModel::NoCredential(pb::NoCredential {}));
    let injection = match model {
        CredentialModel::NoCredential(_) => return,
        CredentialModel::StaticCredential(model) if model.field.is_empty() => return,
        CredentialModel::StaticCredential(model) => &mut model.injection,
        CredentialModel::Oauth(model) => {
            model.client.iter_mut().for_each(explicit_authentication);
            &mut model.injection
        }
        CredentialModel::ClientCredentials(model) => {
            model.client.iter_mut().for_each(explicit_authentication);
            &mut model.injection
        }
        CredentialModel::TokenExchange(model) => {
            model.client.iter_mut().for_each(explicit_authentication);
            if let Some(Flow::IdentityAssertion(flow)) = &mut model.flow {
                flow.resource_client.iter_mut().for_each(explicit_authentication);
            }
            &mut model.injection
        }
        CredentialModel::JwtPassthrough(model) => &mut model.injection,
    };
    injection.get_or_insert(Injection {
        kind: Some(injection::Kind::Bearer(pb::BearerHeader {})),
    });
}

fn explicit_authentication(client: &mut OAuthClient) {
    client.set_authentication(authentication(client));
}

/// As the client says, or the default.
fn authentication(client: &OAuthClient) -> ClientAuthentication {
    match client.authentication() {
        ClientAuthentication::Unspecified if client.secret_field.is_empty() => ClientAuthentication::None,
        ClientAuthentication::Unspecified => ClientAuthentication::ClientSecretBasic,
        given => given,
    }
}

struct Checks<'a> {
    entry: &'a pb::Entry,
    egress: &'a EgressPolicy,
}

impl Checks<'_> {
    fn static_credential(&self, violations: &mut Violations, model: &pb::StaticCredential) {
        if !model.field.is_empty() {
            self.field(violations, "field", &model.field);
        } else if model.injection.is_some() {
            violations.add("field", "must name the install field to inject");
        }
    }

    fn oauth(&self, violations: &mut Violations, model: &pb::OAuthCredential) {
        let server = model.authorization_server.as_ref();
        if let Some(server) = server {
            check_server(violations, "authorization_server", server, Role::SignsIn, self.egress);
        } else if self.is_self_hosted() {
            violations.add("authorization_server", "must be set: a self-hosted server names none");
        } else if model.client.is_some() {
            violations.add(
                "authorization_server",
                "must be set where the client is: a client belongs to one server",
            );
        }
        if let Some(client) = &model.client {
            self.client(violations, "client", client, true);
        }
        check_scopes(violations, &model.scopes);
        check_uri(violations, "resource", &model.resource);
        if model.omit_resource && !model.resource.is_empty() {
            violations.add("omit_resource", "must be false where there is a resource");
        }
        if self.is_self_hosted() && model.resource.is_empty() && !model.omit_resource {
            violations.add(
                "resource",
                "must be set for a self-hosted server, unless omit_resource is",
            );
        }
        check_parameters(violations, &model.authorization_parameters);
    }

    fn client_credentials(&self, violations: &mut Violations, model: &pb::ClientCredentialsCredential) {
        self.server_and_client(violations, model.authorization_server.as_ref(), model.client.as_ref());
        check_scopes(violations, &model.scopes);
        check_uri(violations, "resource", &model.resource);
        check_short(violations, "audience", &model.audience);
    }

    fn token_exchange(&self, violations: &mut Violations, model: &pb::TokenExchangeCredential) {
        self.server_and_client(violations, model.authorization_server.as_ref(), model.client.as_ref());
        check_scopes(violations, &model.scopes);
        match &model.flow {
            None => violations.add("flow", "must be set: exchange, on_behalf_of or identity_assertion"),
            Some(Flow::Exchange(flow)) => {
                check_short(violations, "exchange.audience", &flow.audience);
                check_uri(violations, "exchange.resource", &flow.resource);
                check_uri(violations, "exchange.requested_token_type", &flow.requested_token_type);
                check_uri(violations, "exchange.subject_token_type", &flow.subject_token_type);
            }
            Some(Flow::OnBehalfOf(_)) => {
                if model.scopes.is_empty() {
                    violations.add("scopes", "must name the target, as in api://tool/.default");
                }
            }
            Some(Flow::IdentityAssertion(flow)) => {
                let mut part = Violations::new();
                match &flow.resource_authorization_server {
                    None => part.add("resource_authorization_server", "must be set"),
                    Some(server) => {
                        let path = "resource_authorization_server";
                        check_server(&mut part, path, server, Role::IssuesTokens, self.egress);
                        if server.issuer.is_empty() {
                            part.add(
                                format!("{path}.issuer"),
                                "must be set: it is the audience of the assertion",
                            );
                        }
                    }
                }
                match &flow.resource_client {
                    None => part.add("resource_client", "must be set"),
                    Some(client) => self.client(&mut part, "resource_client", client, false),
                }
                check_uri(&mut part, "resource", &flow.resource);
                check_uri(&mut part, "subject_token_type", &flow.subject_token_type);
                if self.is_self_hosted() && flow.resource.is_empty() {
                    part.add("resource", "must be set for a self-hosted server");
                }
                violations.extend("identity_assertion", part);
            }
        }
    }

    fn jwt_passthrough(&self, violations: &mut Violations, model: &pb::JwtPassthroughCredential) {
        if model.issuer.is_empty() {
            violations.add("issuer", "must be the `iss` that the caller's token must have");
        }
        check_short(violations, "issuer", &model.issuer);
        if !(1..=MAX_AUDIENCES).contains(&model.audiences.len()) {
            violations.add("audiences", format!("must have 1 to {MAX_AUDIENCES} elements"));
            return;
        }
        for (index, audience) in model.audiences.iter().enumerate() {
            let path = format!("audiences[{index}]");
            if audience.is_empty() {
                violations.add(path, "must not be empty");
            } else {
                check_short(violations, &path, audience);
            }
        }
    }

    fn server_and_client(
        &self,
        violations: &mut Violations,
        server: Option<&pb::AuthorizationServer>,
        client: Option<&OAuthClient>,
    ) {
        match server {
            None => violations.add("authorization_server", "must be set"),
            Some(server) => {
                check_server(
                    violations,
                    "authorization_server",
                    server,
                    Role::IssuesTokens,
                    self.egress,
                );
            }
        }
        match client {
            None => violations.add("client", "must be set"),
            Some(client) => self.client(violations, "client", client, false),
        }
    }

    fn client(&self, violations: &mut Violations, path: &str, client: &OAuthClient, may_be_public: bool) {
        let mut part = Violations::new();
        match (client.client_id.is_empty(), client.client_id_field.is_empty()) {
            (true, true) => part.add("client_id", "must be set, unless client_id_field is"),
            (false, false) => part.add("client_id_field", "must be empty where client_id is set"),
            (false, true) => check_short(&mut part, "client_id", &client.client_id),
            (true, false) => self.field(&mut part, "client_id_field", &client.client_id_field),
        }
        if ClientAuthentication::try_from(client.authentication).is_err() {
            part.add(
                "authentication",
                "must be NONE, CLIENT_SECRET_BASIC, CLIENT_SECRET_POST or PRIVATE_KEY_JWT",
            );
        }
        let authentication = authentication(client);
        match (authentication, client.secret_field.as_str()) {
            (ClientAuthentication::None, "") if may_be_public => {}
            (_, "") => part.add(
                "secret_field",
                "must name the install field that holds the client's secret or key",
            ),
            (ClientAuthentication::None, _) => part.add("secret_field", "must be empty where authentication is NONE"),
            (_, key) => self.field(&mut part, "secret_field", key),
        }
        if !client.secret_field.is_empty() && client.secret_field == client.client_id_field {
            part.add("secret_field", "must be another field than client_id_field");
        }
        check_line(&mut part, "key_id", &client.key_id, MAX_SCOPE);
        if !client.key_id.is_empty() && authentication != ClientAuthentication::PrivateKeyJwt {
            part.add("key_id", "is for PRIVATE_KEY_JWT");
        }
        violations.extend(path, part);
    }

    /// Checks a field that holds a secret of the model.
    fn field(&self, violations: &mut Violations, path: &str, key: &str) {
        match self.entry.install_fields.iter().find(|field| field.key == key) {
            None => violations.add(path, format!("no install field has the key {key:?}")),
            Some(field) if field.r#type() != InstallFieldType::Secret => {
                violations.add(path, format!("the install field {key:?} must be of type SECRET"));
            }
            Some(field) if field.target.is_some() => violations.add(
                path,
                format!("the install field {key:?} must have no target: the credential model says where it goes"),
            ),
            Some(_) => {}
        }
    }

    fn is_self_hosted(&self) -> bool {
        matches!(self.entry.server, Some(Server::SelfHosted(_)))
    }
}

/// RFC 6749, section 3.3.
fn check_scopes(violations: &mut Violations, scopes: &[String]) {
    if scopes.len() > MAX_SCOPES {
        violations.add("scopes", format!("must have at most {MAX_SCOPES} elements"));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, scope) in scopes.iter().enumerate() {
        let is_token = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.bytes().all(is_token) {
            violations.add(
                format!("scopes[{index}]"),
                format!("must be 1 to {MAX_SCOPE} visible ASCII characters without spaces, \" and \\"),
            );
        } else if !seen.insert(scope) {
            violations.add(format!("scopes[{index}]"), format!("{scope} is a duplicate"));
        }
    }
}

fn check_parameters(violations: &mut Violations, parameters: &std::collections::HashMap<String, String>) {
    let path = "authorization_parameters";
    if parameters.len() > MAX_PARAMETERS {
        violations.add(path, format!("must have at most {MAX_PARAMETERS} elements"));
        return;
    }
    let mut sorted: Vec<_> = parameters.iter().collect();
    sorted.sort();
    for (name, value) in sorted {
        let path = format!("{path}[{name}]");
        if name.is_empty()
            || name.len() > 100
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            violations.add(&path, "the name must be 1 to 100 of A-Z, a-z, 0-9, _, . and -");
        } else if RESERVED.contains(&name.as_str()) {
            violations.add(&path, format!("{name} is set by the credential service"));
        }
        check_line(violations, &path, value, 1_000);
    }
}

/// An absolute URI without fragment, or nothing.
fn check_uri(violations: &mut Violations, path: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    match parse_url(text) {
        Err(_) => violations.add(path, "must be an absolute URI, at most 2,048 bytes"),
        Ok(url) if url.fragment().is_some() => violations.add(path, "must not have a fragment"),
        Ok(_) => {}
    }
}

fn check_short(violations: &mut Violations, path: &str, text: &str) {
    check_line(violations, path, text, MAX_TEXT);
}
