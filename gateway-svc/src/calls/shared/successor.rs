//! What takes the place of a session whose stream has ended.

use std::sync::Arc;

use super::{hub::Hub, places::Current, receiving::log};
use crate::{
    calls::targets,
    upstream::{Place, Scope, Target},
};

impl Hub {
    /// Opens another session where the server has lost this one, or is another by now.
    pub(super) async fn mend(self: Arc<Self>, place: Place, last: Current) {
        let Some(target) = self.target_now(&place).await else {
            return;
        };
        let attempt = || async {
            // All may have left while the server could not be reached, or with what it was to be spoken to.
            let target = self.target_now(&place).await?;
            Some(self.upstreams.session_after(&last.session, &target).await)
        };
        let mended = async {
            match last.session.is_kept() {
                true => self.upstreams.once_reachable(&target, attempt).await,
                // The server is not asked.
                false => attempt().await,
            }
        };
        match self.stop.run_until_cancelled(mended).await.flatten() {
            Some(Ok(session)) => self.places.renew(session),
            Some(Err(error)) => log(&target, &error),
            None => {}
        }
    }

    /// What the session of a place is spoken to with at this moment, as a call would be, or as the last was where only a call knows; `None`: nobody is to
    /// hear it now, its server is elsewhere, or there is no credential.
    pub(super) async fn target_now(&self, place: &Place) -> Option<Arc<Target>> {
        let last = self.places.target(place)?;
        let clients = self.places.clients(place);
        let may_hear = |client| self.listeners.may_hear(client, place.installation());
        if !clients.iter().any(may_hear) {
            return None;
        }
        let running = {
            let snapshot = self.store.load().ok()?;
            snapshot.running(snapshot.installation(last.installation())?)?
        };
        if running.revision.session_each {
            return None;
        }
        let vended = self.vendor.headers(&running, None, None).await;
        match (vended, last.key().scope()) {
            (Ok(vended), Scope::Shared) => {
                let headers = vended.headers.clone();
                let target = targets::target(&running, vended.generations, last.revision(), headers, Scope::Shared);
                target.ok().map(Arc::new)
            }
            _ if targets::is_elsewhere(&self.store, &last) => None,
            (Ok(vended), _) => Some(Arc::new(last.with_headers(&vended.headers))),
            // The credential is the caller's.
            (Err(_), Scope::Caller { .. }) => Some(last),
            (Err(_), _) => None,
        }
    }
}
