//! What a spec runs, and what identifies it.

use pretty_assertions::{assert_eq, assert_ne};

use super::*;

/// The value that a server gets in its variable `TOKEN`.
pub(crate) fn token(value: FieldValue) -> Field {
    Field {
        title: "Token".to_owned(),
        value,
        target: FieldTarget::EnvironmentVariable("TOKEN".to_owned()),
    }
}

/// A secret with the key `token`, which is required.
pub(crate) fn required_secret() -> FieldValue {
    FieldValue::Secret {
        key: "token".to_owned(),
        required: true,
    }
}

/// A source of these secrets.
pub(crate) struct Fixed(pub(crate) Secrets);

#[async_trait::async_trait]
impl SecretSource for Fixed {
    async fn draw(&self) -> Result<Secrets, DrawError> {
        Ok(self.0.clone())
    }
}

/// A spec with only a command.
pub(crate) fn spec(command: &str) -> ServerSpec {
    ServerSpec {
        command: command.to_owned(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        files: Vec::new(),
        fields: Vec::new(),
        transport: Transport::Stdio { one_per_session: false },
        confirm_new_versions: false,
        credential_generations: (0, 0),
        revision: 1,
        generation: 1,
        secrets: Arc::new(Fixed(Secrets::new())),
    }
}

fn secrets(pairs: &[(&str, &str)]) -> Secrets {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), SecretString::from(*v)))
        .collect()
}

fn plain(value: &str, target: FieldTarget) -> Field {
    Field {
        title: "A value".to_owned(),
        value: FieldValue::Plain(value.to_owned()),
        target,
    }
}

fn secret(key: &str, required: bool, target: FieldTarget) -> Field {
    Field {
        title: "A secret".to_owned(),
        value: FieldValue::Secret {
            key: key.to_owned(),
            required,
        },
        target,
    }
}

fn variable(name: &str) -> FieldTarget {
    FieldTarget::EnvironmentVariable(name.to_owned())
}

fn environment(launch: &Launch) -> Vec<(&str, &str)> {
    let pairs = launch.environment.iter();
    pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn puts_values_where_they_go() {
    let template = |parts: &[&str]| FieldTarget::Arguments(parts.iter().map(|&p| p.to_owned()).collect());
    let file = FieldTarget::File {
        path: "key.pem".to_owned(),
        path_variable: Some("KEY_FILE".to_owned()),
    };
    let spec = ServerSpec {
        arguments: vec!["--fixed".to_owned()],
        environment: [("MODE".to_owned(), "fixed".to_owned())].into(),
        files: vec![("a.txt".to_owned(), "fixed".to_owned())],
        fields: vec![
            secret("token", true, variable("TOKEN")),
            secret("key", false, file),
            plain("eu", variable("REGION")),
            plain("/data", template(&["--root", "{value}"])),
            plain("true", template(&[])),
            secret("pin", false, template(&["--pin={value}"])),
            secret("absent", false, variable("MODE")),
        ],
        ..spec("serve")
    };
    let secrets = secrets(&[("token", "t0ken"), ("key", "PEM"), ("pin", "1234")]);
    let launch = spec.launch(Path::new("/folder"), &secrets).unwrap();
    assert_eq!(launch.arguments, ["--fixed", "--root", "/data", "true", "--pin=1234"]);
    assert_eq!(launch.fixed_arguments, 1);
    let expected = [
        ("KEY_FILE", "/folder/key.pem"),
        ("MODE", "fixed"),
        ("REGION", "eu"),
        ("TOKEN", "t0ken"),
    ];
    assert_eq!(environment(&launch), expected);
    let files = launch.files.iter();
    let files: Vec<_> = files.map(|f| (f.path.as_str(), f.content.as_str(), f.secret)).collect();
    assert_eq!(files, [("a.txt", "fixed", false), ("key.pem", "PEM", true)]);
    assert_eq!(launch.secrets.len(), 3);
    assert!(!format!("{launch:?}{spec:?}").contains("t0ken"));
}

/// An entry cannot know the folder, in which a server keeps its files.
#[test]
fn an_entry_can_name_the_working_folder() {
    let spec = ServerSpec {
        arguments: vec!["{working_folder}".to_owned()],
        environment: [("STORE".to_owned(), "{working_folder}/a:{working_folder}/b".to_owned())].into(),
        fields: vec![plain("{working_folder}", variable("ROOT"))],
        ..spec("serve")
    };
    let launch = spec.launch(Path::new("/folder"), &Secrets::new()).unwrap();
    assert_eq!(launch.arguments, ["/folder"]);
    // Values that people entered are not changed.
    let expected = [("ROOT", "{working_folder}"), ("STORE", "/folder/a:/folder/b")];
    assert_eq!(environment(&launch), expected);
}

#[test]
fn says_which_secret_is_missing() {
    let spec = ServerSpec {
        fields: vec![secret("token", true, variable("TOKEN"))],
        ..spec("serve")
    };
    let missing = spec.launch(Path::new("/"), &Secrets::new()).unwrap_err();
    assert_eq!(missing.reason, "CREDENTIAL_REQUIRED");
    assert!(missing.message.contains("A secret"), "{}", missing.message);
    assert_eq!(environment(&spec.outline(Path::new("/"))), [("TOKEN", "token")]);
}

#[test]
fn the_digest_is_of_what_decides_what_runs() {
    let spec = ServerSpec {
        fields: vec![plain("1", variable("A")), secret("token", false, variable("TOKEN"))],
        credential_generations: (1, 0),
        ..spec("serve")
    };
    let with = |change: fn(&mut ServerSpec)| {
        let mut changed = spec.clone();
        change(&mut changed);
        changed.digest()
    };
    let before = spec.digest();
    // A change of the encoding restarts every server, so it must be intended.
    assert_eq!(
        before,
        "72d9e4692e97be3d3844cbbe7ce116417272afe6d9d3e50813ef9eb62e64e521"
    );
    assert_eq!(
        with(|s| (s.revision, s.generation) = (2, 5)),
        before,
        "texts and labels restart nothing"
    );
    assert_eq!(with(|s| s.fields[0].title = "Other".to_owned()), before);
    assert_eq!(
        with(|s| s.secrets = Arc::new(Fixed(secrets(&[("token", "x")])))),
        before
    );
    for changed in [
        with(|s| s.command = "other".to_owned()),
        with(|s| s.arguments.push(String::new())),
        with(|s| s.fields[0].value = FieldValue::Plain("2".to_owned())),
        with(|s| s.fields.swap(0, 1)),
        with(|s| {
            s.transport = Transport::StreamableHttp {
                port: 0,
                path: "/mcp".to_owned(),
            }
        }),
        with(|s| s.transport = Transport::Stdio { one_per_session: true }),
        with(|s| s.confirm_new_versions = true),
        with(|s| s.credential_generations = (2, 0)),
    ] {
        assert_ne!(changed, before);
    }
}

#[test]
fn the_fingerprint_is_of_the_secrets_too() {
    let spec = ServerSpec {
        fields: vec![secret("token", false, variable("TOKEN"))],
        ..spec("serve")
    };
    let of = |value| {
        let launch = spec.launch(Path::new("/"), &secrets(&[("token", value)])).unwrap();
        launch.fingerprint()
    };
    assert_eq!(of("a"), of("a"));
    assert_ne!(of("a"), of("b"));
}
