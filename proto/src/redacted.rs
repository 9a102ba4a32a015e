//! `Debug` for the messages that hold secrets.

use std::fmt;

use crate::{credential as c, registry as r};

impl fmt::Debug for c::Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("audiences", &self.audiences)
            .field("expire_time", &self.expire_time)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for c::FinishAuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state is of use to nobody else, but names a sign-in.
        f.debug_struct("FinishAuthorizationRequest")
            .field("redirect_uri", &self.redirect_uri)
            .field("issuer", &self.issuer)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for c::SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretValue")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for c::VendedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendedHeader")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for c::VendedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendedField")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for r::CreateGatewayTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateGatewayTokenResponse")
            .field("gateway_token", &self.gateway_token)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for r::WatchedGatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedGatewayToken")
            .field("gateway_token", &self.gateway_token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_codes_do_not_print() {
        let caller = c::Caller {
            subject: "alice".to_owned(),
            token: "s3cret".to_owned(),
            ..c::Caller::default()
        };
        let request = c::VendHeadersRequest {
            caller: Some(caller),
            ..c::VendHeadersRequest::default()
        };
        let finish = c::FinishAuthorizationRequest {
            code: "s3cret".to_owned(),
            ..c::FinishAuthorizationRequest::default()
        };
        let printed = format!("{request:?} {finish:?}");
        assert!(printed.contains("alice") && !printed.contains("s3cret"), "{printed}");
    }
}
