//! Tells the registry what was discovered.

use std::time::Duration;

use contracts::registry::{
    self as pb, DiscoveryFailure, ReportDiscoveryRequest, Tool,
    report_discovery_request::{Outcome, Subject},
    report_service_client::ReportServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use super::Failure;
use crate::domain::{DiscoveredTool, DiscoveredTools, Running};

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
    pub(super) async fn tools(&self, running: &Running, found: &DiscoveredTools) -> Result<(), Failure> {
        let tool = |tool: &DiscoveredTool| Tool {
            tool: tool.name.clone(),
            definition_hash: String::new(),
            definition_json: tool.definition_json.clone(),
        };
        let found = pb::DiscoveredTools {
            tools: found.tools.iter().map(tool).collect(),
            left_out: found.left_out.chars().take(MAX_MESSAGE).collect(),
        };
        match self.send(running, Outcome::Tools(found)).await {
            Err(status) if refused(status.code()) => Err(Failure::Installation {
                reason: "UPSTREAM_INVALID",
                message: format!(
                    "The MCP server of {} defines tools that cannot be stored: {}. It is asked again automatically.",
                    running.entry.slug,
                    status.message()
                ),
            }),
            sent => sent.map_err(|status| unreported(running, &status)),
        }
    }

    /// `TOOLS_DISCOVERED` FALSE.
    pub(super) async fn failure(&self, running: &Running, reason: &str, message: &str) -> Result<(), Failure> {
        let failure = DiscoveryFailure {
            reason: reason.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
        };
        let sent = self.send(running, Outcome::Failure(failure)).await;
        sent.map_err(|status| unreported(running, &status))
    }

    async fn send(&self, running: &Running, outcome: Outcome) -> Result<(), Status> {
        let request = ReportDiscoveryRequest {
            subject: Some(Subject::InstallationUid(running.installation.uid.to_string())),
            observed_generation: running.installation.generation,
            outcome: Some(outcome),
        };
        let mut client = self.client.clone();
        tokio::time::timeout(TIMEOUT, client.report_discovery(request))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))?;
        Ok(())
    }
}

/// Whether it is what the server defines that cannot be taken; too large a report is refused before it is read.
const fn refused(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted)
}

fn unreported(running: &Running, status: &Status) -> Failure {
    tracing::warn!(
        installation.uid = %running.installation.uid, grpc.code = ?status.code(), error = %status.message(),
        "the registry took no report of a discovery"
    );
    Failure::of_chandlery(format!(
        "The registry took no report of the tools of {}. Try again in a moment. If this happens again, an operator finds the reason in Chandlery's log.",
        running.entry.slug
    ))
}
