//! The search for secrets: everything that Chandlery answers is kept, and with what it writes and starts, searched for what must be nowhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use contracts::{credential as c, gateway as g, orchestrator as o, registry as r};
use data_encoding::{BASE64, HEXLOWER};
use prost::Message;
use serde_json::json;
use tonic::{Response, Status};

use crate::{
    Caller, Stack,
    mcp::{McpOptions, Reply},
    tls::install_crypto,
};

/// How much of the encoding of a secret is looked for: what surrounds it changes the end.
const PREFIX: usize = 40;

/// The request, and the bytes of its response.
type Answer = (String, Vec<u8>);

/// All responses, each with the name of its request.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    /// Keeps what was answered to a request.
    ///
    /// # Panics
    /// Never.
    pub fn keep(&self, what: &str, bytes: Vec<u8>) {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .push((what.to_owned(), bytes));
    }

    /// Keeps a response or status with its metadata.
    pub fn grpc<T: Message>(&self, what: &str, answer: Result<Response<T>, Status>) {
        match answer {
            Ok(response) => {
                self.keep(what, format!("{:?}", response.metadata()).into_bytes());
                self.keep(what, response.into_inner().encode_to_vec());
            }
            Err(status) => {
                self.keep(what, format!("{status:?}").into_bytes());
                self.keep(what, status.details().to_vec());
            }
        }
    }

    /// Keeps a response with its headers.
    pub fn http(&self, what: &str, reply: &Reply) {
        self.keep(what, format!("{:?}\n{}", reply.headers, reply.text).into_bytes());
    }
}

/// Looks for secrets.
#[derive(Debug)]
pub struct Search {
    /// Each secret in plain and in the encodings in which it could leak, with its name.
    forms: Vec<(String, String)>,
    leaks: BTreeSet<String>,
}

