//! The metadata of authorization servers (RFC 8414, OpenID Connect Discovery 1.0).

use reqwest::Url;

use super::{
    answer::fault,
    fields::Fields,
    http::{Http, Reach, Request},
    text::readable,
    well_known,
};
use crate::domain::authorization::servers::{Metadata, ServerError};

/// The largest document that is read.
pub(super) const MAX_DOCUMENT: usize = 256 << 10;

/// Reads the metadata at `issuer`. `accepts` says whether the issuer that it names is the right one.
pub(super) async fn discover(
    http: &Http,
    issuer: &Url,
    accepts: impl Fn(&str) -> bool + Send,
) -> Result<Metadata, ServerError> {
    let mut wrong = None;
    for place in well_known::of_issuer(issuer) {
        let turn = http.turn(Reach::Allowed, "the metadata", place.as_str()).await?;
        let answer = http.send(turn, Request::get(MAX_DOCUMENT)).await?;
        let fields = Fields::parse(&answer.body).filter(|_| answer.status.is_success());
        let Some((fields, named)) = fields.and_then(|fields| {
            let named = fields.text("issuer")?.to_owned();
            Some((fields, named))
        }) else {
            // Servers that do not know one of these addresses may fail there.
            wrong = wrong.or_else(|| fault(&answer));
            continue;
        };
        // RFC 8414, section 3.3: whoever could answer for another server could have its tokens.
        if accepts(&named) {
            return read(http, &fields, named, answer.is_internal);
        }
        let named = readable(&named, 200);
        let text = format!("the metadata of {issuer} names another issuer: {named:?}");
        wrong = wrong.or(Some(ServerError::Unusable(text)));
    }
    Err(wrong.unwrap_or_else(|| {
        let text = format!("{issuer} has no metadata of an authorization server (RFC 8414, OpenID Connect Discovery)");
        ServerError::Unusable(text)
    }))
}

/// The metadata of a server that is, or is not, in a network that the operator allows.
fn read(http: &Http, fields: &Fields, issuer: String, is_internal: bool) -> Result<Metadata, ServerError> {
    let endpoint = |name: &str| match fields.get(name) {
        None => Ok(String::new()),
        Some(value) => {
            let what = format!("the {name} of {issuer}");
            let url = value.as_str().unwrap_or_default();
            http.checked(Reach::within(is_internal), &what, url)
                .map(|_| url.to_owned())
        }
    };
    let token_endpoint = endpoint("token_endpoint")?;
    if token_endpoint.is_empty() {
        return Err(ServerError::Unusable(format!(
            "the metadata of {issuer} has no token_endpoint"
        )));
    }
    let has = |name: &str, value: &str| fields.list(name, 100, 100).iter().any(|one| one == value);
    Ok(Metadata {
        authorization_endpoint: endpoint("authorization_endpoint")?,
        token_endpoint,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        registration_endpoint: endpoint("registration_endpoint")?,
        sends_issuer: fields.is_true("authorization_response_iss_parameter_supported"),
        has_pkce: has("code_challenge_methods_supported", "S256"),
        takes_client_documents: fields.is_true("client_id_metadata_document_supported"),
        authentication_methods: fields.list("token_endpoint_auth_methods_supported", 20, 100),
        scopes: fields.scopes("scopes_supported"),
        may_be_internal: is_internal,
        issuer,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use service_kit::{egress::EgressPolicy, testing::install_tls_provider};

    use super::*;

    #[test]
    fn a_public_server_has_public_endpoints() {
        install_tls_provider();
        let policy = EgressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let http = Http::new(policy, Duration::from_secs(10));
        for endpoint in ["token_endpoint", "revocation_endpoint", "registration_endpoint"] {
            let mut document = json!({"token_endpoint": "https://as.example.com/token"});
            document[endpoint] = json!("https://10.0.0.1/admin");
            let fields = Fields::parse(document.to_string().as_bytes()).unwrap();
            let read = |is_internal| read(&http, &fields, "https://as.example.com".to_owned(), is_internal);
            assert!(read(true).is_ok_and(|metadata| metadata.may_be_internal));
            match read(false) {
                Err(ServerError::Unusable(text)) => {
                    assert!(
                        text.contains(endpoint) && text.contains("--allow-upstream-cidr"),
                        "{text}"
                    );
                }
                other => panic!("{endpoint}: {other:?}"),
            }
        }
    }
}
