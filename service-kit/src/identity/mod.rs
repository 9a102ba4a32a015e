//! Identifies callers: people by JWTs of configured OIDC issuers, workloads by their connection.

mod admit;
mod authenticate;
mod issuer;
mod jwks;
mod messages;
mod user;
mod verify;

pub use admit::{Admitted, admit};
pub use authenticate::{Caller, authenticate, require_user, require_workload, token_refused};
pub use issuer::{AdminRules, FacadeRules, IssuerConfig, MachineRules, OidcEndpoints};
pub use messages::{ISSUER_UNREACHABLE, USER_DEACTIVATED};
pub use user::{User, UserId};
pub use verify::{BadProxy, GATEWAY_TOKEN, KNOWN_FOR, TokenError, Use, Verifier, takes_secrets};
