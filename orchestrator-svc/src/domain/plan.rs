//! What to run for an installation: the entry revision it runs, its values and its secrets put together.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
};

use contracts::registry::{
    EntryRevision, InstallField, InstallFieldSource, InstallFieldType, Installation, SelfHostedServer,
    entry_revision::Server, install_field::Target, self_hosted_server,
};
use registry_model::cases;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use stdio_bridge::{File, Transport};

/// Secrets by the key of their install field.
pub(crate) type Secrets = HashMap<String, SecretString>;

/// Stands for the server's working folder in what its entry says.
const WORKING_FOLDER: &str = "{working_folder}";

/// A server to run. It holds secrets.
pub(crate) struct Plan {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
    /// How many of them, from the first, are the entry's own; the others come of values.
    pub(crate) fixed_arguments: usize,
    pub(crate) environment: BTreeMap<String, String>,
    /// What of it is the entry's own.
    pub(crate) fixed_environment: BTreeMap<String, String>,
    pub(crate) files: Vec<File>,
    pub(crate) secrets: Vec<String>,
    pub(crate) transport: Transport,
    /// As the entry says.
    pub(crate) confirm_new_versions: bool,
}

/// Why there is nothing to run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// UPPER_SNAKE_CASE.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// The self-hosted server of an entry revision.
pub(crate) fn self_hosted(revision: &EntryRevision) -> Option<&SelfHostedServer> {
    match revision.server.as_ref()? {
        Server::SelfHosted(server) => Some(server),
        Server::Remote(_) => None,
    }
}

fn is_secret(field: &InstallField) -> bool {
    matches!(field.r#type(), InstallFieldType::Secret | InstallFieldType::File)
}

/// Whether the server itself gets secrets, rather than each request.
pub(crate) fn wants_secrets(revision: &EntryRevision) -> bool {
    let to_server = |f: &InstallField| {
        matches!(
            f.target,
            Some(Target::EnvironmentVariable(_) | Target::MountedFile(_) | Target::Argument(_))
        )
    };
    revision.install_fields.iter().any(|f| is_secret(f) && to_server(f))
}

/// Whether some secrets are stored on the entry, for all of its installations.
pub(crate) fn has_stored_secrets(revision: &EntryRevision) -> bool {
    let stored = |f: &InstallField| is_secret(f) && f.source() == InstallFieldSource::Stored;
    revision.install_fields.iter().any(stored)
}

/// Stands for the secrets where only the rest of a plan matters: each secret is its field's key.
pub(crate) fn placeholders(revision: &EntryRevision) -> Secrets {
    let secrets = revision.install_fields.iter().filter(|f| is_secret(f));
    secrets
        .map(|f| (f.key.clone(), SecretString::from(f.key.as_str())))
        .collect()
}

impl Plan {
    /// Puts everything together. `folder` is where the server will run.
    pub(crate) fn new(
        installation: &Installation,
        revision: &EntryRevision,
        secrets: &Secrets,
        folder: &Path,
    ) -> Result<Self, Missing> {
        let Some(server) = self_hosted(revision) else {
            return Err(Missing {
                reason: "NOT_SELF_HOSTED",
                message: "The entry has no server to run.".to_owned(),
            });
        };
        if !cases::all_known(revision) {
            return Err(Missing {
                reason: "VERSION_TOO_OLD",
                message: "A newer version of Chandlery wrote this entry: upgrade orchestrator-svc.".to_owned(),
            });
        }
        let fixed = |text: &String| text.replace(WORKING_FOLDER, &folder.to_string_lossy());
        let variable = |(name, value): (&String, &String)| (name.clone(), fixed(value));
        let fixed_environment: BTreeMap<_, _> = server.environment.iter().map(variable).collect();
        let mut plan = Self {
            command: server.command.clone(),
            arguments: server.arguments.iter().map(fixed).collect(),
            fixed_arguments: server.arguments.len(),
            environment: fixed_environment.clone(),
            fixed_environment,
            files: Vec::new(),
            secrets: secrets.values().map(|s| s.expose_secret().to_owned()).collect(),
            transport: transport(server),
            confirm_new_versions: server.confirm_new_versions,
        };
        let fixed = server.files.iter().map(|f| File {
            path: f.path.clone(),
            content: f.content.clone(),
            secret: false,
        });
        plan.files.extend(fixed);
        for field in &revision.install_fields {
            let value = if is_secret(field) {
                secrets.get(&field.key).map(|s| s.expose_secret().to_owned())
            } else {
                let own = match field.source() {
                    InstallFieldSource::Stored => Some(&field.stored_value),
                    _ => installation.values.get(&field.key),
                };
                own.filter(|v| !v.is_empty())
                    .or(Some(&field.default_value))
                    .filter(|v| !v.is_empty())
                    .cloned()
            };
            match value {
                Some(value) => plan.put(field, value, folder)?,
                None if field.required && is_for_server(field) => {
                    let reason = if is_secret(field) {
                        "CREDENTIAL_REQUIRED"
                    } else {
                        "FIELD_REQUIRED"
                    };
                    return Err(Missing {
                        reason,
                        message: format!("A value for {:?} is missing.", title(field)),
                    });
                }
                None => {}
            }
        }
        Ok(plan)
    }

    fn put(&mut self, field: &InstallField, value: String, folder: &Path) -> Result<(), Missing> {
        match &field.target {
            Some(Target::EnvironmentVariable(target)) => {
                self.environment.insert(target.name.clone(), value);
            }
            Some(Target::MountedFile(target)) => {
                if !target.path_environment_variable.is_empty() {
                    let path = folder.join(&target.path).to_string_lossy().into_owned();
                    self.environment.insert(target.path_environment_variable.clone(), path);
                }
                self.files.retain(|f| f.path != target.path);
                self.files.push(File {
                    path: target.path.clone(),
                    content: value,
                    secret: is_secret(field),
                });
            }
            Some(Target::Argument(target)) => {
                if is_secret(field) && !target.expose_in_arguments {
                    let message = format!(
                        "{:?} is a secret and may not go to the arguments, which every process can read.",
                        title(field)
                    );
                    return Err(Missing {
                        reason: "SECRET_IN_ARGUMENTS",
                        message,
                    });
                }
                if target.template.is_empty() {
                    self.arguments.push(value);
                } else {
                    self.arguments
                        .extend(target.template.iter().map(|t| t.replace("{value}", &value)));
                }
            }
            // Sent with each request, by the gateway.
            Some(Target::Header(_)) | None => {}
        }
        Ok(())
    }

    /// Tells plans apart: what is the same needs no restart. The same in every version of the program.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(&self.command);
        add(&self.arguments.len().to_string());
        self.arguments.iter().for_each(|a| add(a));
        for (name, value) in &self.environment {
            add(name);
            add(value);
        }
        add(&self.files.len().to_string());
        for file in &self.files {
            add(&file.path);
            add(&file.content);
        }
        add(&format!("{:?}", self.transport));
        // It decides which versions run.
        if self.confirm_new_versions {
            add("confirm_new_versions");
        }
        hash.finalize().into()
    }
}

