//! How a conversation begins.

use std::{future::pending, pin::pin, sync::atomic::Ordering};

use tokio::time::{sleep, timeout};

use super::Session;
use crate::{envelope::Members, era::Era, event::EndReason, process::StartError, told::Told};

/// The revisions that clients of one process can negotiate, oldest first.
const VERSIONS: [&str; 2] = ["2025-06-18", "2025-11-25"];

impl Session {
    /// Finds out what the server speaks, and initializes it if that requires it.
    ///
    /// A server of older revisions may not answer the question. It is initialized then, and so is one that takes long to start, which answers the
    /// question first.
    pub(crate) async fn open(&self) -> Result<Era, StartError> {
        let opened = self.find_out().await;
        self.question.over();
        // What was not answered is not waited for.
        self.pending().retain(|_, pending| !pending.answer.is_closed());
        self.gave_up();
        opened
    }

    async fn find_out(&self) -> Result<Era, StartError> {
        let question = Era::question();
        let mut asked = pin!(self.ask("server/discover", &question));
        let patience = self.limits.discover().min(self.limits.ready());
        let early = tokio::select! {
            early = timeout(patience, &mut asked) => early.ok(),
            failed = self.garbage_instead() => return Err(failed),
        };
        match early.as_deref().map(Era::modern) {
            Some(Some(modern)) => Ok(modern),
            Some(None) => self.initialize(&Told::Own).await.map(|()| Era::Legacy),
            None => {
                let late = async {
                    match Era::modern(&asked.await) {
                        Some(modern) => modern,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    modern = late => Ok(modern),
                    initialized = self.agree(&Told::Own) => initialized.map(|()| Era::Legacy),
                }
            }
        }
    }

    /// Whether the server has read the question what it speaks, and not answered. If it has ended, it may not know the question.
    pub(crate) fn is_in_question(&self) -> bool {
        self.question.is_read()
    }

    /// Initializes the server, unless it is told nothing.
    pub(crate) async fn initialize(&self, told: &Told) -> Result<(), StartError> {
        self.question.over();
        self.agree(told).await
    }

    async fn agree(&self, told: &Told) -> Result<(), StartError> {
        let Some(params) = told.params() else {
            return Ok(());
        };
        let failed = |reason, text: String| Err(StartError::new(reason, text));
        self.asks.store(matches!(told, Told::Client(_)), Ordering::Relaxed);
        let answer = tokio::select! {
            answer = timeout(self.limits.ready(), self.ask("initialize", &params)) => answer,
            not_mcp = self.garbage_instead() => return Err(not_mcp),
        };
        let Ok(answer) = answer else {
            let seconds = self.limits.ready().as_secs_f32();
            let text = format!("The server did not answer `initialize` within {seconds} s.");
            return failed(EndReason::InitializeTimeout, text);
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
        // A client says it itself.
        if *told == Told::Own {
            self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned())
                .await;
        }
        Ok(())
    }

    /// The server's answer to a request of the bridge. Never returns if the server ends before: the caller reports how it did.
    async fn ask(&self, method: &str, params: &str) -> String {
        let request = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":{params}}}"#);
        let message = Members::parse(request.as_bytes()).expect("valid JSON");
        let Ok(waiting) = self.request("", &message, false).await else {
            return pending().await;
        };
        match waiting.answer.await {
            Ok(answer) if self.ended.borrow().is_none() => answer,
            _ => pending().await,
        }
    }

    /// Returns after too many lines that are not JSON, or after one and the time of [`Limits::garbage`](crate::Limits).
    async fn garbage_instead(&self) -> StartError {
        let some = async {
            if self.garbage.load(Ordering::Relaxed) == 0 {
                self.first_garbage.notified().await;
            }
            sleep(self.limits.garbage()).await;
        };
        tokio::select! {
            () = self.too_much_garbage.notified() => {}
            () = some => {}
        }
        let text = "The command writes something else than MCP to standard output. Is it an MCP server with the stdio transport?";
        StartError::new(EndReason::NotMcp, text)
    }

    /// The answer to a client's `initialize`: the server's. Where the server was not told of this client, with a revision that both support.
    pub(crate) fn initialize_result(&self, asked: &str) -> Option<String> {
        let result = self.initialized.get()?;
        if self.asks() {
            return Some(result.clone());
        }
        let result = Members::parse(result.as_bytes())?;
        let server = result.string("protocolVersion")?;
        let known = |version: &str| VERSIONS.iter().rposition(|v| *v == version);
        let latest = VERSIONS.len() - 1;
        // Revisions are dates. A server older than all of `VERSIONS` supports a subset of the oldest.
        let server = VERSIONS.iter().rposition(|v| *v <= server.as_str()).unwrap_or(0);
        let version = VERSIONS[known(asked).unwrap_or(latest).min(server)];
        Some(result.with("protocolVersion", &format!("{version:?}")))
    }
}
