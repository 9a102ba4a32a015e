//! How this service shows Vault who it is, and the tokens that it gets for that.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{fs, io::AsyncReadExt as _, time::Instant};
use vaultrs::api::{
    auth::{approle::requests::LoginWithApproleRequest, kubernetes::requests::LoginWithKubernetesRequest},
    token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest},
};

use super::{
    client::{Answer, Client},
    failure::Failure,
    wire::{Authenticated, Data, TokenState},
};

/// The longest content of a file with a token or a secret id (bytes).
const MAX_FILE: u64 = 64 << 10;

/// A way to get a token. Files are read at each login: others renew them.
#[derive(Debug)]
pub(super) enum Login {
    /// A token that somebody made.
    Token(Source),
    AppRole {
        mount: String,
        role_id: String,
        secret_id_file: PathBuf,
    },
    Kubernetes {
        mount: String,
        role: String,
        token_file: PathBuf,
    },
}

/// Where a token is.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Environment(SecretString),
}

/// A token of Vault.
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// When it was made or renewed, as far as this process knows.
    pub(super) since: Instant,
    /// `None`: it does not end.
    pub(super) lifetime: Option<Duration>,
    pub(super) is_renewable: bool,
}

impl Login {
    /// A token that Vault accepts.
    pub(super) async fn token(&self, vault: &Client) -> Result<Token, Failure> {
        match self {
            Self::Token(source) => {
                let (secret, named) = source.read().await?;
                let answer = vault.ask(Some(&secret), LookupTokenSelfRequest {}).await?;
                if answer.status() == 403 {
                    return Err(Failure::TokenRefused {
                        source_of_it: named,
                        remedy: source.remedy(),
                    });
                }
                let answer = answer.success()?;
                let state: Data<TokenState> = answer.parse()?;
                Ok(Token::new(secret, state.data.ttl, state.data.renewable))
            }
            Self::AppRole {
                mount,
                role_id,
                secret_id_file,
            } => {
                let request = LoginWithApproleRequest {
                    mount: mount.clone(),
                    role_id: role_id.clone(),
                    secret_id: read(secret_id_file).await?.expose_secret().to_owned(),
                };
                let remedy = || {
                    format!(
                        "check that auth/{mount}/ is an AppRole method and that vault-role-id is right, and put a new secret id into {}",
                        secret_id_file.display()
                    )
                };
                logged_in(vault.ask(None, request).await?, "AppRole", remedy)
            }
            Self::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                let request = LoginWithKubernetesRequest {
                    mount: mount.clone(),
                    role: role.clone(),
                    jwt: read(token_file).await?.expose_secret().to_owned(),
                };
                let remedy = || {
                    format!(
                        "check that auth/{mount}/ is a Kubernetes method, that its role {role} admits this service account, and that Vault reaches the cluster"
                    )
                };
                logged_in(vault.ask(None, request).await?, "Kubernetes", remedy)
            }
        }
    }

    /// Whether a login may give another token than `known`.
    pub(super) async fn has_other(&self, known: &Token) -> bool {
        match self {
            Self::Token(source) => source
                .read()
                .await
                .is_ok_and(|(secret, _)| secret.expose_secret() != known.secret.expose_secret()),
            Self::AppRole { .. } | Self::Kubernetes { .. } => true,
        }
    }
}

impl Source {
    /// The token, and what it is called in errors.
    async fn read(&self) -> Result<(SecretString, String), Failure> {
        match self {
            Self::File(path) => Ok((read(path).await?, path.display().to_string())),
            Self::Environment(token) => Ok((token.clone(), "the environment".to_owned())),
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::File(_) => "put a new one into the file",
            Self::Environment(_) => {
                "restart with a new one, or use vault-token-file, which can be changed while this runs"
            }
        }
    }
}

impl Token {
    fn new(secret: SecretString, seconds: u64, is_renewable: bool) -> Self {
        Self {
            secret,
            since: Instant::now(),
            lifetime: (seconds > 0).then(|| Duration::from_secs(seconds)),
            is_renewable,
        }
    }

    /// What is left of its life; `None`: it does not end.
    pub(super) fn left(&self) -> Option<Duration> {
        let lifetime = self.lifetime?;
        Some(lifetime.saturating_sub(self.since.elapsed()))
    }

    /// The same token with the life that Vault gives it now.
    pub(super) async fn renewed(&self, vault: &Client) -> Result<Self, Failure> {
        let request = RenewTokenSelfRequest { increment: None };
        let answer = vault.ask(Some(&self.secret), request).await?.success()?;
        let Authenticated { auth } = answer.parse()?;
        Ok(Self::new(self.secret.clone(), auth.lease_duration, auth.renewable))
    }

    /// Whether Vault knows it.
    pub(super) async fn is_valid(&self, vault: &Client) -> Result<bool, Failure> {
        let answer = vault.ask(Some(&self.secret), LookupTokenSelfRequest {}).await?;
        match answer.status() {
            403 => Ok(false),
            _ => answer.success().map(|_| true),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

fn logged_in(answer: Answer, method: &'static str, remedy: impl FnOnce() -> String) -> Result<Token, Failure> {
    if let status @ (400 | 401 | 403 | 404) = answer.status() {
        return Err(Failure::LoginRefused {
            method,
            status,
            remedy: remedy(),
        });
    }
    let answer = answer.success()?;
    let Authenticated { auth } = answer.parse()?;
    Ok(Token::new(
        auth.client_token.into(),
        auth.lease_duration,
        auth.renewable,
    ))
}

/// The text of a file with one secret.
pub(super) async fn read(path: &std::path::Path) -> Result<SecretString, Failure> {
    let failed = |error: std::io::Error| Failure::file(path, error);
    let mut text = String::new();
    let file = fs::File::open(path).await.map_err(failed)?;
    file.take(MAX_FILE).read_to_string(&mut text).await.map_err(failed)?;
    let text = zeroize::Zeroizing::new(text);
    match checked(&text) {
        Some(secret) => Ok(secret),
        None => Err(Failure::file(
            path,
            "it must contain one line of printable characters and nothing else",
        )),
    }
}

/// A secret that can be a header's value, without the line break at its end.
pub(super) fn checked(text: &str) -> Option<SecretString> {
    let text = text.trim_ascii();
    let is_fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then(|| SecretString::from(text))
}
