//! Resolves host names to addresses that the egress policy permits.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use service_kit::egress::EgressPolicy;

/// Why a name has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("it has no address: {0}")]
    Nothing(#[source] io::Error),
    // Without the address: nobody must learn what a name resolves to in the operator's network.
    #[error("{0}")]
    Refused(&'static str),
}

/// The system's resolver. What it returns is exactly what is connected to.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) policy: EgressPolicy,
    /// What is told of a name that has a forbidden address.
    pub(super) refusal: &'static str,
}

impl Resolver {
    pub(super) fn new(policy: EgressPolicy) -> Self {
        let refusal = policy.refusal_of_name();
        Self { policy, refusal }
    }

    /// All addresses or none: one that is forbidden among several may be an attack.
    fn permitted(&self, host: &str, found: Vec<SocketAddr>) -> Result<Addrs, ResolveError> {
        if let Some(refused) = found.iter().find(|address| !self.policy.permits(address.ip())) {
            tracing::info!(server.host = host, server.address = %refused.ip(), "an authorization server has an address that is not allowed");
            return Err(ResolveError::Refused(self.refusal));
        }
        Ok(Box::new(found.into_iter()))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            // The connector puts the port in place of 0.
            let found = tokio::net::lookup_host((host, 0)).await;
            let found: Vec<_> = found.map_err(ResolveError::Nothing)?.collect();
            Ok(resolver.permitted(host, found)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forbidden_address_forbids_all() {
        let resolver = Resolver::new(EgressPolicy::default());
        let resolve = |addresses: &[&str]| {
            let found = addresses.iter().map(|address| address.parse().unwrap()).collect();
            resolver
                .permitted("as.example.com", found)
                .map(|addresses| addresses.count())
        };
        assert_eq!(resolve(&["1.1.1.1:0", "[2606:4700::1111]:0"]).unwrap(), 2);
        for private in ["10.1.2.3:0", "[::ffff:169.254.169.254]:0", "[fd00::1]:0"] {
            let error = resolve(&["1.1.1.1:0", private]).unwrap_err().to_string();
            assert!(error.contains("--allow-upstream-cidr"), "{error}");
            assert!(!error.contains("10.1.2.3"), "{error}");
        }
    }
}
