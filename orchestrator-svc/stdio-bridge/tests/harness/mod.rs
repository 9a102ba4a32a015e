//! Starts the bridge as the orchestrator does, and calls it as the gateway does.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by the tests of this folder, none of which uses all of it"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use sandbox::{Confinement, Grant, Layers, Resources};
use serde_json::{Value, json};
use stdio_bridge::{CALLER_HEADER, EndReason, Event, Limits, Spec, Transport};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::UnixStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bridge {
    pub folder: tempfile::TempDir,
    pub process: Child,
    pub input: Option<ChildStdin>,
    pub events: Lines<BufReader<ChildStdout>>,
    pub logs: Vec<String>,
    pub pid: i32,
    socket: PathBuf,
}

pub fn spec(folder: &Path, mode: &str) -> Spec {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/fixture.py");
    let mut environment = BTreeMap::new();
    environment.insert("PATH".to_owned(), std::env::var("PATH").unwrap());
    Spec {
        socket: folder.join("s"),
        lock: folder.join("lock"),
        command: python().0,
        arguments: vec![fixture.to_str().unwrap().to_owned(), mode.to_owned()],
        environment,
        marker: folder.to_str().unwrap().to_owned(),
        working_folder: folder.to_owned(),
        aside: folder.to_owned(),
        confinement: confined(folder),
        files: Vec::new(),
        secrets: Vec::new(),
        transport: Transport::Stdio { one_per_session: false },
        limits: Limits {
            ready_millis: 20_000,
            input_end_millis: 200,
            grace_millis: 500,
            ..Limits::default()
        },
    }
}

/// The mechanisms of the sandbox that work on this machine, tested once.
pub fn layers() -> Layers {
    static LAYERS: OnceLock<Layers> = OnceLock::new();
    let tried = LAYERS.get_or_init(|| {
        let (hidden, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bridge = Path::new(env!("CARGO_BIN_EXE_stdio-bridge"));
        sandbox::probe(bridge, hidden.path(), scratch.path()).unwrap().0
    });
    tried.clone()
}

/// The interpreter, and the folder that it is installed in.
pub fn python() -> (String, PathBuf) {
    static PYTHON: OnceLock<(String, PathBuf)> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let script =
            "import os, sys; print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix))";
        let output = std::process::Command::new("python3")
            .args(["-c", script])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (program, prefix) = text.trim().split_once('\n').unwrap();
        (program.to_owned(), prefix.into())
    });
    found.clone()
}

/// The sandbox that the orchestrator would give a server that runs in `folder`.
pub fn confined(folder: &Path) -> Confinement {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
    Confinement {
        layers: layers(),
        grants: vec![Grant::write(folder), Grant::read(scripts), Grant::read(python().1)],
        temporary_folder: folder.to_owned(),
        hidden: "/hidden".into(),
        connect: Some(vec![53, 443]),
        listen: Some(Vec::new()),
        resources: Resources::default(),
    }
}

