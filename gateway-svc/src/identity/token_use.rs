//! When gateway tokens were last used, collected and reported to the registry in batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use contracts::registry::{ReportTokenUseRequest, TokenUse, report_service_client::ReportServiceClient};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The registry keeps uses to the minute.
const INTERVAL: Duration = Duration::from_secs(30);
/// As many as the registry accepts at once.
const BATCH: usize = 1_000;
const SHARDS: usize = 16;

/// Uses that are not reported yet. Lost when the process dies: a last use is a hint.
#[derive(Debug)]
pub(crate) struct TokenUses {
    pending: [Mutex<HashMap<Arc<str>, SystemTime>>; SHARDS],
}

impl Default for TokenUses {
    fn default() -> Self {
        Self {
            pending: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl TokenUses {
    /// `gatewayTokens/{token}` was used.
    pub(super) fn note(&self, name: &Arc<str>, at: SystemTime) {
        let shard = name.as_bytes().last().map_or(0, |byte| usize::from(*byte) % SHARDS);
        let mut pending = self.pending[shard].lock().unwrap_or_else(PoisonError::into_inner);
        match pending.get_mut(name) {
            Some(known) => *known = at,
            None => {
                pending.insert(Arc::clone(name), at);
            }
        }
    }

    fn take(&self) -> Vec<TokenUse> {
        let mut uses = Vec::new();
        for shard in &self.pending {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            uses.extend(taken.into_iter().map(|(name, at)| TokenUse {
                gateway_token: name.to_string(),
                use_time: Some(at.into()),
            }));
        }
        uses
    }

    /// Reports until `stop`, and then once more.
    pub(crate) async fn report(self: Arc<Self>, registry: Channel, stop: CancellationToken) {
        let mut client = ReportServiceClient::new(registry);
        let mut last = false;
        while !last {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => last = true,
            }
            for uses in self.take().chunks(BATCH) {
                let report = client.report_token_use(ReportTokenUseRequest { uses: uses.to_vec() });
                if let Ok(Err(status)) = tokio::time::timeout(Duration::from_secs(5), report).await {
                    tracing::debug!(error = %status.message(), "last uses of gateway tokens were not reported");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_use_of_each() {
        let uses = TokenUses::default();
        let (a, b): (Arc<str>, Arc<str>) = ("gatewayTokens/a".into(), "gatewayTokens/b".into());
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        uses.note(&a, SystemTime::UNIX_EPOCH);
        uses.note(&a, later);
        uses.note(&b, later);
        let mut taken = uses.take();
        taken.sort_by(|x, y| x.gateway_token.cmp(&y.gateway_token));
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].use_time, Some(later.into()));
        assert!(uses.take().is_empty());
    }
}
