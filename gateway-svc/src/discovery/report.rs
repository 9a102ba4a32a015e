//! Tells the registry what was discovered.

use std::time::Duration;

use contracts::registry::{
    ConditionStatus, ReportConditionRequest, ReportToolsRequest, Tool, report_service_client::ReportServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use super::Failure;
use crate::domain::{DiscoveredTool, Installation};

const TIMEOUT: Duration = Duration::from_secs(30);
/// As the contract has it.
const MAX_MESSAGE: usize = 4_000;

/// The registry, as one that takes reports.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    client: ReportServiceClient<Channel>,
}

impl Reports {
    /// Over the gateway's channel to registry-svc.
    pub(crate) fn new(registry: Channel) -> Self {
        Self {
            client: ReportServiceClient::new(registry),
        }
    }

    /// The tools of an installation, and with them `TOOLS_DISCOVERED` TRUE.
    pub(super) async fn tools(&self, installation: &Installation, tools: &[DiscoveredTool]) -> Result<(), Failure> {
        let tool = |tool: &DiscoveredTool| Tool {
            tool: tool.name.clone(),
            definition_hash: String::new(),
            definition_json: tool.definition_json.clone(),
        };
        let request = ReportToolsRequest {
            installation_uid: installation.uid.to_string(),
            observed_generation: installation.generation,
            tools: tools.iter().map(tool).collect(),
        };
        let mut client = self.client.clone();
        match within(client.report_tools(request)).await {
            Ok(_) => Ok(()),
            Err(status) if refused(status.code()) => Err(Failure::Installation {
                reason: "UPSTREAM_INVALID",
                message: format!(
                    "The MCP server of {} defines tools that cannot be kept: {}. It is asked again by itself.",
                    installation.entry,
                    status.message()
                ),
            }),
            Err(status) => Err(unreported(&status)),
        }
    }

    /// `TOOLS_DISCOVERED` FALSE.
    pub(super) async fn failure(
        &self,
        installation: &Installation,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let request = ReportConditionRequest {
            installation_uid: installation.uid.to_string(),
            status: ConditionStatus::False.into(),
            reason: reason.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: installation.generation,
            runtime_endpoint: String::new(),
            credential_generation: 0,
        };
        let mut client = self.client.clone();
        within(client.report_condition(request))
            .await
            .map(|_| ())
            .map_err(|status| unreported(&status))
    }
}

/// Whether it is what the server defines that cannot be taken; too large a report is refused before it is read.
const fn refused(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted)
}

async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

fn unreported(status: &Status) -> Failure {
    Failure::Transient(format!(
        "the registry took no report: {} ({:?})",
        status.message(),
        status.code()
    ))
}
