//! A log that is followed ends when its reader may no longer read it.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use service_kit::{
    Clock, User,
    identity::{TokenError, token_refused},
};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::{authorize::Authorizer, convert::Parent};
use crate::domain::logs::LogLine;

/// A person who follows a log.
pub(super) struct Reader {
    pub(super) authorizer: Authorizer,
    pub(super) user: Arc<User>,
    /// Whose log it is.
    pub(super) parent: Parent,
    pub(super) clock: Clock,
    /// How often the permission is checked again.
    pub(super) check: Duration,
}

impl Reader {
    /// Fails with the error that a new request of the reader would get.
    async fn authorize(&self) -> Result<(), Status> {
        if self.user.is_expired(self.clock.now()) {
            return Err(token_refused(TokenError::Expired));
        }
        let subject = self.authorizer.subject(&self.user, &self.parent).await?;
        subject.if_own().map(drop)
    }
}

/// The lines, until the reader is no longer authorized. No line is sent while a check is due or in progress, so a reader who was slow gets no
/// lines from after the permission ended.
pub(super) fn while_authorized(
    reader: Reader,
    lines: BoxStream<'static, LogLine>,
) -> impl Stream<Item = Result<LogLine, Status>> + Send {
    let due = Instant::now() + reader.check;
    futures::stream::unfold(Some((reader, lines, due)), |following| async move {
        let (reader, mut lines, mut due) = following?;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    if let Err(status) = reader.authorize().await {
                        return Some((Err(status), None));
                    }
                    due = Instant::now() + reader.check;
                }
                line = lines.next() => return line.map(|line| (Ok(line), Some((reader, lines, due)))),
            }
        }
    })
}
