//! What a server writes to its standard output: messages, lines of a log, and answers that cannot be used.

use std::{mem, sync::atomic::Ordering};

use tokio::process::ChildStdout;

use super::{NOTIFICATION_BYTES, Session, overlong::Overlong};
use crate::{
    envelope::{Kind, Members, batch, fault, one_line},
    lines::{Line, Lines, Next},
    scan::Scan,
};

/// Why a message is not valid whose only fault is its line ends.
const SEVERAL_LINES: &str = "is spread over several lines, and a message of this transport is one line";

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

impl Session {
    /// Reads until the server closes its standard output.
    pub(super) async fn read(&self, stdout: ChildStdout) {
        let mut lines = Lines::new(stdout, self.limits.message_bytes);
        // A message of several lines, so far.
        let mut open: Option<Scan> = None;
        // The line that has begun, if it is too long to be kept.
        let mut overlong = Overlong::default();
        // The requests with lower ids were sent before the last silence within the line that has begun.
        let mut before = None;
        loop {
            let is_open = open.is_some();
            let shown = |part: &[u8]| {
                overlong.push(part);
                if let Some(open) = &mut open {
                    open.push(part);
                }
            };
            match lines.next_shown(Some(self.limits.silence()), is_open, shown).await {
                Ok(Some(Next::Line(line))) => {
                    before = None;
                    self.line(line, mem::take(&mut overlong), &mut open).await;
                }
                Ok(Some(Next::Silence)) => {
                    let begun = lines.begun().filter(|line| !line.cut);
                    let begun = begun.map_or(&[][..], |line| &line.bytes);
                    // The line that has begun may be a further one of the message, or begin another.
                    let mut another = overlong.last().clone();
                    another.push(begun);
                    let told = self.silence(&another, before).await;
                    if let Some(mut message) = open.clone() {
                        message.push(begun);
                        self.silence(&message, before).await;
                    }
                    before = Some(self.next_id.load(Ordering::Relaxed));
                    // What comes next may be the rest of the message, or another one on the same line.
                    if told && let Some(broken) = lines.break_off() {
                        self.line(broken, Overlong::default(), &mut open).await;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Processes a line. `overlong` has seen it if it is too long to be kept.
    async fn line(&self, mut line: Line, overlong: Overlong, open: &mut Option<Scan>) {
        one_line(&mut line.bytes);
        // Parsers may ignore it (RFC 8259, section 8.1).
        if !line.cut && line.bytes.starts_with(BYTE_ORDER_MARK) {
            line.bytes.drain(..BYTE_ORDER_MARK.len());
            line.silent_at = line.silent_at.saturating_sub(BYTE_ORDER_MARK.len());
        }
        if line.bytes.trim_ascii().is_empty() {
            return;
        }
        if line.cut {
            return self.overlong(&line, overlong, open).await;
        }
        if self.receive_any(&line.bytes).await {
            return self.abandon(open.take()).await;
        }
        let after = self.receive_first(&line.bytes).await;
        // After a message that broke off, the next ones follow on the same line.
        let silent_at = line.silent_at.saturating_sub(line.bytes.len() - after.len());
        let (broken, next) = after.split_at(silent_at);
        let rest = if broken.is_empty() {
            next
        } else {
            self.receive_first(next).await
        };
        let received = broken.len() + rest.len() < line.bytes.len();
        if received {
            line.bytes = [broken, rest].concat();
        }
        if !line.bytes.trim_ascii().is_empty() {
            let mut scan = Scan::default();
            scan.push(&line.bytes);
            if let Some(open) = open {
                open.push(&line.bytes);
            }
            self.receive_other(&line, scan, open).await;
        }
        if received {
            self.abandon(open.take()).await;
        }
    }

    /// Processes a line of which the beginning is kept. It may have messages before and behind the one that is too long.
    async fn overlong(&self, line: &Line, seen: Overlong, open: &mut Option<Scan>) {
        let received = line.bytes.len() - self.receive_first(&line.bytes).await.len();
        let (closed, last) = seen.behind(received);
        let why = format!(
            "is longer than {} bytes, or on a line that is",
            self.limits.message_bytes
        );
        for scan in closed.filter(Scan::is_rpc) {
            self.drop_answers(&scan, &why).await;
        }
        self.receive_other(line, last, open).await;
    }

    /// Processes the messages that a text begins with, one after the other: threads of a server may write a message and its line end separately.
    /// Returns what follows them.
    async fn receive_first<'a>(&self, mut text: &'a [u8]) -> &'a [u8] {
        loop {
            let mut scan = Scan::default();
            let (message, rest) = text.split_at(scan.push(text));
            if !scan.is_closed() {
                return text;
            }
            let message = message.trim_ascii();
            if !self.receive_any(message).await {
                if !scan.is_rpc() {
                    return text;
                }
                self.count_garbage();
                self.drop_answers(&scan, &fault(message)).await;
            }
            text = rest;
        }
    }

    /// Processes what is a message, or a batch of messages. False: it is neither.
    async fn receive_any(&self, line: &[u8]) -> bool {
        self.receive(line).await || self.receive_batch(line).await
    }

    /// Processes a line that is a message. False: it is not.
    async fn receive(&self, line: &[u8]) -> bool {
        let Some(message) = Members::parse(line) else {
            return false;
        };
        match message.kind() {
            Some(Kind::Response) if message.get("id").is_some_and(|id| id.get() == "null") => {
                self.receive_unread(&message).await;
            }
            Some(Kind::Response) => self.answer(&message, line).await,
            Some(Kind::Request { method }) => self.requested(&message, &method, line),
            Some(Kind::Notification { .. }) if line.len() > NOTIFICATION_BYTES => {
                let text = format!("[a notification of more than {NOTIFICATION_BYTES} bytes was dropped]");
                self.log.note(text).await;
            }
            Some(Kind::Notification { method }) => self.notify(&message, &method, line),
            None => return false,
        }
        true
    }

    /// Processes a line that is a batch of messages, which servers of 2025-03-26 may send. False: it has none.
    async fn receive_batch(&self, line: &[u8]) -> bool {
        let mut any = false;
        for message in batch(line).unwrap_or_default() {
            let message = message.get().as_bytes();
            if self.receive(message).await {
                any = true;
                continue;
            }
            let mut scan = Scan::default();
            scan.push(message);
            if scan.is_rpc() {
                any = true;
                self.drop_answers(&scan, &fault(message)).await;
            }
        }
        any
    }

    /// Processes a line that is not a message. If it is an invalid answer, or the end of one, its request fails at once.
    async fn receive_other(&self, line: &Line, scan: Scan, open: &mut Option<Scan>) {
        self.count_garbage();
        let limit = self.limits.message_bytes;
        if scan.is_closed() && scan.is_rpc() {
            let why = if line.cut {
                format!("is longer than {limit} bytes")
            } else {
                fault(&line.bytes)
            };
            self.abandon(open.take()).await;
            return self.drop_answers(&scan, &why).await;
        }
        // Inside a message of several lines, braces are indented: this begins another.
        let begins = scan.is_open() && (open.is_none() || line.bytes.starts_with(b"{"));
        if begins {
            self.abandon(open.replace(scan)).await;
        }
        match open {
            Some(whole) if whole.is_closed() => {
                let whole = mem::take(whole);
                *open = None;
                if whole.is_rpc() {
                    return self.drop_answers(&whole, SEVERAL_LINES).await;
                }
            }
            // The content of an answer is for its caller, not for the log. With further lines it is of no use, and it may never end.
            Some(part) if part.is_open() && part.is_rpc() => {
                for id in part.answers().filter(|_| !begins) {
                    self.fail(id, &format!("its answer {SEVERAL_LINES}"));
                }
                return;
            }
            Some(part) if part.is_open() => {}
            _ => *open = None,
        }
        if line.cut {
            self.log
                .note(format!("[a line of more than {limit} bytes was dropped]"))
                .await;
        } else {
            self.log.line(&line.bytes).await;
        }
    }

    fn count_garbage(&self) {
        let count = self.garbage.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 1 {
            self.first_garbage.notify_one();
        }
        if count == self.limits.garbage_lines {
            self.too_much_garbage.notify_one();
        }
    }

    /// Handles a message of several lines that has no end.
    async fn abandon(&self, part: Option<Scan>) {
        if let Some(part) = part.filter(|part| part.is_open() && part.is_rpc()) {
            self.drop_answers(&part, "breaks off").await;
        }
    }

    /// Answers requests with an error, since the server's answer to them is not valid.
    async fn drop_answers(&self, scan: &Scan, why: &str) {
        let (what, answer) = match scan.is_batch() {
            true => ("batch", "its answer is in a batch that"),
            false => ("message", "its answer"),
        };
        let length = scan.length();
        let note = format!("[a {what} of {length} bytes was dropped: it {why}]");
        self.log.note(note).await;
        for id in scan.answers() {
            self.fail(id, &format!("{answer} {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::Stdio,
        sync::{Arc, mpsc},
        time::Duration,
    };

    use futures::FutureExt as _;
    use tokio::process::Command;

    use super::*;
    use crate::{aside::LONG, event::Events, log::Log, redact::Redactor, spec::Limits};

    /// The reader waits for a long answer only if another one is being masked.
    #[tokio::test]
    async fn a_long_list_is_masked_beside_the_reader() {
        let mut server = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdin, stdout) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let redactor = Arc::new(Redactor::new(["s3cr3t-canary"]));
        let (events, _) = Events::to_stdout();
        let log = Log::new(events.clone(), Arc::clone(&redactor), &Limits::default());
        let (session, _) = Session::start(stdin, stdout, Limits::default(), false, events, log);
        let (go_on, wait) = mpsc::channel();
        let busy = redactor
            .aside
            .begin(move || wait.recv_timeout(Duration::from_secs(30)))
            .await;
        let request = Members::parse(br#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#).unwrap();
        let (long, short) = (
            session.request("", &request, false).await,
            session.request("", &request, false).await,
        );
        let (long, short) = (
            long.unwrap_or_else(|_| unreachable!()),
            short.unwrap_or_else(|_| unreachable!()),
        );
        let answer =
            |id: &str, text: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{text}{}"}}"#, "x".repeat(LONG));
        let said = answer(&long.internal_id.to_string(), "s3cr3t-canary");
        let mut reader = Box::pin(session.receive(said.as_bytes()));
        assert!((&mut reader).now_or_never().is_none());
        let said = format!(r#"{{"jsonrpc":"2.0","id":{},"result":1}}"#, short.internal_id);
        assert_eq!(session.receive(said.as_bytes()).now_or_never(), Some(true));
        go_on.send(()).unwrap();
        assert!(reader.await);
        assert!(long.answer.await.unwrap() == answer("7", "[redacted]"));
        busy.await.unwrap().unwrap();
    }
}
