//! Reads the file that configures OIDC issuers.

use std::{fs, path::Path};

use serde::Deserialize;
use service_kit::identity::{FacadeRules, IssuerConfig, takes_secrets};

/// The YAML file: a list named `issuers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    issuers: Vec<IssuerConfig>,
}

/// Reads and checks the issuers of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<IssuerConfig>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("--issuers {}: {error}", path.display()))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    for (index, issuer) in file.issuers.iter().enumerate() {
        let what = format!("{}: issuers[{index}]", path.display());
        if issuer.audiences.is_empty() && issuer.client_id.is_none() {
            return Err(format!(
                "{what}: name `audiences`, a `client_id`, or both: without an audience no token can be accepted"
            ));
        }
        if let Some(variable) = &issuer.client_secret_env
            && std::env::var_os(variable).is_none()
        {
            return Err(format!(
                "{what}: client_secret_env: the environment variable {variable} is not set"
            ));
        }
        if let Some(scope) = issuer.required_scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(format!(
                "{what}: required_scopes: {scope:?} is not one scope: printable ASCII without spaces, quotes and backslashes"
            ));
        }
        if let Some(facade) = &issuer.facade {
            if issuer.client_id.is_none() {
                return Err(format!(
                    "{what}: facade: requires a `client_id`, with which people sign in"
                ));
            }
            let reserved = facade
                .parameters
                .keys()
                .find(|name| FacadeRules::RESERVED.contains(&name.as_str()));
            if let Some(name) = reserved {
                return Err(format!("{what}: facade: parameters: Chandlery sets {name} itself"));
            }
        }
        if file.issuers[..index].iter().any(|other| other.issuer == issuer.issuer) {
            return Err(format!("{what}: {} is configured twice", issuer.issuer));
        }
        for url in [Some(&issuer.issuer), issuer.discovery_url.as_ref()]
            .into_iter()
            .flatten()
        {
            url::Url::parse(url).map_err(|error| format!("{what}: {url}: {error}"))?;
            if !takes_secrets(url) {
                return Err(format!(
                    "{what}: {url}: must be an https URL (http only on this machine): otherwise an attacker in between could send forged keys"
                ));
            }
        }
    }
    Ok(file.issuers)
}

/// RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<IssuerConfig>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn reads_issuers() {
        let issuers = parse(
            "issuers:\n  - issuer: https://login.example.com\n    audiences: [chandlery]\n    client_id: abc\n    admins:\n      emails: [root@example.com]\n",
        )
        .unwrap();
        assert_eq!(
            issuers[0].metadata_url(),
            "https://login.example.com/.well-known/openid-configuration"
        );
        assert_eq!(issuers[0].audiences, ["chandlery"]);
        // Without a configured roles claim, no claim makes an admin.
        assert_eq!(issuers[0].roles_claim, None);
    }

    #[test]
    fn errors_name_the_fault() {
        for (text, complaint) in [
            ("issuers:\n  - issuer: https://a.example\n", "audience"),
            (
                "issuers:\n  - {issuer: 'https://a.example', client_id: a, client_secret_env: CHANDLERY_NOT_SET}\n",
                "CHANDLERY_NOT_SET is not set",
            ),
            ("issuers:\n  - issuer: nonsense\n    client_id: a\n", "nonsense"),
            ("issuers:\n  - issuer: https://a.example\n    clientid: a\n", "clientid"),
            (
                "issuers:\n  - {issuer: 'https://a.example', client_id: a}\n  - {issuer: 'https://a.example', client_id: b}\n",
                "twice",
            ),
            (
                "issuers:\n  - {issuer: 'https://a.example', audiences: [a], facade: {}}\n",
                "requires a `client_id`",
            ),
            (
                "issuers:\n  - {issuer: 'https://a.example', client_id: a, facade: {parameters: {nonce: a}}}\n",
                "sets nonce itself",
            ),
            (
                "issuers:\n  - {issuer: 'https://a.example', audiences: [a], required_scopes: ['two words']}\n",
                "required_scopes: \"two words\"",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
