//! Bad entries, each with what is said about it.

use contracts::registry as pb;
use pb::{
    AdditionalHeader, ArgumentTarget, CustomHeader, EnvironmentVariableTarget, HeaderTarget, InstallField,
    InstallFieldSource, InstallFieldType, MountedFileTarget, NoCredential, ProcessModel, RemoteServer,
    SelfHostedServer, ServerFile, StaticCredential, StdioTransport, StreamableHttpTransport, additional_header::Source,
    entry::CredentialModel, entry::Server, injection::Kind, install_field::Target, self_hosted_server::Transport,
};
use prost_types::FieldMask;
use service_kit::egress::EgressPolicy;

use super::*;

fn remote(url: &str) -> Option<Server> {
    Some(Server::Remote(RemoteServer {
        url: url.to_owned(),
        ..RemoteServer::default()
    }))
}

pub(super) fn hosted(transport: Option<Transport>) -> Option<Server> {
    Some(Server::SelfHosted(SelfHostedServer {
        command: "server".to_owned(),
        transport,
        ..Default::default()
    }))
}

fn http() -> Option<Transport> {
    Some(Transport::StreamableHttp(StreamableHttpTransport::default()))
}

pub(super) fn entry(server: Option<Server>, install_fields: Vec<InstallField>) -> pb::Entry {
    pb::Entry {
        server,
        install_fields,
        ..Default::default()
    }
}

pub(super) fn field(key: &str, kind: InstallFieldType, target: Option<Target>) -> InstallField {
    InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        target,
        ..Default::default()
    }
}

pub(super) fn env(name: &str) -> Option<Target> {
    Some(Target::EnvironmentVariable(EnvironmentVariableTarget {
        name: name.to_owned(),
    }))
}

pub(super) fn header(name: &str) -> Option<Target> {
    Some(Target::Header(HeaderTarget { name: name.to_owned() }))
}

pub(super) fn file(path: &str) -> Option<Target> {
    Some(Target::MountedFile(MountedFileTarget {
        path: path.to_owned(),
        ..Default::default()
    }))
}

fn additional(name: &str, source: Source) -> AdditionalHeader {
    AdditionalHeader {
        name: name.to_owned(),
        source: Some(source),
    }
}

pub(super) fn credential(field: &str, injection: Option<Kind>) -> Option<CredentialModel> {
    Some(CredentialModel::StaticCredential(StaticCredential {
        field: field.to_owned(),
        injection: injection.map(|kind| pb::Injection { kind: Some(kind) }),
    }))
}

pub(super) fn wrong(entry: pb::Entry) -> Vec<String> {
    match EntrySpec::parse(entry, &EgressPolicy::default()) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(|(field, _)| field.to_owned()).collect(),
    }
}

const URL: &str = "https://mcp.example.com/mcp";

#[test]
fn takes_a_whole_entry_and_makes_defaults_explicit() {
    let mut whole = entry(
        hosted(http()),
        vec![
            field("token", InstallFieldType::Secret, None),
            field("tenant", InstallFieldType::String, None),
            field("level", InstallFieldType::Number, env("LEVEL")),
            field("key", InstallFieldType::File, file("keys/key.pem")),
        ],
    );
    whole.credential_model = credential("token", None);
    whole.additional_headers = vec![
        additional("x-tenant", Source::Field("tenant".into())),
        additional("x-version", Source::Value("2".into())),
    ];
    whole.uid = "forged".to_owned();
    let spec = EntrySpec::parse(whole, &EgressPolicy::default()).unwrap();
    assert_eq!(spec.message().uid, "");
    assert_eq!(spec.message().install_fields[0].source(), InstallFieldSource::Prompted);
    assert!(spec.message().visibility.is_some());
    let Some(Server::SelfHosted(server)) = &spec.message().server else {
        panic!()
    };
    assert_eq!(
        server.transport,
        Some(Transport::StreamableHttp(StreamableHttpTransport {
            port: 0,
            path: "/mcp".into(),
            tenancy: pb::Tenancy::OnePerInstallation.into(),
            session_model: pb::SessionModel::OnePerClient.into()
        }))
    );
    assert!(spec.goes_to_header(spec.field("tenant").unwrap()));
    assert!(!spec.goes_to_header(spec.field("level").unwrap()));
}

