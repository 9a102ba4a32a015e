//! What servers with sessions say beside the answers during calls of clients without, which hold no stream open for it: for which of the calls
//! it is.

mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use self::waiting::Waiting;
use crate::upstream::{Asking, Heard, ProgressToken};

const NO_CALL: &str = "no call is under way in the course of which the client can be asked this";
const TOO_MUCH: &str =
    "the client has not answered what it was asked before, and no more can wait for it: ask again when it has";

/// What a server says for one call.
#[derive(Debug)]
pub(super) enum Said {
    Notification(Bytes),
    Request(Asking),
}

/// Nobody is asked. At the end of the process, nobody is told that either.
fn refuse(asking: Asking, why: &'static str) {
    if Handle::try_current().is_ok() {
        asking.refuse(why);
    }
}

/// What is said for one call, until that takes it.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    more: Notify,
    token: Option<ProgressToken>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    /// What its client is being asked, by the id that the server knows it by.
    asked: Option<Bytes>,
    withdrawn: bool,
    /// Whether something was said that is about no other call.
    addressed: bool,
    over: bool,
}

impl Line {
    /// Of a call whose progress the server reports under this token.
    pub(super) fn new(token: Option<ProgressToken>) -> Self {
        Self {
            state: Mutex::default(),
            more: Notify::new(),
            token,
        }
    }

    /// The next. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn next(&self) -> Said {
        loop {
            if let Some(said) = self.state().waiting.pop() {
                return said;
            }
            self.more.notified().await;
        }
    }

    /// Waits until something is said that shows that the server works on this call.
    pub(super) async fn addressed(&self) {
        while !self.state().addressed {
            self.more.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// The client is asked this. Until it answers, the call takes nothing.
    pub(super) fn asks(&self, asking: &Asking) {
        let mut state = self.state();
        (state.asked, state.withdrawn) = (Some(asking.own_id()), false);
    }

    /// The client has answered.
    pub(super) fn answered(&self) {
        self.state().asked = None;
    }

    /// Whether the server has withdrawn what the client was asked last.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state().withdrawn
    }

    /// The call is over.
    fn close(&self) {
        let left = {
            let mut state = self.state();
            state.over = true;
            std::mem::take(&mut state.waiting)
        };
        left.into_requests().for_each(|asking| refuse(asking, NO_CALL));
    }

    fn waits_for_client(&self) -> bool {
        self.state().asked.is_some()
    }

    fn say(&self, said: Said, addressed: bool) {
        let (refused, why) = {
            let mut state = self.state();
            state.addressed |= addressed;
            match said {
                Said::Notification(_) if state.over => return,
                Said::Request(asking) if state.over => (Some(asking), NO_CALL),
                said => (state.waiting.push(said), TOO_MUCH),
            }
        };
        self.more.notify_one();
        if let Some(asking) = refused {
            refuse(asking, why);
        }
    }

    fn withdraw(&self, id: &[u8]) {
        let mut state = self.state();
        state.withdrawn |= state.asked.as_deref() == Some(id);
        state.waiting.withdraw(id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of a client that run in one session, in the order in which they began.
#[derive(Debug)]
pub(super) struct InSession {
    lines: Vec<Arc<Line>>,
    running: watch::Sender<usize>,
    /// Whether the session may be another.
    pub(super) wake: Arc<Notify>,
}

impl Default for InSession {
    fn default() -> Self {
        let wake = Arc::new(Notify::new());
        // It is looked for first.
        wake.notify_one();
        Self {
            lines: Vec::new(),
            running: watch::Sender::new(0),
            wake,
        }
    }
}

impl InSession {
    /// A call begins.
    pub(super) fn begin(&mut self, line: &Arc<Line>) {
        self.lines.push(Arc::clone(line));
        self.running.send_replace(self.lines.len());
    }

    /// A call is over.
    pub(super) fn end(&mut self, line: &Arc<Line>) {
        self.lines.retain(|running| !Arc::ptr_eq(running, line));
        self.running.send_replace(self.lines.len());
        line.close();
    }

    /// How many run.
    pub(super) fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lines.is_empty()
    }

    /// The one that a server means which does not say for which it asks: the last that has begun, of those whose clients are not being asked already.
    fn meant(&self) -> Option<&Arc<Line>> {
        let free = self.lines.iter().rev().find(|line| !line.waits_for_client());
        free.or(self.lines.last())
    }
}

/// Gives the calls what is for them, and returns what is for those who listen. With no calls, what is asked is refused: a client without a session
/// is asked in results only.
pub(super) fn tell(calls: Option<&InSession>, heard: Heard) -> Option<Heard> {
    let meant = calls.and_then(InSession::meant);
    let all = || calls.iter().flat_map(|calls| &calls.lines);
    match heard {
        Heard::Request(asking) => {
            match meant {
                Some(line) => line.say(Said::Request(asking), true),
                None => refuse(asking, NO_CALL),
            }
            None
        }
        Heard::Withdrawn { text, id } => {
            all().for_each(|line| line.withdraw(&text[id.clone()]));
            None
        }
        Heard::Progress(progress) => {
            for line in all() {
                if let Some(message) = line.token.as_ref().and_then(|token| progress.under(token)) {
                    line.say(Said::Notification(message), true);
                }
            }
            None
        }
        Heard::Notification { installation, text } => {
            if let Some(line) = meant {
                line.say(Said::Notification(text.clone()), false);
            }
            Some(Heard::Notification { installation, text })
        }
        heard => Some(heard),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_call_is_known_to_be_worked_on_by_what_is_left_out_too() {
        let line = Line::new(None);
        let mut addressed = pin!(line.addressed());
        assert!(poll!(&mut addressed).is_pending());
        line.say(Said::Notification(vec![b' '; 1 << 20].into()), true);
        assert!(line.is_empty());
        assert!(poll!(addressed).is_ready());
    }
}
