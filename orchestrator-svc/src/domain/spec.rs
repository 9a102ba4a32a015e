//! The spec of a server that should run for an owner, without the values of its secrets.

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

/// Secrets by the key of their install field.
pub(crate) type Secrets = HashMap<String, SecretString>;

/// A placeholder for the server's working folder in the arguments and the environment of its entry.
const WORKING_FOLDER: &str = "{working_folder}";

/// A server that should run. It names secrets by their keys; their values come from `secrets` when the server is started.
#[derive(Clone)]
pub(crate) struct ServerSpec {
    pub(crate) command: String,
    /// The arguments of the entry; those of `fields` follow them. `{working_folder}` is replaced here and in `environment`.
    pub(crate) arguments: Vec<String>,
    /// The environment variables of the entry.
    pub(crate) environment: BTreeMap<String, String>,
    /// The files of the entry: path, relative to the working folder, and content.
    pub(crate) files: Vec<(String, String)>,
    /// The values that people entered. A value replaces those of earlier fields and of the entry for the same variable or file.
    pub(crate) fields: Vec<Field>,
    pub(crate) transport: Transport,
    /// Whether the owner of the installation must confirm new versions of a package before they run.
    pub(crate) confirm_new_versions: bool,
    /// The credential generations of the installation and of its entry; zero if the server gets no secrets.
    pub(crate) credential_generations: (i64, i64),
    /// The number of the entry revision. Not part of the digest, since a change of texts makes a revision too.
    pub(crate) revision: i64,
    /// The `Installation.generation` that this spec was made for. Not part of the digest, since a change of labels raises it too.
    pub(crate) generation: i64,
    pub(crate) secrets: Arc<dyn SecretSource>,
}

/// A value that a person entered, and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// For people.
    pub(crate) title: String,
    pub(crate) value: FieldValue,
    pub(crate) target: FieldTarget,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldValue {
    Plain(String),
    Secret {
        key: String,
        /// The server does not start without it.
        required: bool,
    },
}

/// The target of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldTarget {
    EnvironmentVariable(String),
    File {
        /// Relative to the working folder.
        path: String,
        /// The name of a variable for the file's full path.
        path_variable: Option<String>,
    },
    /// The arguments of a template, in which `{value}` is replaced. If the template is empty, the value is one argument.
    Arguments(Vec<String>),
}

/// How a server speaks MCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Stdio {
        /// Whether each MCP session has a process of its own; else one process serves all.
        one_per_session: bool,
    },
    StreamableHttp {
        /// 0: a free port is chosen, which the server finds in the variable `PORT`.
        port: u16,
        path: String,
    },
}

/// Why a server cannot be started: a person must do something first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// UPPER_SNAKE_CASE.
    pub(crate) reason: &'static str,
    /// For people: what to do.
    pub(crate) message: String,
}

/// The source of a server's secrets. A runtime draws them only when it is about to start the server. Processes that run before, such as the
/// fetch of a package, get none.
#[async_trait::async_trait]
pub(crate) trait SecretSource: Send + Sync {
    /// The current values of the secrets that the spec names, as far as they were entered.
    async fn draw(&self) -> Result<Secrets, DrawError>;
}

/// Why secrets could not be drawn.
#[derive(Debug)]
pub(crate) enum DrawError {
    /// A person must do something first. When that has happened, a new spec is applied, or the same one again.
    Missing(Missing),
    /// The source is unavailable; a later attempt may succeed. The text is for the log.
    Unavailable(String),
}

/// A spec with its secrets and its working folder put in. `Debug` does not show them, and they are wiped on drop.
pub(crate) struct Launch {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
    /// How many arguments, from the first, are those of the entry.
    pub(crate) fixed_arguments: usize,
    pub(crate) environment: BTreeMap<String, String>,
    /// The variables of the entry, before values that people entered replaced some.
    pub(crate) fixed_environment: BTreeMap<String, String>,
    pub(crate) files: Vec<File>,
    pub(crate) secrets: Vec<String>,
    pub(crate) transport: Transport,
    pub(crate) confirm_new_versions: bool,
}

/// A file that a server finds in its working folder.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) content: String,
    pub(crate) secret: bool,
}

