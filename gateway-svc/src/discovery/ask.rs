//! Asks real servers.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::{Failure, ListTools, STOPPING};
use crate::{
    calls,
    domain::{DiscoveredTool, Running},
    upstream::{ListedTool, Revision, Scope, UpstreamError, Upstreams},
    vend::{VendError, Vendor},
};

/// Asks servers over the pooled connections of calls, with the installation's own credential.
#[derive(Debug)]
pub(crate) struct Asker {
    vendor: Arc<Vendor>,
    upstreams: Upstreams,
}

impl Asker {
    /// With what calls use.
    pub(crate) fn new(vendor: Arc<Vendor>, upstreams: Upstreams) -> Self {
        Self { vendor, upstreams }
    }

    /// With the credential of this installation, and over a session of its own: another caller's session must not be used.
    async fn list(&self, running: &Running) -> Result<Vec<ListedTool>, Failure> {
        let name = &running.entry.slug;
        let mut vended = self
            .vendor
            .headers(running, None)
            .await
            .map_err(|error| not_vended(name, error))?;
        let mut again = running.revision.vends_headers;
        loop {
            let headers = vended.headers.clone();
            let target = calls::target(running, vended.generations, Revision::LATEST, headers, Scope::Shared).map_err(
                |error| Failure::Transient {
                    reason: "UPSTREAM_UNREACHABLE",
                    message: error.to_string(),
                    planned: false,
                },
            )?;
            match self.upstreams.list_tools(&Arc::new(target)).await {
                Ok(tools) => return Ok(tools),
                Err(UpstreamError::Unauthorized) if again => {
                    again = false;
                    // This reports to credential-svc that the upstream refuses what it vended.
                    vended = match self.vendor.headers(running, Some(vended.generations)).await {
                        Ok(vended) => vended,
                        Err(VendError::Expired) => return Err(unauthorized(running)),
                        Err(error) => return Err(not_vended(name, error)),
                    };
                }
                Err(UpstreamError::Unauthorized) => return Err(unauthorized(running)),
                Err(error) => return Err(failed(name, &error)),
            }
        }
    }
}

impl ListTools for Asker {
    fn list_tools(&self, running: Running) -> BoxFuture<'_, Result<Vec<DiscoveredTool>, Failure>> {
        async move {
            let tools = self.list(&running).await?;
            Ok(tools
                .into_iter()
                .map(|tool| DiscoveredTool {
                    name: tool.name,
                    definition_json: tool.definition,
                })
                .collect())
        }
        .boxed()
    }
}

/// The failure of a server other than one to accept the credential.
fn failed(name: &str, error: &UpstreamError) -> Failure {
    match error {
        UpstreamError::NotTaken | UpstreamError::Full | UpstreamError::ShareUsed => Failure::Transient {
            reason: error.reason(),
            message: error.for_owner(name),
            planned: matches!(error, UpstreamError::NotTaken),
        },
        UpstreamError::Cancelled => Failure::of_chandlery(STOPPING),
        _ => Failure::Installation {
            reason: error.reason(),
            message: format!("{} It is asked again automatically.", error.for_owner(name)),
        },
    }
}

fn unauthorized(running: &Running) -> Failure {
    let name = &running.entry.slug;
    let message = if running.revision.vends_headers {
        format!("The MCP server of {name} refuses the credential (HTTP 401). Enter one that it accepts.")
    } else {
        UpstreamError::Unauthorized.for_owner(name)
    };
    Failure::Installation {
        reason: "UPSTREAM_UNAUTHORIZED",
        message,
    }
}

fn not_vended(name: &str, error: VendError) -> Failure {
    let reason = match error {
        VendError::Unavailable => {
            let what = format!(
                "The tools of {name} cannot be listed: credential-svc did not answer. Try again in a moment. If this happens again, an operator finds the reason in Chandlery's log."
            );
            return Failure::of_chandlery(what);
        }
        VendError::Required => "CREDENTIAL_REQUIRED",
        VendError::Expired => "CREDENTIAL_EXPIRED",
        VendError::DestinationChanged => "DESTINATION_CHANGED",
    };
    Failure::Installation {
        reason,
        message: format!("The tools of {name} cannot be listed: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_busy_or_stopping_is_not_at_fault() {
        for error in [UpstreamError::NotTaken, UpstreamError::Full, UpstreamError::ShareUsed] {
            let Failure::Transient {
                reason,
                message,
                planned,
            } = failed("time", &error)
            else {
                panic!("{error:?}")
            };
            let stopping = error == UpstreamError::NotTaken;
            let expected = if stopping {
                "UPSTREAM_UNREACHABLE"
            } else {
                "UPSTREAM_BUSY"
            };
            assert_eq!((reason, planned), (expected, stopping), "{error:?}");
            assert_eq!(message, error.for_owner("time"));
        }
        let error = UpstreamError::Invalid("no tools".to_owned());
        assert!(matches!(failed("time", &error), Failure::Installation { .. }));
    }
}
