//! The reports that the fake registry has accepted.

use contracts::registry::{
    ReportCredentialRequest, ReportDiscoveryRequest, ReportRuntimeRequest, report_cleanup_request,
};

/// Accepted reports, in order.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// About credentials.
    pub credential: Vec<ReportCredentialRequest>,
    /// About runtimes.
    pub runtime: Vec<ReportRuntimeRequest>,
    /// About tools.
    pub discovery: Vec<ReportDiscoveryRequest>,
    /// The subjects of which nothing is left.
    pub cleanup: Vec<report_cleanup_request::Subject>,
}
