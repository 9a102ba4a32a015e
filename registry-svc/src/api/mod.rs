//! The gRPC services: each method parses, makes one domain call, converts.

pub(crate) mod paging;
pub(crate) mod propagation;
mod status;

use std::{sync::Arc, time::Duration};

use service_kit::{Clock, User, Workload, egress::EgressPolicy, identity, page_token::PageTokens};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    domain::{Caller, Error},
    store::{Db, Tx, users},
};
use propagation::{Propagated, Propagation};

/// What all services of the registry stand on.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) pages: PageTokens,
    pub(crate) egress: EgressPolicy,
    pub(crate) pending_expiry: Duration,
    pub(crate) propagation: Propagation,
}

impl Registry {
    /// The person who calls, as of now; UNAUTHENTICATED if nobody does or they are deactivated.
    pub(crate) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let user = identity::require_user(request)?;
        Ok(self.known(&user).await?)
    }

    /// What the registry knows of a verified user as of now.
    pub(crate) async fn known(&self, user: &User) -> Result<Caller, Error> {
        users::caller(&self.db, user, self.clock.now_micros()).await?.ok_or(Error::UserDeactivated)
    }

    /// Commits, and waits until every connected watcher of what changed has it in force, or two seconds have passed. `reporter`
    /// is the workload whose own report this is: it is not waited for.
    pub(crate) async fn commit(&self, tx: Tx, reporter: Option<Workload>) -> Result<Propagated, Error> {
        let commit = tx.commit().await?;
        Ok(self.propagation.wait(commit, reporter).await)
    }
}

impl Propagated {
    /// An answer that says in its metadata at which revision it is in force, and who lags.
    pub(crate) fn reply<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let metadata = response.metadata_mut();
        metadata.insert("chandlery-revision", self.revision.into());
        if !self.lagging.is_empty()
            && let Ok(lagging) = self.lagging.join(",").parse()
        {
            metadata.insert("chandlery-lagging", lagging);
        }
        response
    }
}

/// The full names of all services, and their routes.
pub(crate) fn routes(_registry: &Arc<Registry>) -> (Vec<&'static str>, Routes) {
    let builder = Routes::builder();
    let names = Vec::new();
    (names, builder.routes())
}
