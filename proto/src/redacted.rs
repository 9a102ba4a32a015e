//! `Debug` for the messages that hold secrets.

use std::fmt;

use crate::{credential as c, registry as r};

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
