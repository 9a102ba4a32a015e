//! The conversation with one stdio server, for many clients.

mod overlong;
mod reading;
mod silence;
mod unread;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, ChildStdout},
    sync::{Notify, broadcast, mpsc, oneshot, watch},
    time::timeout,
};

use self::unread::Unread;
use crate::{
    aside::LONG,
    backlog::{self, Backlog},
    envelope::{Members, error, number, one_line},
    event::{EndReason, Event, Events},
    log::Log,
    metered::metered,
    process::StartError,
    redact::Redactor,
    refusal::{self, BAD_ANSWER},
    spec::Limits,
};

/// JSON-RPC error codes of the bridge's answers, in the range for implementations.
pub(crate) const SERVER_ENDED: i32 = -32000;
pub(crate) const CANCELLED: i32 = -32001;
pub(crate) const BUSY: i32 = -32003;
pub(crate) const TIMEOUT: i32 = -32004;
pub(crate) const NOT_TAKEN: i32 = -32006;
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;

/// The revisions that clients can negotiate, oldest first.
const VERSIONS: [&str; 2] = ["2025-06-18", "2025-11-25"];
/// Longest notification of a server. Copies of each are queued for clients, which may not read them.
const NOTIFICATION_BYTES: usize = 64 << 10;
/// Messages that are queued for a server that does not read its input.
const WRITE_QUEUE: usize = 16;
/// How long a message waits for room in that queue.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The conversation with the server.
pub(crate) struct Session {
    limits: Limits,
    next_id: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    /// Locked after `pending`.
    unread: Mutex<Unread>,
    backlog: Backlog,
    to_server: Mutex<Option<mpsc::Sender<String>>>,
    notifications: broadcast::Sender<String>,
    initialized: OnceLock<String>,
    garbage: AtomicU64,
    first_garbage: Notify,
    too_much_garbage: Notify,
    tools_changed: watch::Sender<()>,
    ended: watch::Sender<Option<String>>,
    log: Arc<Log>,
}

/// A request that the server has not answered.
struct Pending {
    client: String,
    /// As the client wrote it.
    id: String,
    /// As the client wrote it.
    progress_token: Option<String>,
    /// Its result describes the server.
    describes: bool,
    answer: oneshot::Sender<String>,
    progress: backlog::Sender,
}

impl Pending {
    /// Passes the server's answer on, masked.
    fn answer(self, message: &Members<'_>, redactor: &Redactor) {
        let answer = match refusal::masked(message, self.describes, redactor) {
            None => message.with("id", &self.id),
            Some(masked) => Members::parse(masked.as_bytes())
                .expect("written from parsed members")
                .with("id", &self.id),
        };
        let _ = self.answer.send(answer);
    }
}

/// What a caller waits for.
pub(crate) struct Waiting {
    pub(crate) answer: oneshot::Receiver<String>,
    pub(crate) progress: backlog::Receiver,
    pub(crate) internal_id: u64,
}

