//! What workloads have reported to the fake registry.

use contracts::registry::{
    ReportCredentialRequest, ReportDiscoveryRequest, ReportRuntimeRequest, report_cleanup_request,
};

/// What was accepted, in order.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// About credentials.
    pub credential: Vec<ReportCredentialRequest>,
    /// About runtimes.
    pub runtime: Vec<ReportRuntimeRequest>,
    /// About tools.
    pub discovery: Vec<ReportDiscoveryRequest>,
    /// What nothing is left of.
    pub cleanup: Vec<report_cleanup_request::Subject>,
}
