//! How the bridge is asked to stop: by its parent over the pipe, by a signal, or by the end of its parent.

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The line on standard input that asks the bridge to stop. It takes no more requests; those under way are finished first, for as long as the
/// limits allow. The input must stay open until the bridge has ended: its end says that the parent is gone.
pub const STOP: &str = "stop\n";
/// The line that asks it to stop without waiting for requests under way. It may follow [`STOP`].
pub const STOP_NOW: &str = "stop now\n";

/// How urgently the bridge is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Not at all.
    No,
    /// Once what is under way is finished.
    Drained,
    /// At once; the server has its time to end.
    Now,
    /// The parent is gone: the server has a second.
    Abandoned,
}

/// Follows what is asked for, which only grows more urgent. SIGTERM asks as [`STOP`] does; the signals of a terminal are for the parent, and
/// nothing follows from them.
///
/// # Errors
/// When signals cannot be listened for.
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

/// Waits until it is to stop at least that urgently.
pub(crate) async fn asked(stop: &mut watch::Receiver<Stop>, urgency: Stop) {
    // The sender lives as long as the process.
    if stop.wait_for(|stop| *stop >= urgency).await.is_err() {
        std::future::pending::<()>().await;
    }
}
