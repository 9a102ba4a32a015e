//! Reports to registry-svc.

use std::time::Duration;

use contracts::registry::{
    ConditionStatus, ReportCleanupRequest, ReportCredentialRequest, report_cleanup_request, report_credential_request,
    report_service_client::ReportServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    convert,
    domain::{
        condition::Condition,
        owner::Owner,
        ports::{Lagging, Registry, ReportError},
    },
};

/// The registry waits two seconds for its watchers. A report that takes far longer is retried.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A client of registry-svc's ReportService.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    client: ReportServiceClient<Channel>,
}

impl Reporter {
    pub(crate) fn new(registry: Channel) -> Self {
        Self {
            client: ReportServiceClient::new(registry),
        }
    }
}

impl Registry for Reporter {
    async fn report(&self, owner: &Owner, report: &Condition) -> Result<Lagging, ReportError> {
        let subject = match owner {
            Owner::Installation(uid) => report_credential_request::Subject::InstallationUid(uid.clone()),
            Owner::Entry(uid) => report_credential_request::Subject::EntryUid(uid.clone()),
        };
        let status = if report.ready {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        let request = ReportCredentialRequest {
            subject: Some(subject),
            status: status.into(),
            reason: report.reason.to_owned(),
            message: report.message.clone(),
            observed_generation: report.observed_generation,
            credential_generation: report.credential_generation,
        };
        let response = timely(self.client.clone().report_credential(request)).await?;
        Ok(convert::lagging(response.metadata()))
    }

    async fn report_cleanup(&self, owner: &Owner) -> Result<(), ReportError> {
        let subject = match owner {
            Owner::Installation(uid) => report_cleanup_request::Subject::InstallationUid(uid.clone()),
            Owner::Entry(uid) => report_cleanup_request::Subject::EntryUid(uid.clone()),
        };
        let request = ReportCleanupRequest {
            subject: Some(subject),
            ..Default::default()
        };
        timely(self.client.clone().report_cleanup(request)).await.map(drop)
    }
}

async fn timely<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, ReportError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) if status.code() == Code::NotFound => Err(ReportError::Unknown),
        Ok(Err(status)) => Err(ReportError::Failed(format!(
            "{:?}: {}",
            status.code(),
            status.message()
        ))),
        Err(_) => Err(ReportError::Failed("it did not answer in time".to_owned())),
    }
}
