//! Errors about a message that the server could not read. They name no request: their id is null (JSON-RPC 2.0, section 5).

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{Pending, Session};
use crate::{
    envelope::{INVALID_REQUEST, Members, PARSE_ERROR},
    refusal,
};

/// Whose such errors may be. One is passed on only when all others that it may be about were answered: a call must not fail for another's.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Errors about some of the requests with ids below `before`.
    errors: usize,
    before: u64,
    /// The last of them, with secrets masked.
    error: String,
    /// Messages were sent that get no answer, or none that is waited for, and an error may be about them. When a request with this id or a higher
    /// one, which was sent after them, is answered, they have been read.
    doubt: Option<u64>,
}

impl Unread {
    fn others_sent(&mut self, next_id: u64) {
        self.doubt = Some(next_id);
    }

    /// A request is no longer waited for: whether an error is about it remains unknown.
    fn gave_up(&mut self, next_id: u64) {
        self.others_sent(next_id);
        self.errors = 0;
    }

    fn answered(&mut self, id: u64) {
        self.doubt.take_if(|doubt| *doubt <= id);
    }

    /// False: it may be about something else than a request that waits.
    fn add(&mut self, error: String, next_id: u64) -> bool {
        if self.doubt.is_some() {
            return false;
        }
        self.errors += 1;
        self.before = next_id;
        self.error = error;
        true
    }

    /// Takes out the requests that the errors are about, once there are no more candidates than errors.
    fn found(&mut self, pending: &mut BTreeMap<u64, Pending>) -> Vec<Pending> {
        let candidates: Vec<u64> = match self.errors {
            0 => return Vec::new(),
            _ => {
                let sent = pending.range(..self.before).filter(|(_, pending)| !pending.subscribes);
                sent.map(|(id, _)| *id).collect()
            }
        };
        if candidates.len() > self.errors {
            return Vec::new();
        }
        self.errors = 0;
        candidates.iter().filter_map(|id| pending.remove(id)).collect()
    }
}

impl Session {
    /// Notes that a message which is not a request is sent.
    pub(super) fn others_sent(&self) {
        self.unread().others_sent(self.next_id.load(Ordering::Relaxed));
    }

    /// Notes that a request is no longer waited for.
    pub(super) fn gave_up(&self) {
        self.unread().gave_up(self.next_id.load(Ordering::Relaxed));
    }

    /// Notes that the server has answered a request, which was taken out.
    pub(super) fn answered(&self, id: u64) {
        self.unread().answered(id);
        self.answer_unread();
    }

    /// Processes an error without an id.
    pub(super) async fn receive_unread(&self, answer: &Members<'_>) {
        // Other errors are about messages that were read. Some servers answer notifications with them.
        let code = answer
            .object("error")
            .and_then(|error| error.get("code")?.get().parse().ok());
        if !matches!(code, Some(PARSE_ERROR | INVALID_REQUEST)) {
            return;
        }
        let masked = refusal::masked(answer, false, self.log.redactor());
        let error = masked.unwrap_or_else(|| answer.with("id", "null"));
        let may_be_found = self.unread().add(error, self.next_id.load(Ordering::Relaxed));
        if may_be_found {
            self.answer_unread();
        }
        self.log
            .note("[the server could not read a message, and does not say which]".to_owned())
            .await;
    }

    fn answer_unread(&self) {
        let (found, error) = {
            let mut pending = self.pending();
            let mut unread = self.unread();
            (unread.found(&mut pending), unread.error.clone())
        };
        for pending in found {
            let error = Members::parse(error.as_bytes()).expect("written from parsed members");
            let _ = pending.answer.send(error.with("id", &pending.id));
        }
    }
}
