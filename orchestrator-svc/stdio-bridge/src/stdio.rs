//! The conversation with one stdio server, for many clients.

mod asking;
mod notices;
mod opening;
mod overlong;
mod question;
mod reading;
mod silence;
mod subscribers;
mod subscriptions;
mod tasks;
mod unread;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, ChildStdout},
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

pub(crate) use self::subscriptions::is_subscription;
use self::{
    asking::Asked,
    notices::{Place, Streams},
    question::Question,
    subscribers::Subscribers,
    unread::Unread,
};
use crate::{
    aside::LONG,
    backlog::{self, Backlog},
    envelope::{Members, error, number, one_line},
    event::{Event, Events},
    log::Log,
    metered::metered,
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

/// Longest notification of a server. Copies of each are queued for clients, which may not read them.
const NOTIFICATION_BYTES: usize = 64 << 10;
/// Messages that are queued for a server that does not read its input.
const WRITE_QUEUE: usize = 16;
/// How long a message waits for room in that queue.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The conversation with the server.
pub(crate) struct Session {
    limits: Limits,
    /// It has one client.
    alone: bool,
    /// That client can be asked something: the server was told of it.
    asks: AtomicBool,
    question: Question,
    next_id: AtomicU64,
    /// By the bridge's ids, in the order of arrival.
    pending: Mutex<BTreeMap<u64, Pending>>,
    /// Locked before `pending` and `streams`.
    asked: Mutex<Asked>,
    /// Locked before `pending`.
    streams: Mutex<Streams>,
    /// Of a server with several clients.
    subscribers: Mutex<Subscribers>,
    /// Locked after `pending`.
    unread: Mutex<Unread>,
    backlog: Backlog,
    to_server: Mutex<Option<mpsc::Sender<String>>>,
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
    /// It is answered with notifications, and when these end.
    subscribes: bool,
    /// The id of the task whose result it asks for.
    task: Option<String>,
    /// Its client takes other messages before the answer.
    takes_stream: bool,
    answer: oneshot::Sender<String>,
    /// What precedes the answer.
    messages: backlog::Sender,
}

impl Pending {
    /// Passes the server's answer on, masked.
    fn answer(self, message: &Members<'_>, redactor: &Redactor) {
        let written = |text: &str| {
            let message = Members::parse(text.as_bytes()).expect("written from parsed members");
            message.with("id", &self.id)
        };
        let answer = match refusal::masked(message, self.describes, redactor) {
            Some(masked) => written(&masked),
            None => match self.renamed(message, "result") {
                Some(renamed) => written(&renamed),
                None => message.with("id", &self.id),
            },
        };
        let _ = self.answer.send(answer);
    }
}

/// What a caller waits for.
pub(crate) struct Waiting {
    pub(crate) answer: oneshot::Receiver<String>,
    /// What precedes the answer.
    pub(crate) messages: backlog::Receiver,
    pub(crate) internal_id: u64,
}

impl Session {
    /// Begins to read and write. `alone`: it has one client. The receiver completes when the server closes its standard output; with an error if reading it failed.
    pub(crate) fn start(
        stdin: ChildStdin,
        stdout: ChildStdout,
        limits: Limits,
        alone: bool,
        events: Events,
        log: Arc<Log>,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (to_server, from_clients) = mpsc::channel(WRITE_QUEUE);
        let session = Arc::new(Self {
            limits,
            alone,
            asks: AtomicBool::new(false),
            question: Question::of(&stdin),
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
            asked: Mutex::default(),
            streams: Mutex::new(Streams::new(alone)),
            subscribers: Mutex::default(),
            unread: Mutex::default(),
            backlog: Backlog::default(),
            to_server: Mutex::new(Some(to_server)),
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

    /// Sends a client's request with an id of the bridge.
    pub(crate) async fn request(
        &self,
        client: &str,
        message: &Members<'_>,
        takes_stream: bool,
    ) -> Result<Waiting, (i32, String)> {
        let internal_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let number = internal_id.to_string();
        let id = message.get("id").expect("a request has an id").get().to_owned();
        let describes = refusal::describes(&message.string("method").unwrap_or_default());
        let subscribes = is_subscription(message);
        let task = tasks::awaited(message);
        let (text, progress_token) = with_ids(message, &number);
        let (answer, answer_receiver) = oneshot::channel();
        let (messages, messages_receiver) = self.backlog.queue();
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
                    subscribes,
                    task,
                    takes_stream,
                    answer,
                    messages,
                },
            );
        }
        if !self.deliver(text).await {
            self.pending().remove(&internal_id);
            return Err((BUSY, "The MCP server does not read its input.".to_owned()));
        }
        Ok(Waiting {
            answer: answer_receiver,
            messages: messages_receiver,
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

    /// Notes that the answer to a request has been sent, or that its client has gone. Returns whether it has not been answered.
    pub(crate) fn is_left(&self, internal_id: u64) -> bool {
        let gone = self.pending().contains_key(&internal_id);
        self.closed(Place::Call(internal_id), gone);
        gone
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
        let sender = self.to_server().clone();
        let Some(sender) = sender else { return false };
        matches!(timeout(WRITE_PATIENCE, sender.send(text)).await, Ok(Ok(())))
    }

    /// Whether the server was told of a client, who says the rest itself and answers its requests.
    pub(crate) fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    /// Set when the server has ended, to the message for callers.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Closes the server's standard input, which asks it to end.
    pub(crate) fn close_input(&self) {
        self.question.over();
        self.to_server().take();
    }

    /// Answers all pending requests with an error, and refuses further ones.
    pub(crate) fn end(&self, why: &str) {
        self.close_input();
        let waiting: Vec<Pending> = {
            let mut pending = self.pending();
            self.ended.send_replace(Some(why.to_owned()));
            std::mem::take(&mut *pending).into_values().collect()
        };
        self.forget_asked();
        for pending in waiting {
            let _ = pending.answer.send(error(&pending.id, SERVER_ENDED, why));
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to_server(&self) -> MutexGuard<'_, Option<mpsc::Sender<String>>> {
        self.to_server.lock().unwrap_or_else(PoisonError::into_inner)
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
