//! Draws a runtime's secrets.

use std::time::Duration;

use contracts::{
    credential::{ErrorReason, VendRuntimeRequest, vend_service_client::VendServiceClient},
    registry::{EntryRevision, Installation},
};
use registry_model::destination;
use secrecy::SecretString;
use service_kit::status::reason_of;
use tonic::{Code, transport::Channel};

use crate::domain::plan::{Missing, Secrets, wants_secrets};

const PATIENCE: Duration = Duration::from_secs(10);

/// Why there are no secrets.
#[derive(Debug)]
pub(crate) enum VendError {
    /// A person must do something first.
    Missing(Missing),
    /// credential-svc did not answer as it should; later it may.
    Unavailable(tonic::Status),
}

/// The secrets that the server of this installation gets; none are asked for where it gets none. What is vended is for a server made from
/// these two and no other: the request names the digest of what they run, and credential-svc vends for what the owner
/// has agreed to alone.
pub(crate) async fn vend(
    credential: &Channel,
    installation: &Installation,
    revision: &EntryRevision,
) -> Result<Secrets, VendError> {
    if !wants_secrets(revision) {
        return Ok(Secrets::new());
    }
    let request = VendRuntimeRequest {
        installation_uid: installation.uid.clone(),
        destination: destination::of_installation(revision, installation).unwrap_or_default(),
    };
    let mut client = VendServiceClient::new(credential.clone());
    let vended = tokio::time::timeout(PATIENCE, client.vend_runtime(request)).await;
    match vended.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer"))) {
        Ok(response) => {
            let fields = response.into_inner().fields.into_iter();
            Ok(fields.map(|f| (f.key, SecretString::from(f.value))).collect())
        }
        Err(status) if status.code() == Code::FailedPrecondition => {
            let reason = match reason_of(&status, ErrorReason::from_str_name) {
                Some(ErrorReason::CredentialExpired) => "CREDENTIAL_EXPIRED",
                Some(ErrorReason::DestinationChanged) => "DESTINATION_CHANGED",
                _ => "CREDENTIAL_REQUIRED",
            };
            Err(VendError::Missing(Missing {
                reason,
                message: status.message().to_owned(),
            }))
        }
        Err(status) => Err(VendError::Unavailable(status)),
    }
}
