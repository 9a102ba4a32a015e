//! What the server of an entry is: reached over HTTP, or run by the orchestrator.

use std::collections::BTreeSet;

use contracts::registry as pb;
use pb::{
    ProcessModel, SelfHostedServer, SessionModel, StdioTransport, Tenancy, entry::Server, self_hosted_server::Transport,
};
use service_kit::{egress::EgressPolicy, status::Violations};
use url::Url;

use super::headers;
use crate::domain::text::{is_environment_variable, is_path_below, parse_url};

const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT: usize = 8 << 10;
const MAX_ENVIRONMENT: usize = 128;
const MAX_ENVIRONMENT_VALUE: usize = 8 << 10;
const MAX_FILES: usize = 32;
const MAX_FILE: usize = 64 << 10;

/// Checks the server, and makes defaults explicit.
pub(super) fn check(violations: &mut Violations, entry: &mut pb::Entry, egress: &EgressPolicy) {
    let sends_secrets = headers::send_secrets(entry);
    match &mut entry.server {
        None => violations.add("entry.server", "must be set: remote or self_hosted"),
        Some(Server::Remote(remote)) => {
            check_session_model(violations, "entry.remote.session_model", remote.session_model);
            let check = |url: &Url| {
                if sends_secrets {
                    egress.check_url_for_secrets(url)
                } else {
                    egress.check_url(url)
                }
            };
            if let Err(wrong) = parse_url(&remote.url).and_then(|url| check(&url)) {
                violations.add("entry.remote.url", wrong);
            }
        }
        Some(Server::SelfHosted(server)) => {
            server
                .transport
                .get_or_insert(Transport::Stdio(StdioTransport::default()));
            let mut part = Violations::new();
            check_program(&mut part, server);
            check_environment(&mut part, server);
            check_files(&mut part, server);
            check_transport(&mut part, server);
            violations.extend("entry.self_hosted", part);
        }
    }
}

fn check_program(violations: &mut Violations, server: &SelfHostedServer) {
    let command = &server.command;
    if command.is_empty() || command.len() > 4_096 || command.chars().any(char::is_control) {
        violations.add(
            "command",
            "must name a program, in at most 4,096 bytes without control characters",
        );
    } else if command.trim() != command {
        violations.add(
            "command",
            "must not begin or end with a space; arguments have a list of their own",
        );
    }
    if server.arguments.len() > MAX_ARGUMENTS {
        violations.add("arguments", format!("must have at most {MAX_ARGUMENTS} elements"));
        return;
    }
    for (index, argument) in server.arguments.iter().enumerate() {
        if argument.len() > MAX_ARGUMENT || argument.contains('\0') {
            violations.add(
                format!("arguments[{index}]"),
                format!("must have at most {MAX_ARGUMENT} bytes, without NUL"),
            );
        }
    }
}

fn check_environment(violations: &mut Violations, server: &SelfHostedServer) {
    if server.environment.len() > MAX_ENVIRONMENT {
        violations.add("environment", format!("must have at most {MAX_ENVIRONMENT} elements"));
        return;
    }
    let mut sorted: Vec<_> = server.environment.iter().collect();
    sorted.sort();
    for (name, value) in sorted {
        if !is_environment_variable(name) {
            violations.add(format!("environment[{name}]"), ENVIRONMENT_RULE);
        }
        if value.len() > MAX_ENVIRONMENT_VALUE || value.contains('\0') {
            violations.add(
                format!("environment[{name}]"),
                format!("the value must have at most {MAX_ENVIRONMENT_VALUE} bytes, without NUL"),
            );
        }
    }
}

/// What the name of an environment variable must be, as people read it.
pub(super) const ENVIRONMENT_RULE: &str =
    "must be the name of an environment variable: A-Z, a-z, 0-9 and _, not beginning with a digit, at most 128";

/// What a file's path must be, as people read it.
pub(super) const PATH_RULE: &str =
    "must be a path below the server's working folder: relative, without . and .. parts, at most 255 bytes";

fn check_files(violations: &mut Violations, server: &SelfHostedServer) {
    if server.files.len() > MAX_FILES {
        violations.add("files", format!("must have at most {MAX_FILES} elements"));
    }
    let mut paths = BTreeSet::new();
    for (index, file) in server.files.iter().enumerate() {
        let path = format!("files[{index}].path");
        if !is_path_below(&file.path) {
            violations.add(path, PATH_RULE);
        } else if !paths.insert(&file.path) {
            violations.add(path, format!("{} is a duplicate", file.path));
        }
        if file.content.len() > MAX_FILE {
            violations.add(
                format!("files[{index}].content"),
                format!("must have at most {MAX_FILE} bytes"),
            );
        }
    }
}

fn check_session_model(violations: &mut Violations, field: &str, model: i32) {
    if SessionModel::try_from(model).is_err() {
        violations.add(field, "must be ONE_PER_CLIENT or ONE_FOR_ALL");
    }
}

fn check_transport(violations: &mut Violations, server: &mut SelfHostedServer) {
    let http = match &mut server.transport {
        Some(Transport::StreamableHttp(http)) => http,
        Some(Transport::Stdio(stdio)) => {
            if ProcessModel::try_from(stdio.process_model).is_err() {
                violations.add("stdio.process_model", "must be ONE_FOR_ALL or ONE_PER_SESSION");
            }
            return;
        }
        None => return,
    };
    if http.port > u32::from(u16::MAX) {
        violations.add(
            "streamable_http.port",
            "must be a TCP port: 0 (chosen by the runtime) to 65,535",
        );
    }
    if Tenancy::try_from(http.tenancy).is_err() {
        violations.add("streamable_http.tenancy", "must be ONE_PER_INSTALLATION or SHARED");
    }
    check_session_model(violations, "streamable_http.session_model", http.session_model);
    if http.path.is_empty() {
        "/mcp".clone_into(&mut http.path);
    }
    let valid = http.path.len() <= 1_024
        && http.path.starts_with('/')
        && !http.path.starts_with("//")
        && http
            .path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
    if !valid {
        violations.add(
            "streamable_http.path",
            "must be the path of a URL, beginning with /, without query and fragment",
        );
    }
}
