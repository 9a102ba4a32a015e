//! A server that stops in the middle of a message.

use super::{BAD_ANSWER, Session};
use crate::{envelope::error, scan::Scan};

impl Session {
    /// Answers those who wait for a message of which nothing has come for [`Limits::silence_millis`](crate::Limits). `before`: the requests with
    /// lower ids were sent before the silence before this one, if there was one.
    ///
    /// If it does not say yet whose answer it is, all these requests fail. The server has one output, so it answers nobody before this message
    /// ends; and if it goes on with another message, this one may have been the answer of anybody.
    ///
    /// Returns whether this has told whoever may wait for the message.
    pub(super) async fn silence(&self, message: &Scan, before: Option<u64>) -> bool {
        if !message.is_rpc() {
            return false;
        }
        let seconds = self.limits.silence().as_secs_f32();
        let why = if message.is_closed() {
            "is a line without an end".to_owned()
        } else {
            format!("breaks off, and nothing has followed for {seconds} s")
        };
        if before.is_none() {
            self.log.note(format!("[a message of the server {why}]")).await;
        }
        let mut told = false;
        for id in message.answers() {
            told = true;
            self.fail(id, &format!("its answer {why}"));
        }
        if let Some(before) = before.filter(|_| message.may_answer_any()) {
            let why = format!("it stopped in the middle of a message, and nothing has followed for {seconds} s");
            self.gave_up();
            let waiting: Vec<u64> = self.pending().keys().copied().filter(|id| *id < before).collect();
            for id in waiting {
                self.fail(id, &why);
            }
            told = true;
        }
        told
    }

    /// Answers a request with an error, since the server's answer is not valid. `why` follows a colon.
    pub(super) fn fail(&self, id: u64, why: &str) {
        let pending = self.pending().remove(&id);
        if let Some(pending) = pending {
            let text = format!("The MCP server is at fault: {why}.");
            let _ = pending.answer.send(error(&pending.id, BAD_ANSWER, &text));
            self.answered(id);
        }
    }
}
