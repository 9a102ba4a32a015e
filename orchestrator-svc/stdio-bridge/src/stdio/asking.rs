//! Requests of the server, for its client: sampling, elicitation, roots, and what later revisions add.

use std::collections::HashMap;

use super::{CANCELLED, METHOD_NOT_FOUND, Session, notices::Place, tasks};
use crate::envelope::{INVALID_REQUEST, Members, error};

/// The most that a client may have to answer at one time. They are kept here, outside of the server's memory limit.
const MOST: usize = 32;
/// A longer one is not asked again.
const ASKED_AGAIN: usize = 64 << 10;

/// What the client was asked and has not answered, by the server's ids as it writes them.
#[derive(Debug, Default)]
pub(super) struct Asked(HashMap<Box<str>, Question>);

#[derive(Debug)]
struct Question {
    place: Place,
    /// The message, unless it is long.
    text: Option<Box<str>>,
}

impl Session {
    /// Processes a request of the server.
    pub(super) fn requested(&self, message: &Members<'_>, method: &str, line: &[u8]) {
        let id = message.get("id").expect("a request has an id").get();
        if method == "ping" {
            return self.reply(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
        }
        if !self.asks() {
            let why = match self.alone {
                true => "The client does not support this method.",
                false => {
                    "The server's only process serves many clients, so none of them can be asked. An admin can give each session a process of its own, by \
                     the process model in the entry of this server."
                }
            };
            return self.reply(error(id, METHOD_NOT_FOUND, why));
        }
        let text = String::from_utf8_lossy(line).into_owned();
        self.relay(id, text);
    }

    /// Asks the client, or refuses.
    fn relay(&self, id: &str, text: String) {
        let mut asked = self.asked();
        if asked.0.contains_key(id) || asked.0.len() >= MOST {
            let why = "The client has not answered a request with this id, or too many others.";
            return self.reply(error(id, INVALID_REQUEST, why));
        }
        let kept = (text.len() <= ASKED_AGAIN).then(|| text.as_str().into());
        let task = Members::parse(text.as_bytes()).and_then(|message| tasks::about(&message));
        let asked_on = match task {
            Some(task) => self.to_awaiting(&task, text),
            None => Err(text),
        };
        match asked_on.map_or_else(|text| self.to_client(text, true), Some) {
            Some(place) => drop(asked.0.insert(id.into(), Question { place, text: kept })),
            None => self.reply(error(
                id,
                METHOD_NOT_FOUND,
                "The client has no stream open on which it can be asked.",
            )),
        }
    }

    /// Passes the client's answer on, once.
    pub(crate) async fn answered_by_client(&self, message: &Members<'_>, text: String) {
        let id = message.get("id").map_or("", |id| id.get());
        if self.asked().0.remove(id).is_some() {
            self.send(text).await;
        }
    }

    /// Passes on that the server withdraws its request.
    pub(super) fn withdraw(&self, message: &Members<'_>, line: &[u8]) {
        let params = message.object("params");
        let id = params
            .and_then(|params| params.get("requestId"))
            .map_or("", |id| id.get());
        let withdrawn = self.asked().0.remove(id);
        if let Some(question) = withdrawn {
            self.at(question.place, String::from_utf8_lossy(line).into_owned());
        }
    }

    /// Processes the end of a stream. What was asked on it, and was not answered, is asked on another: it may be of another call. `gone`: the client
    /// has closed it, and is not asked again.
    pub(super) fn closed(&self, place: Place, gone: bool) {
        let open: Vec<_> = self
            .asked()
            .0
            .extract_if(|_, question| question.place == place)
            .collect();
        for (id, question) in open {
            match question.text.filter(|_| !gone) {
                Some(text) => self.relay(&id, text.into()),
                None => self.reply(error(
                    &id,
                    CANCELLED,
                    "The client has closed the stream on which it was asked.",
                )),
            }
        }
    }

    /// Forgets all requests of a server that has ended.
    pub(super) fn forget_asked(&self) {
        self.asked().0.clear();
    }

    /// Answers the server. Does not wait, since the reader must go on. A server that does not read its input gets no answers.
    fn reply(&self, answer: String) {
        self.others_sent();
        if let Some(sender) = self.to_server().as_ref() {
            let _ = sender.try_send(answer);
        }
    }
}