impl Search {
    /// Looks for these.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let forms = secrets.into_iter().flat_map(|secret| {
            let encoded = BASE64.encode(secret.as_bytes());
            let encoded = encoded.trim_end_matches('=');
            [
                (secret.to_owned(), secret.to_owned()),
                (
                    format!("{secret} in base64"),
                    encoded[..encoded.len().min(PREFIX)].to_owned(),
                ),
                (format!("{secret} in hex"), HEXLOWER.encode(secret.as_bytes())),
            ]
        });
        Self {
            forms: forms.collect(),
            leaks: BTreeSet::new(),
        }
    }

    /// Looks at bytes.
    pub fn look(&mut self, place: &str, bytes: &[u8]) {
        // Secrets are ASCII, which this leaves as it is.
        let text = String::from_utf8_lossy(bytes);
        for (secret, form) in &self.forms {
            if text.contains(form) {
                self.leaks.insert(format!("{secret}: {place}"));
            }
        }
    }

    /// Looks at all answers.
    ///
    /// # Panics
    /// Never.
    pub fn answers(&mut self, answers: &Answers) {
        for (what, bytes) in answers.0.lock().expect("no holder of this lock panics").iter() {
            self.look(&format!("the answer to {what}"), bytes);
        }
    }

    /// Looks at the log of a stack that runs with `RUST_LOG=trace`.
    ///
    /// # Panics
    /// If it does not.
    pub fn log(&mut self, stack: &Stack) {
        let lines = stack.lines().all();
        let verbose = lines.iter().any(|line| line.contains("TRACE"));
        assert!(verbose, "the log is at its most verbose");
        // All of it at once, since it is long.
        let log = lines.join("\n");
        for (secret, form) in &self.forms {
            if log.contains(form) {
                let line = lines.iter().find(|line| line.contains(form));
                let shown: String = line.into_iter().flat_map(|line| line.chars().take(300)).collect();
                self.leaks.insert(format!("{secret}: the log: {shown}"));
            }
        }
    }

    /// Looks at the whole data folder: the registry's database, the encrypted store and other files. `except` says which file has what it
    /// should have.
    ///
    /// # Panics
    /// If there is no database.
    pub fn data(&mut self, stack: &Stack, except: impl Fn(&[u8]) -> bool) {
        let mut paths = Vec::new();
        files(&stack.data_dir(), &mut paths);
        let mut databases = 0;
        for path in &paths {
            let bytes = fs::read(path).unwrap_or_default();
            databases += usize::from(bytes.starts_with(b"SQLite format 3"));
            if !except(&bytes) {
                self.look(&format!("the file {}", path.display()), &bytes);
            }
        }
        assert!(databases > 0, "{paths:?}");
    }

    /// The end.
    ///
    /// # Panics
    /// If anything was found.
    pub fn found_nothing(self) {
        let leaks: Vec<_> = self.leaks.into_iter().collect();
        assert!(leaks.is_empty(), "secrets leaked:\n{}", leaks.join("\n"));
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Calls everything that returns a response, for each of these people, about these entries and tools of the gateway `team`.
///
/// # Panics
/// If an HTTP endpoint does not answer.
pub async fn call_everything(answers: &Answers, stack: &Stack, people: &[&Caller], entries: &[&str], tools: &[&str]) {
    for who in people {
        answers.grpc(
            "ListEntries",
            who.entries().list_entries(r::ListEntriesRequest::default()).await,
        );
        for entry in entries {
            let name = format!("entries/{entry}");
            answers.grpc(
                "GetEntry",
                who.entries().get_entry(r::GetEntryRequest { name: name.clone() }).await,
            );
            let request = r::ListEntryRevisionsRequest {
                parent: name.clone(),
                ..Default::default()
            };
            answers.grpc("ListEntryRevisions", who.entries().list_entry_revisions(request).await);
            let request = r::ListEntryToolsRequest {
                parent: name.clone(),
                ..Default::default()
            };
            answers.grpc("ListEntryTools", who.entries().list_entry_tools(request).await);
            let request = c::GetEntryCredentialRequest { entry: name };
            answers.grpc(
                "GetEntryCredential",
                who.credentials().get_entry_credential(request).await,
            );
        }
        let request = r::ListInstallationsRequest {
            page_size: 500,
            ..Default::default()
        };
        let all = who.installations().list_installations(request).await;
        for installation in all
            .as_ref()
            .map(|list| list.get_ref().installations.clone())
            .unwrap_or_default()
        {
            let name = installation.name;
            let request = r::GetInstallationRequest { name: name.clone() };
            answers.grpc("GetInstallation", who.installations().get_installation(request).await);
            let request = c::GetInstallationCredentialRequest {
                installation: name.clone(),
            };
            answers.grpc(
                "GetInstallationCredential",
                who.credentials().get_installation_credential(request).await,
            );
            let request = o::GetRuntimeRequest {
                name: format!("{name}/runtime"),
            };
            answers.grpc("GetRuntime", who.runtimes().get_runtime(request).await);
            let request = o::StreamRuntimeLogsRequest {
                name: format!("{name}/runtime"),
                tail_lines: 1000,
                ..Default::default()
            };
            match who.runtimes().stream_runtime_logs(request).await {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    while let Ok(Some(line)) = stream.message().await {
                        answers.keep("StreamRuntimeLogs", line.line.into_bytes());
                    }
                }
                Err(status) => answers.grpc::<o::Runtime>("StreamRuntimeLogs", Err(status)),
            }
            let request = g::DiscoverToolsRequest { installation: name };
            answers.grpc("DiscoverTools", who.tools().discover_tools(request).await);
        }
        answers.grpc("ListInstallations", all);
        let parent = "gateways/team".to_owned();
        let request = g::ListToolsRequest {
            parent: parent.clone(),
            ..Default::default()
        };
        answers.grpc("ListTools", who.tools().list_tools(request).await);
        for tool in tools {
            let request = g::ExplainResolutionRequest {
                parent: parent.clone(),
                exposed_name: (*tool).to_owned(),
                ..Default::default()
            };
            answers.grpc("ExplainResolution", who.tools().explain_resolution(request).await);
            let request = g::CallToolRequest {
                parent: parent.clone(),
                exposed_name: (*tool).to_owned(),
                arguments_json: "{}".to_owned(),
            };
            answers.grpc("CallTool", who.tools().call_tool(request).await);
        }
        let client = stack
            .mcp_with("team", who, McpOptions::default())
            .await
            .expect("it is accepted");
        answers.http("tools/list", &client.send("tools/list", json!({})).await.1);
    }
    install_crypto();
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client without TLS settings");
    for path in ["/livez", "/readyz", "/metrics", "/", "/mcp/team", "/nothing"]
        .into_iter()
        .map(str::to_owned)
        .chain(entries.iter().map(|entry| format!("/install/{entry}?gateway=team")))
    {
        let answer = http.get(stack.url(&path)).send().await.expect("an answer");
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.unwrap_or_default();
        answers.keep(&format!("GET {path}"), format!("{headers}\n{text}").into_bytes());
    }
}
