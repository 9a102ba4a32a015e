//! Asks real servers.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::{DESTINATION_CHANGED, Failure, ListTools, STOPPING};
use crate::{
    calls,
    domain::{CallerToken, DiscoveredTool, DiscoveredTools, Running},
    upstream::{ListedTool, Revision, Scope, ToolList, UpstreamError, Upstreams, Whose},
    vend::{Refused, VendError, Vendor},
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

    /// With the credential of this installation, or of this caller, and over a session of its own: another caller's session must not be used.
    async fn list(&self, running: &Running, caller: Option<&CallerToken>) -> Result<ToolList, Failure> {
        let name = &running.entry.slug;
        let mut vended = self
            .vendor
            .headers(running, caller, None)
            .await
            .map_err(|error| not_vended(name, &error))?;
        let mut again = running.revision.vends_headers;
        let mut widen = again;
        loop {
            let headers = vended.headers.clone();
            let own = caller.filter(|_| vended.caller.is_some());
            let subject: Option<Arc<str>> = own.map(|caller| caller.user.id.resource_name().into());
            let whose = subject.map(|subject| Whose { subject, headers: None });
            let scope = match whose.clone() {
                Some(Whose { subject, headers }) => Scope::Caller { subject, headers },
                None => Scope::Shared,
            };
            let target =
                calls::target(running, vended.generations, Revision::LATEST, headers, scope).map_err(|error| {
                    Failure::Transient {
                        reason: "UPSTREAM_UNREACHABLE",
                        message: error.to_string(),
                        planned: false,
                    }
                })?;
            match self.upstreams.list_tools(&Arc::new(target.sent_by(whose))).await {
                Ok(list) => return Ok(list),
                Err(UpstreamError::Unauthorized) if again => {
                    again = false;
                    // This reports to credential-svc that the upstream refuses what it vended.
                    let refused = Refused::Credential(vended.generations);
                    vended = match self.vendor.headers(running, caller, Some(refused)).await {
                        Ok(vended) => vended,
                        Err(VendError::Expired) => return Err(unauthorized(running)),
                        Err(error) => return Err(not_vended(name, &error)),
                    };
                }
                Err(UpstreamError::InsufficientScope { scopes }) if widen && !scopes.is_empty() => {
                    widen = false;
                    let refused = Refused::Scopes(vended.generations, &scopes);
                    vended = match self.vendor.headers(running, caller, Some(refused)).await {
                        Ok(vended) => vended,
                        Err(error) => return Err(not_vended(name, &error)),
                    };
                }
                Err(UpstreamError::Unauthorized) => return Err(unauthorized(running)),
                Err(error) => return Err(failed(name, &error)),
            }
        }
    }
}

impl ListTools for Asker {
    fn list_tools(
        &self,
        running: Running,
        caller: Option<Arc<CallerToken>>,
    ) -> BoxFuture<'_, Result<DiscoveredTools, Failure>> {
        async move {
            let list = self.list(&running, caller.as_deref()).await?;
            let left_out = list.left_out.to_string();
            if !left_out.is_empty() {
                tracing::warn!(
                    installation.uid = %running.installation.uid, entry = %running.entry.slug, error = left_out,
                    "a server defines tools that no client is shown"
                );
            }
            let tool = |tool: ListedTool| DiscoveredTool {
                name: tool.name,
                definition_json: tool.definition,
            };
            Ok(DiscoveredTools {
                tools: list.tools.into_iter().map(tool).collect(),
                left_out,
            })
        }
        .boxed()
    }
}

/// The failure of a server other than one to accept the credential.
fn failed(name: &str, error: &UpstreamError) -> Failure {
    match error {
        UpstreamError::NotTaken | UpstreamError::TooManyRequests | UpstreamError::Full | UpstreamError::ShareUsed => {
            Failure::Transient {
                reason: error.reason(),
                message: error.for_owner(name),
                planned: matches!(error, UpstreamError::NotTaken),
            }
        }
        UpstreamError::Cancelled => Failure::of_chandlery(STOPPING),
        // What is reported does not change while the server is away.
        UpstreamError::Away(away) => failed(name, &away.failure()),
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

fn not_vended(name: &str, error: &VendError) -> Failure {
    let reason = match error {
        VendError::Unavailable | VendError::Inconsistent => {
            let what = format!(
                "The tools of {name} cannot be listed: credential-svc did not answer. Try again in a moment. If this happens again, an operator finds the reason in Chandlery's log."
            );
            return Failure::of_chandlery(what);
        }
        VendError::Required => "CREDENTIAL_REQUIRED",
        VendError::Expired | VendError::ServerRefuses => "CREDENTIAL_EXPIRED",
        VendError::DestinationChanged => DESTINATION_CHANGED,
        VendError::ScopesRequired(_) => "SCOPE_REQUIRED",
        VendError::CallerTokenRequired { .. } => "CALLER_TOKEN_REQUIRED",
        VendError::CallerTokenRefused => "CALLER_TOKEN_REFUSED",
        VendError::AuthorizationServerUnavailable | VendError::AuthorizationServerPauses(_) | VendError::Busy => {
            "AUTHORIZATION_SERVER_UNAVAILABLE"
        }
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
        for error in [
            UpstreamError::NotTaken,
            UpstreamError::TooManyRequests,
            UpstreamError::Full,
            UpstreamError::ShareUsed,
        ] {
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

    /// An entry has thousands of installations.
    #[test]
    fn what_an_admin_changes_is_no_failure_of_each_installation() {
        assert!(not_vended("time", &VendError::DestinationChanged).is_expected());
        assert!(failed("time", &UpstreamError::NotTaken).is_expected());
        assert!(!not_vended("time", &VendError::Expired).is_expected());
        assert!(!failed("time", &UpstreamError::Full).is_expected());
    }
}
