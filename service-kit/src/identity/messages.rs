//! Messages for callers who are refused. Several services send the same.

/// The registry says that the user is deactivated.
pub const USER_DEACTIVATED: &str = "your account is deactivated here; ask an admin";

/// The keys of the token's issuer cannot be fetched.
pub const ISSUER_UNREACHABLE: &str = "the token's issuer is unreachable, so the token cannot be verified; retry";