impl ServerSpec {
    /// Identifies everything that decides what runs: specs with the same digest run the same server. Hex of the SHA-256 of a canonical
    /// encoding, which is the same in every version of Chandlery. Covers the generations of the credentials, but not their values.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Canonical(Sha256::new());
        hash.text(&self.command);
        hash.texts(&self.arguments);
        hash.pairs(&self.environment);
        hash.pairs(self.files.iter().map(|(path, content)| (path, content)));
        hash.count(self.fields.len());
        for field in &self.fields {
            match &field.value {
                FieldValue::Plain(value) => hash.texts(["plain", value]),
                FieldValue::Secret { key, required } => {
                    hash.texts(["secret", key, if *required { "required" } else { "optional" }]);
                }
            }
            match &field.target {
                FieldTarget::EnvironmentVariable(name) => hash.texts(["variable", name]),
                FieldTarget::File { path, path_variable } => {
                    hash.texts(["file", path, path_variable.as_deref().unwrap_or_default()]);
                }
                FieldTarget::Arguments(template) => {
                    hash.text("arguments");
                    hash.texts(template);
                }
            }
        }
        match &self.transport {
            Transport::Stdio { one_per_session: false } => hash.text("stdio"),
            Transport::Stdio { one_per_session: true } => hash.text("stdio, one process a session"),
            Transport::StreamableHttp { port, path } => hash.texts(["streamable-http", &port.to_string(), path]),
        }
        hash.count(usize::from(self.confirm_new_versions));
        let (own, entry) = self.credential_generations;
        hash.texts([own.to_string(), entry.to_string()]);
        hex::encode(hash.0.finalize())
    }

    /// Whether the server gets secrets, if they were entered.
    pub(crate) fn requires_secrets(&self) -> bool {
        let mut values = self.fields.iter().map(|field| &field.value);
        values.any(|value| matches!(value, FieldValue::Secret { .. }))
    }

    /// Puts `secrets` and the working folder `folder` in.
    ///
    /// # Errors
    /// If a required secret is missing.
    pub(crate) fn launch(&self, folder: &Path, secrets: &Secrets) -> Result<Launch, Missing> {
        let fixed = |text: &String| text.replace(WORKING_FOLDER, &folder.to_string_lossy());
        let fixed_environment: BTreeMap<_, _> = self
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), fixed(value)))
            .collect();
        let files = self.files.iter().map(|(path, content)| File {
            path: path.clone(),
            content: content.clone(),
            secret: false,
        });
        let mut launch = Launch {
            command: self.command.clone(),
            arguments: self.arguments.iter().map(fixed).collect(),
            fixed_arguments: self.arguments.len(),
            environment: fixed_environment.clone(),
            fixed_environment,
            files: files.collect(),
            secrets: secrets.values().map(|s| s.expose_secret().to_owned()).collect(),
            transport: self.transport.clone(),
            confirm_new_versions: self.confirm_new_versions,
        };
        for field in &self.fields {
            match &field.value {
                FieldValue::Plain(value) => launch.put(&field.target, value, false, folder),
                FieldValue::Secret { key, required } => match secrets.get(key) {
                    Some(value) => launch.put(&field.target, value.expose_secret(), true, folder),
                    None if *required => return Err(Missing::credential(&field.title)),
                    None => {}
                },
            }
        }
        Ok(launch)
    }

    /// A [`Self::launch`] to inspect before secrets are drawn: the value of each secret is its key.
    pub(crate) fn outline(&self, folder: &Path) -> Launch {
        let secrets = self.fields.iter().filter_map(|field| match &field.value {
            FieldValue::Secret { key, .. } => Some((key.clone(), SecretString::from(key.as_str()))),
            FieldValue::Plain(_) => None,
        });
        let Ok(outline) = self.launch(folder, &secrets.collect()) else {
            unreachable!("no secret is missing");
        };
        outline
    }
}

impl Missing {
    /// A required secret was never entered.
    fn credential(title: &str) -> Self {
        Self {
            reason: "CREDENTIAL_REQUIRED",
            message: format!(
                "A value for the secret {title:?} is required: enter it in the installation's credential."
            ),
        }
    }
}

impl Launch {
    fn put(&mut self, target: &FieldTarget, value: &str, secret: bool, folder: &Path) {
        match target {
            FieldTarget::EnvironmentVariable(name) => {
                self.environment.insert(name.clone(), value.to_owned());
            }
            FieldTarget::File { path, path_variable } => {
                if let Some(variable) = path_variable {
                    let full = folder.join(path).to_string_lossy().into_owned();
                    self.environment.insert(variable.clone(), full);
                }
                self.files.retain(|file| file.path != *path);
                self.files.push(File {
                    path: path.clone(),
                    content: value.to_owned(),
                    secret,
                });
            }
            FieldTarget::Arguments(template) if template.is_empty() => self.arguments.push(value.to_owned()),
            FieldTarget::Arguments(template) => {
                let arguments = template.iter().map(|part| part.replace("{value}", value));
                self.arguments.extend(arguments);
            }
        }
    }

    /// Identifies the launch, including its secrets. Only for comparisons in this process: it must not be stored or shown.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Canonical(Sha256::new());
        hash.text(&self.command);
        hash.texts(&self.arguments);
        hash.pairs(&self.environment);
        hash.pairs(self.files.iter().map(|file| (&file.path, &file.content)));
        hash.text(&format!("{:?}", self.transport));
        hash.count(usize::from(self.confirm_new_versions));
        hash.0.finalize().into()
    }
}

/// Hashes texts with their lengths, so that different lists of texts never give the same bytes.
struct Canonical(Sha256);

impl Canonical {
    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text);
    }

    fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) {
        let texts = texts.into_iter();
        self.count(texts.len());
        texts.for_each(|text| self.text(text.as_ref()));
    }

    fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a String, &'a String), IntoIter: ExactSizeIterator>) {
        let pairs = pairs.into_iter();
        self.count(pairs.len());
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }
}

impl fmt::Debug for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSpec")
            .field("command", &self.command)
            .field("revision", &self.revision)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.arguments.iter_mut().for_each(|a| a.zeroize());
        self.environment.values_mut().for_each(|v| v.zeroize());
        self.files.iter_mut().for_each(|f| f.content.zeroize());
        self.secrets.iter_mut().for_each(|s| s.zeroize());
    }
}
