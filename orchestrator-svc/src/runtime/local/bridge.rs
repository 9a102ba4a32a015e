//! Starts a bridge process and talks to it.

use std::{io, process::Stdio, time::Duration};

use stdio_bridge::{EndReason, Event, STOP, STOP_NOW, Spec};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};
use zeroize::Zeroizing;

use super::program::Program;
use crate::domain::logs::Logs;

/// How long a bridge may take to clean up, in addition to the time that the limits give it to stop.
const CLEANUP: Duration = Duration::from_secs(15);

/// A running bridge. It ends when this is dropped, or when this process ends.
#[derive(Debug)]
pub(crate) struct Bridge {
    process: Child,
    input: Option<ChildStdin>,
    events: Lines<BufReader<ChildStdout>>,
    longest_stop: Duration,
    ended: bool,
}

impl Bridge {
    /// Starts the bridge, and sends it the spec through its standard input.
    pub(crate) async fn start(program: &Program, spec: &Spec) -> io::Result<Self> {
        let mut process = program
            .command()
            .env_clear()
            .current_dir("/")
            // Ctrl-C signals the process group of the terminal; a bridge must stop only when its input ends.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(mut input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("the bridge has no pipes"));
        };
        let mut order = Zeroizing::new(serde_json::to_vec(spec)?);
        order.push(b'\n');
        input.write_all(&order).await?;
        input.flush().await?;
        let longest_stop = spec.limits.longest_stop();
        Ok(Self {
            process,
            input: Some(input),
            events: BufReader::new(output).lines(),
            longest_stop,
            ended: false,
        })
    }

    /// The next event; the last one is always [`Event::Ended`]. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if self.ended {
                return std::future::pending().await;
            }
            match self.events.next_line().await {
                Ok(Some(line)) => {
                    let Ok(event) = serde_json::from_str(&line) else {
                        continue;
                    };
                    self.ended = matches!(event, Event::Ended { .. });
                    return event;
                }
                _ => return self.lost(),
            }
        }
    }

    /// Waits until the process has ended, after its last event.
    pub(crate) async fn reap(mut self) {
        drop(self.input.take());
        if timeout(CLEANUP, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }

    /// Writes a command to the bridge. Its input stays open, since its end would tell the bridge that the service has ended.
    async fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(line.as_bytes()).await;
        }
    }

    fn lost(&mut self) -> Event {
        self.ended = true;
        let _ = self.process.start_kill();
        let message =
            "Internal error: the bridge of the MCP server ended unexpectedly. The server will be restarted.".to_owned();
        Event::Ended {
            reason: EndReason::BridgeFailed,
            message,
            exit_code: None,
            signal: None,
        }
    }

    /// Stops the server, and waits until no process of it is left. Waits for its calls in progress first, until `hurry`
    /// completes. What the server still writes goes to `logs`. Returns false if the bridge failed: then processes may be left.
    #[must_use]
    pub(crate) async fn stop(mut self, hurry: impl Future<Output = ()>, logs: &Logs) -> bool {
        self.say(STOP).await;
        let patience = self.longest_stop + CLEANUP;
        let ending = async {
            let mut hurry = std::pin::pin!(hurry);
            let mut hurried = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut hurry, if !hurried => {
                        hurried = true;
                        self.say(STOP_NOW).await;
                    }
                    event = self.next() => match event {
                        Event::Log { line, time } => logs.push(&line, time),
                        Event::Ended { reason, .. } => return leaves_nothing(reason),
                        Event::Started { .. } | Event::Ready | Event::ToolsChanged | Event::SessionStarts { .. } => {}
                    },
                }
            }
        };
        let clean = timeout(patience, ending).await.unwrap_or_else(|_| {
            self.lost();
            false
        });
        self.reap().await;
        clean
    }
}

/// Whether no process is left of a server whose bridge ended for this reason. Only a bridge that failed leaves any: each other one kills them
/// before it ends.
pub(crate) fn leaves_nothing(reason: EndReason) -> bool {
    reason != EndReason::BridgeFailed
}