#[test]
fn one_process_for_all_is_the_default_of_a_stdio_server() {
    let model_of = |spec: &EntrySpec| match &spec.message().server {
        Some(Server::SelfHosted(server)) => match &server.transport {
            Some(Transport::Stdio(stdio)) => stdio.process_model(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let with = |model: i32| {
        entry(
            hosted(Some(Transport::Stdio(StdioTransport { process_model: model }))),
            vec![],
        )
    };
    let parse = |entry| EntrySpec::parse(entry, &EgressPolicy::default()).unwrap();
    let default = parse(entry(hosted(None), vec![]));
    assert_eq!(model_of(&default), ProcessModel::OneForAll);
    assert_eq!(model_of(&parse(with(0))), ProcessModel::OneForAll);
    let apart = parse(with(ProcessModel::OnePerSession.into()));
    assert_eq!(model_of(&apart), ProcessModel::OnePerSession);
    assert_eq!(wrong(with(99)), ["entry.self_hosted.stdio.process_model"]);
    assert!(!apart.runs_as(&default));
    // An edit of the texts of an entry from before the field existed makes no entry revision.
    let mut before = default.message().clone();
    before.server = with(0).server;
    assert!(default.runs_as(&EntrySpec::from_stored(before)));
}

#[test]
fn names_everything_that_is_wrong_at_once() {
    let mut bad = entry(
        remote("http://169.254.169.254/latest"),
        vec![
            field("ok", InstallFieldType::String, header("x-a")),
            field("a b", InstallFieldType::Unspecified, None),
        ],
    );
    bad.display_name = "x".repeat(121);
    bad.labels.insert("-".to_owned(), "x".to_owned());
    bad.additional_headers = vec![additional("Authorization", Source::Value("x".into()))];
    assert_eq!(
        wrong(bad),
        [
            "entry.display_name",
            "entry.labels[-]",
            "entry.remote.url",
            "entry.install_fields[1].key",
            "entry.install_fields[1].type",
            "entry.install_fields[1].target",
            "entry.additional_headers[0].name",
        ]
    );
}

#[test]
fn refuses_urls() {
    for url in [
        "",
        "x",
        "ftp://a.example/",
        "https://u:p@a.example/",
        "https://a.example/#f",
        "http://localhost/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "https://a.example/a b",
        "http://127.0.0.1:80/",
    ] {
        assert_eq!(wrong(entry(remote(url), vec![])), ["entry.remote.url"], "{url}");
    }
    assert_eq!(wrong(entry(remote(URL), vec![])), Vec::<String>::new());
    assert_eq!(wrong(entry(None, vec![])), ["entry.server"]);
}

#[test]
fn refuses_header_names() {
    for name in [
        "",
        "a b",
        "a\r\nb",
        "Authorization",
        "host",
        "Mcp-Session-Id",
        "X-Forwarded-For",
        "cookie",
    ] {
        let mut bad = entry(remote(URL), vec![]);
        bad.additional_headers = vec![additional(name, Source::Value("v".into()))];
        assert_eq!(wrong(bad), ["entry.additional_headers[0].name"], "{name:?}");
        let bad = entry(remote(URL), vec![field("f", InstallFieldType::String, header(name))]);
        assert_eq!(wrong(bad), ["entry.install_fields[0].header.name"], "{name:?}");
        let mut bad = entry(remote(URL), vec![field("f", InstallFieldType::Secret, None)]);
        bad.credential_model = credential("f", Some(Kind::CustomHeader(CustomHeader { name: name.to_owned() })));
        assert_eq!(
            wrong(bad),
            ["entry.static_credential.injection.custom_header.name"],
            "{name:?}"
        );
    }
}

#[test]
fn refuses_headers_set_twice_in_whatever_case() {
    let mut bad = entry(
        remote(URL),
        vec![
            field("p", InstallFieldType::Secret, None),
            field("f", InstallFieldType::Secret, header("X-Api-Key")),
        ],
    );
    bad.credential_model = credential(
        "p",
        Some(Kind::CustomHeader(CustomHeader {
            name: "x-api-key".to_owned(),
        })),
    );
    bad.additional_headers = vec![additional("X-API-KEY", Source::Value("1".into()))];
    assert_eq!(
        wrong(bad),
        [
            "entry.install_fields[1].header.name",
            "entry.additional_headers[0].name"
        ]
    );
}

#[test]
fn refuses_header_values_with_line_breaks() {
    let mut bad = entry(remote(URL), vec![]);
    bad.additional_headers = vec![additional("x-a", Source::Value("a\r\nx-b: c".into()))];
    assert_eq!(wrong(bad), ["entry.additional_headers[0].value"]);
    let mut bad = entry(remote(URL), vec![field("f", InstallFieldType::String, header("x-a"))]);
    bad.install_fields[0].default_value = "a\nb".to_owned();
    assert_eq!(wrong(bad), ["entry.install_fields[0].default_value"]);
}

#[test]
fn lets_values_go_only_where_the_server_has_such_a_place() {
    let argument = |expose_in_arguments| {
        Some(Target::Argument(ArgumentTarget {
            template: vec![],
            expose_in_arguments,
        }))
    };
    let secret = |target| vec![field("f", InstallFieldType::Secret, target)];
    let at = |server, target| wrong(entry(server, secret(target)));
    assert_eq!(
        at(remote(URL), env("A")),
        ["entry.install_fields[0].environment_variable"]
    );
    assert_eq!(at(remote(URL), file("a")), ["entry.install_fields[0].mounted_file"]);
    assert_eq!(at(remote(URL), argument(true)), ["entry.install_fields[0].argument"]);
    assert_eq!(at(hosted(None), header("x-a")), ["entry.install_fields[0].header"]);
    assert_eq!(
        at(hosted(None), argument(false)),
        ["entry.install_fields[0].argument.expose_in_arguments"]
    );
    for (server, target) in [
        (remote(URL), header("x-a")),
        (hosted(http()), header("x-a")),
        (hosted(None), env("A")),
        (hosted(None), file("a")),
        (hosted(None), argument(true)),
    ] {
        assert_eq!(at(server, target), Vec::<String>::new());
    }
    let mut stdio = entry(hosted(None), secret(None));
    stdio.credential_model = credential("f", None);
    stdio.additional_headers = vec![additional("x-a", Source::Value("1".into()))];
    assert_eq!(
        wrong(stdio),
        ["entry.static_credential.field", "entry.additional_headers"]
    );
}

#[test]
fn refuses_environment_variables_and_files_set_twice() {
    let mut bad = entry(
        hosted(http()),
        vec![
            field("a", InstallFieldType::String, env("A")),
            field("b", InstallFieldType::String, env("A")),
            field("c", InstallFieldType::String, env("PORT")),
            field("d", InstallFieldType::String, env("1X")),
            field("e", InstallFieldType::String, env("FIXED")),
            field("f", InstallFieldType::File, file("x/y")),
            field("a", InstallFieldType::File, file("../y")),
        ],
    );
    if let Some(Server::SelfHosted(server)) = &mut bad.server {
        server.environment.insert("FIXED".to_owned(), "1".to_owned());
        server.files.push(ServerFile {
            path: "x/y".to_owned(),
            content: String::new(),
        });
    }
    assert_eq!(
        wrong(bad),
        [
            "entry.install_fields[1].environment_variable.name",
            "entry.install_fields[2].environment_variable.name",
            "entry.install_fields[3].environment_variable.name",
            "entry.install_fields[4].environment_variable.name",
            "entry.install_fields[5].mounted_file.path",
            "entry.install_fields[6].key",
            "entry.install_fields[6].mounted_file.path",
        ]
    );
}

#[test]
fn checks_a_self_hosted_server() {
    let server = SelfHostedServer {
        command: String::new(),
        arguments: vec!["a\0b".to_owned()],
        environment: [("a-b".to_owned(), String::new())].into(),
        files: vec![ServerFile {
            path: "/etc/passwd".to_owned(),
            content: "x".repeat(65_537),
        }],
        transport: Some(Transport::StreamableHttp(StreamableHttpTransport {
            port: 65_536,
            path: "mcp?x".to_owned(),
            tenancy: 0,
            session_model: 9,
        })),
        confirm_new_versions: false,
    };
    let fields = wrong(entry(Some(Server::SelfHosted(server)), vec![]));
    let expected = [
        "command",
        "arguments[0]",
        "environment[a-b]",
        "files[0].path",
        "files[0].content",
        "streamable_http.port",
        "streamable_http.session_model",
        "streamable_http.path",
    ];
    assert_eq!(fields, expected.map(|field| format!("entry.self_hosted.{field}")));
}

#[test]
fn checks_values_against_types() {
    for (kind, good, bad) in [
        (
            InstallFieldType::Number,
            vec!["1", "-1.5", "1e3"],
            vec!["", "x", "NaN", "0x1", " 1", "01"],
        ),
        (
            InstallFieldType::Boolean,
            vec!["true", "false"],
            vec!["yes", "TRUE", "1"],
        ),
        (InstallFieldType::Select, vec!["a", "b"], vec!["c", "A"]),
        (InstallFieldType::String, vec!["x", "ü"], vec!["\0"]),
    ] {
        let mut field = field("f", kind, None);
        field.options = vec!["a".to_owned(), "b".to_owned()];
        for value in good {
            assert_eq!(check_value(&field, value, false), Ok(()), "{kind:?} {value:?}");
        }
        for value in bad {
            assert!(check_value(&field, value, false).is_err(), "{kind:?} {value:?}");
        }
    }
}

#[test]
fn keeps_values_of_secrets_out_of_the_registry() {
    let mut bad = entry(hosted(None), vec![field("f", InstallFieldType::Secret, env("A"))]);
    bad.install_fields[0].default_value = "s3cret".to_owned();
    assert_eq!(wrong(bad.clone()), ["entry.install_fields[0].default_value"]);
    bad.install_fields[0].default_value = String::new();
    bad.install_fields[0].stored_value = "s3cret".to_owned();
    bad.install_fields[0].source = InstallFieldSource::Stored.into();
    assert_eq!(wrong(bad), ["entry.install_fields[0].stored_value"]);
}

#[test]
fn checks_stored_values_and_options() {
    let mut stored = field("a", InstallFieldType::String, env("A"));
    stored.source = InstallFieldSource::Stored.into();
    stored.required = true;
    let mut select = field("b", InstallFieldType::Select, env("B"));
    select.options = vec!["x".to_owned(), "x".to_owned(), String::new()];
    select.default_value = "y".to_owned();
    let fields = wrong(entry(hosted(None), vec![stored, select]));
    assert_eq!(
        fields,
        [
            "entry.install_fields[0].stored_value",
            "entry.install_fields[1].options[1]",
            "entry.install_fields[1].options[2]",
            "entry.install_fields[1].default_value",
        ]
    );
}

#[test]
fn checks_what_credential_and_additional_headers_refer_to() {
    let mut bad = entry(
        remote(URL),
        vec![
            field("s", InstallFieldType::Secret, header("x-s")),
            field("t", InstallFieldType::String, header("x-t")),
        ],
    );
    bad.additional_headers = vec![
        additional("x-1", Source::Field("s".into())),
        additional("x-2", Source::Field("t".into())),
        additional("x-3", Source::Field("u".into())),
    ];
    for (key, expected) in [("s", 1), ("t", 1), ("u", 1)] {
        bad.credential_model = credential(key, None);
        let fields = wrong(bad.clone());
        assert_eq!(
            fields
                .iter()
                .filter(|field| *field == "entry.static_credential.field")
                .count(),
            expected,
            "{key}"
        );
        let rest: Vec<_> = fields
            .iter()
            .filter(|field| field.starts_with("entry.additional_headers"))
            .collect();
        assert_eq!(
            rest,
            [
                "entry.additional_headers[0].field",
                "entry.additional_headers[1].field",
                "entry.additional_headers[2].field"
            ]
        );
    }
}

#[test]
fn applies_masks_to_oneofs() {
    let mut current = entry(remote(URL), vec![]);
    current.credential_model = credential("f", None);
    current.version = "1".to_owned();
    let change = pb::Entry {
        server: hosted(None),
        credential_model: Some(CredentialModel::NoCredential(NoCredential {})),
        version: "2".to_owned(),
        ..Default::default()
    };
    let apply = |change: &pb::Entry, paths: &[&str]| {
        let mask = FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        };
        apply_mask(&current, change.clone(), Some(&mask))
    };
    let changed = apply(&change, &["self_hosted"]).unwrap();
    assert_eq!((changed.server, changed.version.as_str()), (hosted(None), "1"));
    // Named but not set: cleared if it is the case that is set now.
    assert_eq!(apply(&change, &["remote"]).unwrap().server, None);
    assert_eq!(apply(&change, &["static_credential"]).unwrap().credential_model, None);
    assert_eq!(
        apply(&change, &["no_credential", "version"]).unwrap(),
        pb::Entry {
            server: current.server.clone(),
            ..change.clone()
        }
    );
    assert_eq!(
        apply(&pb::Entry::default(), &["no_credential"])
            .unwrap()
            .credential_model,
        current.credential_model
    );
    let star = FieldMask {
        paths: vec!["*".to_owned()],
    };
    assert_eq!(apply_mask(&current, change.clone(), Some(&star)).unwrap(), change);
    let unset = apply_mask(&current, change.clone(), None).unwrap();
    assert_eq!((&unset.server, unset.version.as_str()), (&change.server, "2"));
    assert_eq!(unset.display_name, current.display_name, "what is not set stays");
    assert!(apply(&change, &["remote.url"]).is_err());
    assert!(apply(&change, &["uid"]).is_err());
}

#[test]
fn knows_the_steps_of_a_life() {
    use pb::EntryLifecycle::{Approved, Deprecated, Draft};
    for (from, to, legal) in [
        (Draft, Approved, true),
        (Deprecated, Approved, true),
        (Approved, Deprecated, true),
        (Draft, Deprecated, false),
        (Approved, Approved, false),
        (Deprecated, Deprecated, false),
    ] {
        assert_eq!(may_become(from, to), legal, "{from:?} {to:?}");
    }
}

#[test]
fn secrets_are_not_sent_by_plain_http() {
    let plain = "http://mcp.example.com/mcp";
    let with = |url, target, model| {
        let mut entry = entry(remote(url), vec![field("key", InstallFieldType::Secret, target)]);
        entry.credential_model = model;
        wrong(entry)
    };
    let primary = || credential("key", None);
    assert_eq!(with(plain, None, primary()), ["entry.remote.url"]);
    assert_eq!(with(plain, header("x-key"), None), ["entry.remote.url"]);
    assert!(with(URL, None, primary()).is_empty());
    assert!(
        wrong(entry(remote(plain), Vec::new())).is_empty(),
        "nothing secret is sent"
    );
}
