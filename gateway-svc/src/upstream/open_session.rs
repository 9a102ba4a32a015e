//! A session that is open, and what it was opened for.

use std::sync::Arc;

use super::{
    client::Era,
    session::Session,
    target::{SessionKey, Target},
};

/// An open session, of one client alone or of clients that share it, and the target it was opened for. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    /// That it was opened for.
    pub(crate) target: Arc<Target>,
    pub(super) session: Arc<Session>,
}

impl OpenSession {
    /// Those that replace each other have the same.
    pub(crate) fn key(&self) -> &SessionKey {
        &self.target.key
    }

    /// Whether its server tells of resources on a stream that is asked for them.
    pub(crate) fn is_modern(&self) -> bool {
        self.session.era == Era::Modern
    }

    /// Whether the server has a session, in which it may speak outside the answers to calls.
    pub(crate) fn is_legacy(&self) -> bool {
        self.session.era == Era::Legacy
    }

    /// Whether its server keeps it under an id, and may lose it.
    pub(crate) fn is_kept(&self) -> bool {
        self.session.id.is_some()
    }

    /// Whether its server is known to have lost it.
    pub(crate) fn is_lost(&self) -> bool {
        self.session.lost.get().is_some()
    }

    /// Its server is not there any more.
    pub(crate) fn lose(&self) {
        let _ = self.session.lost.set(());
    }

    /// Whether what is open in this one goes on where the other has taken its place: at a modern server, which has no sessions, or where it is the
    /// same.
    pub(crate) fn continues_as(&self, other: &Self) -> bool {
        let modern = self.session.era == Era::Modern && other.session.era == Era::Modern;
        modern || Arc::ptr_eq(&self.session, &other.session)
    }

    /// Whether the server may come to list other tools in this session than in others.
    pub(crate) fn may_change_tools(&self) -> bool {
        self.session.era == Era::Legacy && self.session.id.is_some() && self.session.offers.tools_change
    }

    #[cfg(test)]
    pub(crate) fn for_tests(client: &super::Client) -> Self {
        let endpoint = super::Endpoint::hosted("http://127.0.0.1:1/mcp").unwrap();
        let target = super::tests::target_for("a", endpoint, super::Scope::Client(client.clone()));
        Self {
            target: Arc::new(target),
            session: Arc::new(Session::new(None, Arc::new(tokio::sync::Semaphore::new(1)))),
        }
    }
}
