//! What a server sends that nobody needs, behind its reply or for a notification: as a rule the end of the body, with which the connection can be used again.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio::{runtime::Handle, time::timeout};

/// A connection is closed whose body does not end within this time and these bytes.
const WITHIN: Duration = Duration::from_secs(1);
const MOST: usize = 16 << 10;

/// Reads the rest, in the background if it is not there yet.
pub(in crate::upstream) fn read<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Send,
{
    if is_read(&mut body).now_or_never().is_none()
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn(async move { timeout(WITHIN, is_read(&mut body)).await.unwrap_or_default() });
    }
}

/// Whether the body has ended.
async fn is_read<B: http_body::Body<Data = Bytes> + Unpin>(body: &mut B) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame
            .ok()
            .and_then(|frame| frame.into_data().ok())
            .map_or(MOST, |data| data.len());
        if read > MOST {
            return false;
        }
    }
    true
}