impl Bridge {
    /// Starts it and sends it the spec. Does not wait for the server.
    pub async fn start(mode: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), mode);
        change(&mut spec);
        let mut process = Command::new(env!("CARGO_BIN_EXE_stdio-bridge"))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        let mut line = serde_json::to_vec(&spec).unwrap();
        line.push(b'\n');
        input.write_all(&line).await.unwrap();
        let events = BufReader::new(process.stdout.take().unwrap()).lines();
        let socket = folder.path().join("s");
        Self {
            folder,
            process,
            input: Some(input),
            events,
            logs: Vec::new(),
            pid: 0,
            socket,
        }
    }

    /// Starts it and waits until the server can be called.
    pub async fn ready(mode: &str) -> Self {
        Self::ready_with(mode, |_| ()).await
    }

    pub async fn ready_with(mode: &str, change: impl FnOnce(&mut Spec)) -> Self {
        let mut bridge = Self::start(mode, change).await;
        bridge.wait_for(|e| matches!(e, Event::Ready)).await;
        bridge
    }

    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let line = self.events.next_line().await.unwrap().expect("the bridge has ended");
                let event: Event = serde_json::from_str(&line).unwrap();
                match &event {
                    Event::Log { line, .. } => self.logs.push(line.clone()),
                    Event::Started { pid } => self.pid = *pid,
                    _ => {}
                }
                if wanted(&event) {
                    return event;
                }
                assert!(!matches!(event, Event::Ended { .. }), "{event:?}");
            }
        };
        timeout(PATIENCE, wait).await.expect("the event does not come")
    }

    pub async fn wait_for_log(&mut self, text: &str) -> String {
        if let Some(line) = self.logs.iter().find(|l| l.contains(text)) {
            return line.clone();
        }
        match self
            .wait_for(|e| matches!(e, Event::Log { line, .. } if line.contains(text)))
            .await
        {
            Event::Log { line, .. } => line,
            _ => unreachable!(),
        }
    }

    pub async fn ended(&mut self) -> (EndReason, String, Option<i32>) {
        match self.wait_for(|e| matches!(e, Event::Ended { .. })).await {
            Event::Ended {
                reason,
                message,
                exit_code,
                ..
            } => (reason, message, exit_code),
            _ => unreachable!(),
        }
    }

    /// Writes a line to its input, which stays open.
    pub async fn ask(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    /// A client of a caller of its own.
    pub fn client(&self) -> Client {
        static CALLERS: AtomicUsize = AtomicUsize::new(0);
        let caller = CALLERS.fetch_add(1, Ordering::Relaxed);
        self.client_of(Some(&caller.to_string()))
    }

    /// `None`: the gateway itself.
    pub fn client_of(&self, caller: Option<&str>) -> Client {
        Client {
            socket: self.socket.clone(),
            caller: caller.map(str::to_owned),
            session: None,
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many files and connections the bridge has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id().unwrap());
        std::fs::read_dir(folder).unwrap().count()
    }

    pub fn marker(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    /// Processes with this bridge's marker.
    pub fn marked(&self) -> Vec<i32> {
        marked(self.folder.path())
    }

    /// Processes of one session, if each has its own. Sessions are numbered from 1.
    pub fn marked_of(&self, session: usize) -> Vec<i32> {
        marked(Path::new(&format!("{}#{session}", self.marker())))
    }

    pub async fn wait_until_nothing_is_left(&self) {
        eventually(|| self.marked().is_empty()).await;
    }
}

/// Processes of the server that was started for this folder.
pub fn marked(folder: &Path) -> Vec<i32> {
    let wanted = format!("CHANDLERY_RUNTIME={}", folder.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
    })
    .collect()
}

pub async fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A whole answer.
pub async fn read(response: http::Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect())
        .await
        .expect("no answer")
        .unwrap()
        .to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// Server-sent events, as they come.
pub struct Messages {
    body: Incoming,
    came: String,
}

impl Messages {
    fn of(response: http::Response<Incoming>) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (body, came) = (response.into_body(), String::new());
        Self { body, came }
    }

    /// The next message; `None`: the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.came.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let message = data.map(|data| serde_json::from_str(data).unwrap());
                self.came = rest.to_owned();
                if message.is_some() {
                    return message;
                }
                continue;
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("no message")?;
            let data = frame.unwrap().into_data().unwrap();
            self.came.push_str(str::from_utf8(&data).unwrap());
        }
    }
}

#[derive(Clone)]
pub struct Client {
    socket: PathBuf,
    caller: Option<String>,
    pub session: Option<String>,
}

impl Client {
    pub async fn send(&self, method: &str, headers: &[(&str, &str)], body: String) -> http::Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        } else if let Some(caller) = &self.caller {
            request = request.header(CALLER_HEADER, caller);
        }
        for (name, value) in headers {
            request.headers_mut().unwrap().remove(*name);
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        timeout(PATIENCE, sender.send_request(request))
            .await
            .expect("no answer")
            .unwrap()
    }

    pub async fn post(&self, message: &Value) -> (StatusCode, HeaderMap, String) {
        read(self.send("POST", &[], message.to_string()).await).await
    }

    /// The messages that a request is answered with.
    pub async fn stream(&self, message: &Value, headers: &[(&str, &str)]) -> Messages {
        Messages::of(self.send("POST", headers, message.to_string()).await)
    }

    /// The messages that are sent without a request.
    pub async fn listen(&self) -> Messages {
        Messages::of(self.send("GET", &[], String::new()).await)
    }

    pub async fn initialize(&mut self, version: &str) -> Value {
        let params = json!({"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
        let (_, headers, body) = self
            .post(&json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params}))
            .await;
        self.session = Some(headers["mcp-session-id"].to_str().unwrap().to_owned());
        serde_json::from_str(&body).unwrap()
    }

    pub async fn call(&self, id: Value, tool: &str, arguments: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let (_, headers, body) = self.post(&message).await;
        assert_eq!(headers["content-type"], "application/json");
        serde_json::from_str(&body).unwrap()
    }
}