fn is_for_server(field: &InstallField) -> bool {
    !matches!(field.target, Some(Target::Header(_)) | None)
}

fn title(field: &InstallField) -> &str {
    if field.title.is_empty() {
        &field.key
    } else {
        &field.title
    }
}

fn transport(server: &SelfHostedServer) -> Transport {
    match &server.transport {
        Some(self_hosted_server::Transport::StreamableHttp(http)) => Transport::StreamableHttp {
            port: u16::try_from(http.port).unwrap_or_default(),
            path: http.path.clone(),
        },
        // Another one has been refused.
        Some(self_hosted_server::Transport::Stdio(_)) | None => Transport::Stdio,
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.arguments.iter_mut().for_each(|a| a.zeroize());
        self.environment.values_mut().for_each(|v| v.zeroize());
        self.files.iter_mut().for_each(|f| f.content.zeroize());
        self.secrets.iter_mut().for_each(|s| s.zeroize());
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        ArgumentTarget, EnvironmentVariableTarget, HeaderTarget, Installation, MountedFileTarget, NoCredential,
        ServerFile, StdioTransport, entry_revision::CredentialModel,
    };
    use pretty_assertions::assert_eq;

    use super::*;

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

    fn desired(fields: Vec<InstallField>, values: &[(&str, &str)]) -> (Installation, EntryRevision) {
        let server = SelfHostedServer {
            command: "serve".to_owned(),
            arguments: vec!["--fixed".to_owned()],
            environment: [("MODE".to_owned(), "fixed".to_owned())].into(),
            files: vec![ServerFile {
                path: "a.txt".to_owned(),
                content: "fixed".to_owned(),
            }],
            transport: Some(self_hosted_server::Transport::Stdio(StdioTransport {})),
            ..SelfHostedServer::default()
        };
        let revision = EntryRevision {
            server: Some(Server::SelfHosted(server)),
            credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
            install_fields: fields,
            ..EntryRevision::default()
        };
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let installation = Installation {
            values,
            ..Installation::default()
        };
        (installation, revision)
    }

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), SecretString::from(*v)))
            .collect()
    }

    #[test]
    fn puts_values_where_the_entry_says() {
        use InstallFieldType::{Boolean, File as FileType, Number, Secret, String as Text};
        let argument = |template: &[&str], expose_in_arguments| {
            Target::Argument(ArgumentTarget {
                template: template.iter().map(|&t| t.to_owned()).collect(),
                expose_in_arguments,
            })
        };
        let file = MountedFileTarget {
            path: "key.pem".to_owned(),
            path_environment_variable: "KEY_FILE".to_owned(),
        };
        let mut stored = field("region", Text, variable("REGION"));
        stored.set_source(InstallFieldSource::Stored);
        stored.stored_value = "eu".to_owned();
        let mut defaulted = field("level", Number, variable("LEVEL"));
        defaulted.default_value = "3".to_owned();
        let fields = vec![
            field("token", Secret, variable("TOKEN")),
            field("key", FileType, Target::MountedFile(file)),
            stored,
            defaulted,
            field("root", Text, argument(&["--root", "{value}"], false)),
            field("flag", Boolean, argument(&[], false)),
            field("pin", Secret, argument(&["--pin={value}"], true)),
            field(
                "tenant",
                Text,
                Target::Header(HeaderTarget {
                    name: "x-tenant".to_owned(),
                }),
            ),
            field("absent", Text, variable("ABSENT")),
        ];
        let (installation, revision) = desired(
            fields,
            &[
                ("root", "/data"),
                ("flag", "true"),
                ("region", "ignored"),
                ("tenant", "t"),
            ],
        );
        let secrets = secrets(&[("token", "t0ken"), ("key", "PEM"), ("pin", "1234")]);
        assert!(wants_secrets(&revision) && !has_stored_secrets(&revision));
        let plan = Plan::new(&installation, &revision, &secrets, Path::new("/folder")).unwrap();
        assert_eq!(plan.arguments, ["--fixed", "--root", "/data", "true", "--pin=1234"]);
        let environment: Vec<_> = plan.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("KEY_FILE", "/folder/key.pem"),
            ("LEVEL", "3"),
            ("MODE", "fixed"),
            ("REGION", "eu"),
            ("TOKEN", "t0ken"),
        ];
        assert_eq!(environment, expected);
        let files: Vec<_> = plan
            .files
            .iter()
            .map(|f| (f.path.as_str(), f.content.as_str(), f.secret))
            .collect();
        assert_eq!(files, [("a.txt", "fixed", false), ("key.pem", "PEM", true)]);
        assert_eq!(plan.secrets.len(), 3);
        assert!(!format!("{plan:?}").contains("t0ken"));
    }

    /// Where it can keep what it stores, which no entry can know otherwise.
    #[test]
    fn an_entry_can_name_the_working_folder() {
        let (installation, mut revision) = desired(
            vec![field("root", InstallFieldType::String, variable("ROOT"))],
            &[("root", "{working_folder}")],
        );
        let Some(Server::SelfHosted(server)) = &mut revision.server else {
            panic!()
        };
        server.arguments = vec!["{working_folder}".to_owned()];
        let store = ("STORE".to_owned(), "{working_folder}/a:{working_folder}/b".to_owned());
        server.environment = [store].into();
        let plan = Plan::new(&installation, &revision, &Secrets::new(), Path::new("/folder")).unwrap();
        assert_eq!(plan.arguments, ["/folder"]);
        let environment: Vec<_> = plan.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        // A person's value is what they entered.
        assert_eq!(
            environment,
            [("ROOT", "{working_folder}"), ("STORE", "/folder/a:/folder/b")]
        );
    }

    #[test]
    fn says_what_is_missing() {
        let mut token = field("token", InstallFieldType::Secret, variable("TOKEN"));
        token.required = true;
        let (installation, revision) = desired(vec![token], &[]);
        let missing = Plan::new(&installation, &revision, &Secrets::new(), Path::new("/")).unwrap_err();
        assert_eq!(missing.reason, "CREDENTIAL_REQUIRED");
        let open = Target::Argument(ArgumentTarget::default());
        let (installation, revision) = desired(vec![field("token", InstallFieldType::Secret, open)], &[]);
        let refused = Plan::new(&installation, &revision, &secrets(&[("token", "x")]), Path::new("/")).unwrap_err();
        assert_eq!(refused.reason, "SECRET_IN_ARGUMENTS");
    }

    #[test]
    fn changes_of_texts_need_no_restart() {
        let (mut installation, mut revision) = desired(
            vec![
                field("a", InstallFieldType::String, variable("A")),
                field("token", InstallFieldType::Secret, variable("TOKEN")),
            ],
            &[("a", "1")],
        );
        let plan = |i: &Installation, r: &EntryRevision, s: &Secrets| {
            Plan::new(i, r, s, Path::new("/")).unwrap().fingerprint()
        };
        let outline = |i: &Installation, r: &EntryRevision| plan(i, r, &placeholders(r));
        let secret = secrets(&[("token", "t0ken")]);
        let before = (
            plan(&installation, &revision, &secret),
            outline(&installation, &revision),
        );
        revision.number = 2;
        revision.version = "2".to_owned();
        revision.install_fields[0].title = "Other".to_owned();
        assert_eq!(
            (
                plan(&installation, &revision, &secret),
                outline(&installation, &revision)
            ),
            before,
            "lesson 27"
        );
        assert_ne!(plan(&installation, &revision, &secrets(&[("token", "x")])), before.0);
        installation.values.insert("a".to_owned(), "2".to_owned());
        assert_ne!(plan(&installation, &revision, &secret), before.0);
        assert_ne!(outline(&installation, &revision), before.1);
    }
}
