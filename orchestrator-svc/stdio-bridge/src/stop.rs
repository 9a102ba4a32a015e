//! How the bridge learns that it must stop: from its parent through the pipe, from a signal, or from the end of its parent.

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The line on standard input that asks the bridge to stop. It accepts no more requests, and finishes those under way, as long as the limits
/// allow. The input must stay open until the bridge has ended: its end means that the parent has ended.
pub const STOP: &str = "stop\n";
/// The line that asks it to stop without waiting for requests under way. It may follow [`STOP`].
pub const STOP_NOW: &str = "stop now\n";

/// How urgently the bridge must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It need not.
    No,
    /// Once the requests under way are finished.
    Drained,
    /// At once. The server has the time to end that the limits allow.
    Now,
    /// At once, since the parent has ended. The server has a second to end.
    Abandoned,
}

/// Follows the urgency, which only grows. SIGTERM has the effect of [`STOP`]. The signals of a terminal are for the parent, and have none.
///
/// # Errors
/// If signals cannot be listened for.
pub(crate) fn follow(input: impl AsyncBufRead + Unpin + Send + 'static) -> std::io::Result<watch::Receiver<Stop>> {
    let (sender, receiver) = watch::channel(Stop::No);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    tokio::spawn(async move {
        let mut lines = input.lines();
        let ask = |stop: Stop| {
            sender.send_if_modified(|asked| {
                let grows = stop > *asked;
                *asked = stop.max(*asked);
                grows
            });
        };
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) if line == STOP.trim_end() => ask(Stop::Drained),
                    Ok(Some(line)) if line == STOP_NOW.trim_end() => ask(Stop::Now),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                Some(()) = terminate.recv() => ask(Stop::Drained),
            }
        }
        ask(Stop::Abandoned);
        for signal in &mut ignored {
            signal.recv().await;
        }
    });
    Ok(receiver)
}

/// Waits until the bridge must stop at least that urgently.
pub(crate) async fn asked(stop: &mut watch::Receiver<Stop>, urgency: Stop) {
    // The sender lives as long as the process.
    if stop.wait_for(|stop| *stop >= urgency).await.is_err() {
        std::future::pending::<()>().await;
    }
}
