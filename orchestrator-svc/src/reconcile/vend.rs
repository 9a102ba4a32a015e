//! Draws a server's secrets from credential-svc.

use std::{sync::Arc, time::Duration};

use contracts::{
    credential::{ErrorReason, VendRuntimeRequest, vend_service_client::VendServiceClient},
    registry::EntryRevision,
};
use registry_model::install_fields::server_requires_secrets;
use secrecy::SecretString;
use service_kit::status::reason_of;
use tonic::{Code, transport::Channel};

use super::desired::{Desired, Owner};
use crate::domain::spec::{DrawError, Missing, SecretSource, Secrets};

const PATIENCE: Duration = Duration::from_secs(10);

/// The secrets of an installation that runs an entry revision, or of the server that an entry's installations share. The request names the digest of what these two run, and credential-svc vends only
/// for a digest that the owner has agreed to.
pub(super) struct Vended {
    pub(super) credential: Channel,
    pub(super) desired: Arc<Desired>,
    pub(super) revision: Arc<EntryRevision>,
}

#[async_trait::async_trait]
impl SecretSource for Vended {
    async fn draw(&self) -> Result<Secrets, DrawError> {
        // A server without secrets requires no call.
        if !server_requires_secrets(&self.revision.install_fields) {
            return Ok(Secrets::new());
        }
        let uid = self.desired.uid().to_owned();
        let (installation_uid, entry_uid) = match self.desired.owner {
            Owner::Installation(_) => (uid, String::new()),
            Owner::Entry(_) => (String::new(), uid),
        };
        let request = VendRuntimeRequest {
            installation_uid,
            entry_uid,
            destination: self.desired.destination(&self.revision).unwrap_or_default(),
        };
        let mut client = VendServiceClient::new(self.credential.clone());
        let vended = tokio::time::timeout(PATIENCE, client.vend_runtime(request)).await;
        match vended.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer"))) {
            Ok(response) => {
                let fields = response.into_inner().fields.into_iter();
                Ok(fields.map(|f| (f.key, SecretString::from(f.value))).collect())
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                let reason = match reason_of(&status, ErrorReason::from_str_name) {
                    Some(ErrorReason::DestinationChanged) => "DESTINATION_CHANGED",
                    _ => "CREDENTIAL_REQUIRED",
                };
                Err(DrawError::Missing(Missing {
                    reason,
                    message: status.message().to_owned(),
                }))
            }
            Err(status) => Err(DrawError::Unavailable(status.message().to_owned())),
        }
    }
}