impl Session {
    /// Begins to read and write. The receiver completes when the server closes its standard output; with an error if reading it failed.
    pub(crate) fn start(
        stdin: ChildStdin,
        stdout: ChildStdout,
        limits: Limits,
        events: Events,
        log: Arc<Log>,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (to_server, from_clients) = mpsc::channel(WRITE_QUEUE);
        let session = Arc::new(Self {
            limits,
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
            unread: Mutex::default(),
            backlog: Backlog::default(),
            to_server: Mutex::new(Some(to_server)),
            notifications: broadcast::channel(256).0,
            initialized: OnceLock::new(),
            garbage: AtomicU64::new(0),
            first_garbage: Notify::new(),
            too_much_garbage: Notify::new(),
            tools_changed: watch::Sender::new(()),
            ended: watch::channel(None).0,
            log,
        });
        let (mut ended, tools_changed) = (session.ended(), session.tools_changed.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = metered(tools_changed, events, |()| Event::ToolsChanged) => {}
                _ = ended.wait_for(Option::is_some) => {}
            }
        });
        tokio::spawn(write(stdin, from_clients));
        let reader = Arc::clone(&session);
        let on_close = reading(async move { reader.read(stdout).await }, Arc::clone(&session.log));
        (session, on_close)
    }

    /// Initializes the server, once for all clients. Without client capabilities: no client could answer for all.
    pub(crate) async fn initialize(&self) -> Result<(), StartError> {
        let latest = VERSIONS[VERSIONS.len() - 1];
        let params = json!({
            "protocolVersion": latest,
            "capabilities": {},
            "clientInfo": {"name": "chandlery", "version": env!("CARGO_PKG_VERSION")},
        });
        let request = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        let message = Members::parse(request.as_bytes()).expect("valid JSON");
        let failed = |reason, text: String| Err(StartError::new(reason, text));
        let answer = async {
            let waiting = self.request("", &message).await.map_err(|_| ())?;
            waiting.answer.await.map_err(|_| ())
        };
        let answer = tokio::select! {
            answer = timeout(self.limits.ready(), answer) => answer,
            () = self.garbage_instead() => {
                let text = "The command writes something else than MCP to standard output. Is it an MCP server with the stdio transport?";
                return failed(EndReason::NotMcp, text.to_owned());
            }
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            // The caller reports how the server ended.
            Ok(Err(())) => std::future::pending().await,
            Err(_) => {
                let seconds = self.limits.ready().as_secs_f32();
                let text = format!("The server did not answer `initialize` within {seconds} s.");
                return failed(EndReason::InitializeTimeout, text);
            }
        };
        let result = Members::parse(answer.as_bytes()).and_then(|m| m.get("result"));
        let valid = result
            .filter(|r| Members::parse(r.get().as_bytes()).is_some_and(|r| r.string("protocolVersion").is_some()));
        let Some(result) = valid else {
            let shown = self.log.redact(answer.as_bytes(), 500);
            return failed(
                EndReason::InitializeFailed,
                format!("The server refused `initialize`: {shown}"),
            );
        };
        let _ = self.initialized.set(result.get().to_owned());
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned())
            .await;
        Ok(())
    }

    /// Returns after too many lines that are not JSON, or after one and the time of [`Limits::garbage`].
    async fn garbage_instead(&self) {
        let some = async {
            self.first_garbage.notified().await;
            tokio::time::sleep(self.limits.garbage()).await;
        };
        tokio::select! {
            () = self.too_much_garbage.notified() => {}
            () = some => {}
        }
    }

    /// The answer to a client's `initialize`: the server's, with a revision that both support.
    pub(crate) fn initialize_result(&self, asked: &str) -> Option<String> {
        let result = Members::parse(self.initialized.get()?.as_bytes())?;
        let server = result.string("protocolVersion")?;
        let known = |version: &str| VERSIONS.iter().rposition(|v| *v == version);
        let latest = VERSIONS.len() - 1;
        // Revisions are dates. A server older than all of `VERSIONS` supports a subset of the oldest.
        let server = VERSIONS.iter().rposition(|v| *v <= server.as_str()).unwrap_or(0);
        let version = VERSIONS[known(asked).unwrap_or(latest).min(server)];
        Some(result.with("protocolVersion", &format!("{version:?}")))
    }

    /// Sends a client's request with an id of the bridge.
    pub(crate) async fn request(&self, client: &str, message: &Members<'_>) -> Result<Waiting, (i32, String)> {
        let internal_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let number = internal_id.to_string();
        let id = message.get("id").expect("a request has an id").get().to_owned();
        let describes = refusal::describes(&message.string("method").unwrap_or_default());
        let (text, progress_token) = with_ids(message, &number);
        let (answer, answer_receiver) = oneshot::channel();
        let (progress, progress_receiver) = self.backlog.queue();
        {
            let mut pending = self.pending();
            if pending.len() >= self.limits.pending_requests {
                pending.retain(|_, p| !p.answer.is_closed());
                self.gave_up();
            }
            if pending.len() >= self.limits.pending_requests {
                return Err((BUSY, "The MCP server has too many unanswered requests.".to_owned()));
            }
            if let Some(why) = self.ended.borrow().clone() {
                return Err((SERVER_ENDED, why));
            }
            let client = client.to_owned();
            pending.insert(
                internal_id,
                Pending {
                    client,
                    id,
                    progress_token,
                    describes,
                    answer,
                    progress,
                },
            );
        }
        if !self.deliver(text).await {
            self.pending().remove(&internal_id);
            return Err((BUSY, "The MCP server does not read its input.".to_owned()));
        }
        Ok(Waiting {
            answer: answer_receiver,
            progress: progress_receiver,
            internal_id,
        })
    }

    /// Forwards a client's `notifications/cancelled`, if it names a request of the same client.
    pub(crate) async fn cancel(&self, client: &str, message: &Members<'_>) {
        let Some(params) = message.object("params") else {
            return;
        };
        let Some(id) = params.get("requestId").map(|id| id.get()) else {
            return;
        };
        let (internal_id, pending) = {
            let mut pending = self.pending();
            let mut matching = pending
                .iter()
                .filter(|(_, p)| p.client == client && p.id == id)
                .map(|(n, _)| *n);
            let (Some(found), None) = (matching.next(), matching.next()) else {
                return;
            };
            drop(matching);
            (found, pending.remove(&found).expect("just found"))
        };
        self.gave_up();
        self.send(message.with("params", &params.with("requestId", &internal_id.to_string())))
            .await;
        let _ = pending
            .answer
            .send(error(&pending.id, CANCELLED, "The request was cancelled."));
    }

    /// Whether a request has not been answered.
    pub(crate) fn is_waiting(&self, internal_id: u64) -> bool {
        self.pending().contains_key(&internal_id)
    }

    /// Cancels a request, and no longer waits for its answer.
    pub(crate) async fn give_up(&self, internal_id: u64, reason: &str) {
        if self.pending().remove(&internal_id).is_some() {
            self.gave_up();
            let params = json!({"requestId": internal_id, "reason": reason});
            self.send(format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#
            ))
            .await;
        }
    }

    /// Sends a notification. False: the server does not read its input, or has ended.
    pub(crate) async fn send(&self, text: String) -> bool {
        self.others_sent();
        self.deliver(text).await
    }

    async fn deliver(&self, text: String) -> bool {
        let sender = self.to_server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return false };
        matches!(timeout(WRITE_PATIENCE, sender.send(text)).await, Ok(Ok(())))
    }

    /// The notifications for all clients.
    pub(crate) fn notifications(&self) -> broadcast::Receiver<String> {
        self.notifications.subscribe()
    }

    /// Set when the server has ended, to the message for callers.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Closes the server's standard input, which asks it to end.
    pub(crate) fn close_input(&self) {
        self.to_server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Answers all pending requests with an error, and refuses further ones.
    pub(crate) fn end(&self, why: &str) {
        self.close_input();
        let waiting: Vec<Pending> = {
            let mut pending = self.pending();
            self.ended.send_replace(Some(why.to_owned()));
            pending.drain().map(|(_, p)| p).collect()
        };
        for pending in waiting {
            let _ = pending.answer.send(error(&pending.id, SERVER_ENDED, why));
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an answer on, which is this line.
    async fn answer(&self, message: &Members<'_>, line: &[u8]) {
        let id = message.get("id").and_then(|id| number(id.get()));
        let Some((id, pending)) = id.and_then(|id| Some((id, self.pending().remove(&id)?))) else {
            return;
        };
        let redactor = self.log.redactor();
        if line.len() > LONG && refusal::is_shown(message, pending.describes) {
            let (line, beside) = (line.to_vec(), Arc::clone(redactor));
            let answer = move || pending.answer(&Members::parse(&line).expect("it is parsed"), &beside);
            drop(redactor.aside.begin(answer).await);
        } else {
            pending.answer(message, redactor);
        }
        self.answered(id);
    }

    /// Answers a request of the server. The bridge has announced no capabilities, so it answers only `ping`.
    fn refuse(&self, message: &Members<'_>, method: &str) {
        let id = message.get("id").expect("a request has an id").get();
        let answer = if method == "ping" {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
        } else {
            error(id, METHOD_NOT_FOUND, "The client does not support this method.")
        };
        self.others_sent();
        // Does not wait, since the reader must go on. A server that does not read its input gets no answers.
        if let Some(sender) = self.to_server.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = sender.try_send(answer);
        }
    }

    fn notify(&self, message: &Members<'_>, method: &str, line: &[u8]) {
        match method {
            "notifications/progress" => {
                let Some(params) = message.object("params") else {
                    return;
                };
                let id = params.get("progressToken").and_then(|token| number(token.get()));
                let pending = self.pending();
                let Some(pending) = id.and_then(|id| pending.get(&id)) else {
                    return;
                };
                if let Some(token) = &pending.progress_token {
                    let text = message.with("params", &params.with("progressToken", token));
                    pending.progress.offer(text);
                }
            }
            // It names a request of the server, which was answered at once.
            "notifications/cancelled" => {}
            _ => {
                // The list is read after the server is initialized, with all earlier changes.
                if method == "notifications/tools/list_changed" && self.initialized.get().is_some() {
                    self.tools_changed.send_replace(());
                }
                if let Ok(text) = std::str::from_utf8(line) {
                    let _ = self.notifications.send(text.to_owned());
                }
            }
        }
    }
}

/// The request with the bridge's id, also as its progress token if it has one; and the client's token.
fn with_ids(message: &Members<'_>, number: &str) -> (String, Option<String>) {
    let replaced = message.object("params").and_then(|params| {
        let meta = params.object("_meta")?;
        let token = meta.get("progressToken")?.get().to_owned();
        let params = params.with("_meta", &meta.with("progressToken", number));
        Some((message.with("params", &params), token))
    });
    match replaced {
        Some((text, token)) => {
            let text = Members::parse(text.as_bytes())
                .expect("written from parsed members")
                .with("id", number);
            (text, Some(token))
        }
        None => (message.with("id", number), None),
    }
}

/// Reads in a task. The receiver completes with an error if that panics.
fn reading(read: impl Future<Output = ()> + Send + 'static, log: Arc<Log>) -> oneshot::Receiver<()> {
    let (closed, on_close) = oneshot::channel();
    tokio::spawn(async move {
        // What a panic says may quote the server's secrets.
        match tokio::spawn(read).await {
            Ok(()) => {
                let _ = closed.send(());
            }
            Err(_) => {
                drop(closed);
                log.note("[the bridge failed while it read the server's standard output]".to_owned())
                    .await;
            }
        }
    });
    on_close
}

async fn write(mut stdin: ChildStdin, mut messages: mpsc::Receiver<String>) {
    while let Some(message) = messages.recv().await {
        let mut line = message.into_bytes();
        one_line(&mut line);
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() || stdin.flush().await.is_err() {
            // The server has closed its input. Its output is still read.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_panics_is_told_from_output_that_was_closed() {
        let (events, _) = Events::to_stdout();
        let log = Log::new(events, Arc::new(Redactor::new([""; 0])), &Limits::default());
        assert!(reading(async {}, Arc::clone(&log)).await.is_ok());
        assert!(reading(async { panic!("a bug") }, log).await.is_err());
    }

    #[test]
    fn replaces_id_and_progress_token() {
        let json = br#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","_meta":{"progressToken":"t","k":1}}}"#;
        let (text, token) = with_ids(&Members::parse(json).unwrap(), "9");
        assert_eq!(token.as_deref(), Some(r#""t""#));
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":9,"k":1}}}"#
        );
    }
}
