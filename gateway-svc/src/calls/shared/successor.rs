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
        let target = match self.successor(&last.session.target).await {
            Some(target) => Some(target),
            None => self.places.target(&place),
        };
        let Some(target) = target else { return };
        let attempt = || async {
            // All may have left while the server could not be reached.
            self.places.target(&place)?;
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

    /// What a call would go to at this moment; `None`: it requires something of its caller, or nothing runs.
    async fn successor(&self, last: &Target) -> Option<Arc<Target>> {
        if !last.is_for_all() {
            return None;
        }
        let running = {
            let snapshot = self.store.load().ok()?;
            snapshot.running(snapshot.installation(last.installation())?)?
        };
        if running.revision.session_each {
            return None;
        }
        let vended = self.vendor.headers(&running, None, None).await.ok()?;
        let headers = vended.headers.clone();
        let target = targets::target(&running, vended.generations, last.revision(), headers, Scope::Shared);
        target.ok().map(Arc::new)
    }
}
