//! The settings, checked: all errors are found at once, before anything is started.

use std::{
    fs,
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    client::Client,
    failure::TIMEOUT,
    login::{Login, Source, checked},
    transport::Http,
    trust::Trust,
};
use crate::config::{VaultConfig, VaultLogin};

/// What is wrong with the settings: one line for each, which begins with the name of the setting.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(Vec<String>);

/// Checked settings.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) client: Client,
    pub(super) login: Login,
    pub(super) prefix: String,
}

impl Settings {
    pub(super) fn of(config: VaultConfig) -> Result<Self, SettingsError> {
        Self::checked(config, Faults(Vec::new()))
    }

    /// The same for who uses a key of the Transit engine.
    pub(super) fn with_transit(config: VaultConfig, mount: &str, key: &str) -> Result<Self, SettingsError> {
        let mut faults = Faults(Vec::new());
        faults.path("vault-transit-mount", mount);
        faults.path("vault-transit-key", key);
        Self::checked(config, faults)
    }

    fn checked(config: VaultConfig, mut faults: Faults) -> Result<Self, SettingsError> {
        let address = faults.address(&config.address);
        let trust = config.ca.and_then(|file| faults.trust(file));
        if let Some(namespace) = &config.namespace {
            faults.path("vault-namespace", namespace);
        }
        faults.path("vault-mount", &config.mount);
        faults.path("vault-prefix", &config.prefix);
        let login = faults.login(config.login);
        let mut http = None;
        if faults.0.is_empty() {
            match Http::new(address, trust, TIMEOUT) {
                Ok(made) => http = Some(made),
                Err(error) => faults.add("vault-ca", error),
            }
        }
        let Some(http) = http else {
            return Err(SettingsError(faults.0));
        };
        let client = Client {
            http,
            namespace: config.namespace,
            mount: config.mount,
        };
        Ok(Self {
            client,
            login,
            prefix: config.prefix,
        })
    }
}

struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, setting: &str, fault: impl std::fmt::Display) {
        self.0.push(format!("{setting}: {fault}"));
    }

    fn address(&mut self, text: &str) -> String {
        let fault = match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "must be an https URL, such as https://vault.example.com:8200"
            }
            Ok(url) if !service_kit::identity::takes_secrets(text) => {
                let _ = url;
                "must be https: http is accepted only to this machine, since anybody in between could read the secrets"
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "must not contain a password: vault-auth says how to log in"
            }
            Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
                "must end after the port: Vault has no path, and vault-mount names the secrets engine"
            }
            Ok(url) => return url.to_string(),
            Err(_) => "must be a URL, such as https://vault.example.com:8200",
        };
        self.add("vault-address", fault);
        String::new()
    }

    fn trust(&mut self, file: PathBuf) -> Option<Trust> {
        let trust = Trust::read(file);
        let checked = trust.and_then(|trust| trust.certificates().map(|_| trust));
        checked.map_err(|fault| self.add("vault-ca", fault)).ok()
    }

    /// Checks a path of Vault: names of plain characters, separated by slashes.
    fn path(&mut self, setting: &str, path: &str) {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        let is_name = |name: &str| !name.is_empty() && name != "." && name != ".." && name.chars().all(is_plain);
        if !path.split('/').all(is_name) {
            self.add(
                setting,
                "must be a path of letters, digits, `-`, `_` and `.`, without a slash at its begin and end, such as team/chandlery",
            );
        }
    }

    fn login(&mut self, login: VaultLogin) -> Login {
        match login {
            VaultLogin::TokenFile(path) => {
                if path.as_os_str().is_empty() {
                    self.add(
                        "vault-token-file",
                        "is required, or a token in the environment variable CHANDLERY_VAULT_TOKEN",
                    );
                } else {
                    self.file("vault-token-file", &path);
                }
                Login::Token(Source::File(path))
            }
            VaultLogin::Token(token) => {
                use secrecy::ExposeSecret as _;
                let token = checked(token.expose_secret()).unwrap_or_else(|| {
                    self.add("CHANDLERY_VAULT_TOKEN", "must be one line of printable characters");
                    token
                });
                Login::Token(Source::Environment(token))
            }
            VaultLogin::AppRole {
                mount,
                role_id,
                secret_id_file,
            } => {
                self.path("vault-auth-mount", &mount);
                if checked(&role_id).is_none() {
                    self.add("vault-role-id", "must be the role id of an AppRole");
                }
                self.file("vault-secret-id-file", &secret_id_file);
                Login::AppRole {
                    mount,
                    role_id,
                    secret_id_file,
                }
            }
            VaultLogin::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                self.path("vault-auth-mount", &mount);
                if checked(&role).is_none() {
                    self.add("vault-role", "must be the name of a role of the Kubernetes method");
                }
                self.file("vault-kubernetes-token-file", &token_file);
                Login::Kubernetes {
                    mount,
                    role,
                    token_file,
                }
            }
        }
    }

    /// Checks that a file with a secret is there, and can be read.
    fn file(&mut self, setting: &str, path: &Path) {
        let fault = match fs::read_to_string(path) {
            Ok(text) if checked(&text).is_some() => return,
            Ok(_) => "must contain one line of printable characters and nothing else".to_owned(),
            Err(_) if path.as_os_str().is_empty() => {
                self.add(setting, "is required");
                return;
            }
            Err(error) => error.to_string(),
        };
        self.add(setting, format!("{}: {fault}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str, login: VaultLogin) -> VaultConfig {
        VaultConfig {
            address: address.to_owned(),
            ca: None,
            namespace: None,
            mount: "secret".to_owned(),
            prefix: "chandlery".to_owned(),
            login,
            former_data_dir: None,
        }
    }

    fn token() -> VaultLogin {
        VaultLogin::Token("s.token".into())
    }

    #[test]
    fn all_faults_are_found_at_once() {
        service_kit::testing::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, "no certificate").unwrap();
        let wrong = VaultConfig {
            ca: Some(ca),
            namespace: Some("/team".to_owned()),
            mount: "a//b".to_owned(),
            prefix: "../sys".to_owned(),
            ..config(
                "http://vault.example.com:8200",
                VaultLogin::AppRole {
                    mount: String::new(),
                    role_id: String::new(),
                    secret_id_file: folder.path().join("nothing"),
                },
            )
        };
        let told = Settings::of(wrong).unwrap_err().to_string();
        let settings: Vec<&str> = told.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        assert_eq!(
            settings,
            [
                "vault-address",
                "vault-ca",
                "vault-namespace",
                "vault-mount",
                "vault-prefix",
                "vault-auth-mount",
                "vault-role-id",
                "vault-secret-id-file"
            ],
            "{told}"
        );
    }

    #[test]
    fn secrets_go_to_no_address_where_others_read_them() {
        service_kit::testing::install_tls_provider();
        for address in [
            "https://vault.example.com",
            "https://10.0.0.1:8200/",
            "http://127.0.0.1:8200",
            "http://[::1]:8200",
        ] {
            assert!(Settings::of(config(address, token())).is_ok(), "{address}");
        }
        for (address, told) in [
            ("http://10.0.0.1:8200", "must be https"),
            ("http://127.0.0.1.example.com", "must be https"),
            ("ftp://vault.example.com", "https URL"),
            ("https://me:canary@vault.example.com", "password"),
            ("https://vault.example.com/v1", "after the port"),
            ("https://vault.example.com/?a=canary", "after the port"),
            ("vault.example.com:8200", "URL"),
            ("", "URL"),
        ] {
            let error = Settings::of(config(address, token())).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("canary"), "{address}: {error}");
        }
    }

    #[test]
    fn a_secret_is_one_line() {
        service_kit::testing::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (text, is_fit) in [
            ("s.canary\n", true),
            (" s.canary", true),
            ("", false),
            ("s.can\nary", false),
            ("s.cän", false),
        ] {
            fs::write(&file, text).unwrap();
            let read = Settings::of(config("https://a.example", VaultLogin::TokenFile(file.clone())));
            assert_eq!(read.is_ok(), is_fit, "{text:?}");
            assert!(!format!("{read:?}").contains("canary"), "{read:?}");
        }
    }
}
