//! A server that was started: until it is ready, until it ends or is stopped, until nothing of it is left.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use nix::unistd::Pid;
use tokio::{
    net::UnixListener,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    child::{Child, Ended, close},
    era::Era,
    event::{EndReason, Event, Events},
    http::Endpoint,
    in_flight::InFlight,
    log::Log,
    process::{Server, StartError, ended},
    proxy::{Proxy, wait_until_open},
    reaper::Reaper,
    redact::Redactor,
    serve::{Service, serve},
    sessions::Sessions,
    spec::{Spec, Transport},
    stop::{self, Stop},
    told::Told,
    tree::{End, kill_descendants},
};

/// How long the last answers may take to be sent.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long the last lines may take to be read. All writers are dead, except a process that cannot be killed.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A server from its start to its end.
pub(crate) struct Live {
    spec: Arc<Spec>,
    server: Running,
    log: Arc<Log>,
    events: Events,
    reaper: Reaper,
    stop: watch::Receiver<Stop>,
    /// The only process that may call.
    parent: Pid,
    in_flight: InFlight,
    /// What it speaks, if that is known.
    era: Option<Era>,
    serving: Option<Serving>,
}

/// The process that was started. Where each session has its own, it is the one of the first session.
enum Running {
    /// It speaks MCP over its standard streams.
    Stdio(Arc<Child>),
    /// It speaks HTTP on a port, or is a task. What it writes is its log.
    Other {
        pid: i32,
        end: watch::Receiver<Option<End>>,
        logs: [JoinHandle<()>; 2],
        port: Option<u16>,
    },
}

/// What serves the socket.
struct Serving {
    task: JoinHandle<()>,
    /// Set to end it.
    finish: watch::Sender<bool>,
    /// Where each session has a process of its own.
    sessions: Option<Arc<Sessions>>,
}

/// Why the server's life is over.
enum Over {
    Ended(Ended),
    Stop,
    Failed(StartError),
}

impl Live {
    /// `port` is the one that the server was started with, if it has one; `era` what it speaks, if that is known.
    pub(crate) fn new(
        spec: &Arc<Spec>,
        (server, port): (Server, Option<u16>),
        parent: Pid,
        events: &Events,
        reaper: &Reaper,
        stop: watch::Receiver<Stop>,
        era: Option<Era>,
    ) -> Self {
        let log = Log::new(events.clone(), Arc::new(Redactor::new(&spec.secrets)), &spec.limits);
        let server = match spec.transport {
            Transport::Stdio { .. } => Running::Stdio(Arc::new(Child::begin(server, spec, events, &log))),
            Transport::Task | Transport::StreamableHttp { .. } => Running::Other {
                pid: server.pid,
                end: server.end,
                logs: [log.follow(server.stderr), log.follow(server.stdout)],
                port,
            },
        };
        Self {
            spec: Arc::clone(spec),
            server,
            log,
            events: events.clone(),
            reaper: reaper.clone(),
            stop,
            parent,
            in_flight: InFlight::default(),
            era,
            serving: None,
        }
    }

    /// Serves the server until it ends or is to stop. Then no process of it is left. The flag: it ended while it was asked what it speaks, as servers of
    /// older revisions may that do not know the question.
    pub(crate) async fn run(mut self) -> (Event, bool) {
        let over = self.until_over().await;
        let is_asked = matches!(&self.server, Running::Stdio(child) if child.session().is_in_question());
        let in_question = is_asked && matches!(over, Over::Ended(_));
        let event = match over {
            Over::Ended(ended) => exited(ended),
            Over::Failed(error) => error.into(),
            Over::Stop => {
                if self.drained().await {
                    self.close().await;
                }
                StartError::new(EndReason::Stopped, "Stopped.").into()
            }
        };
        self.clean_up(&event).await;
        (event, in_question)
    }

    async fn until_over(&mut self) -> Over {
        let ready = tokio::select! {
            biased;
            ended = self.ended() => return Over::Ended(ended),
            () = self.asked(Stop::Drained) => return Over::Stop,
            ready = self.ready() => ready,
        };
        match ready {
            Ok((service, listener)) => self.serve(service, listener),
            Err(error) => return Over::Failed(error),
        }
        self.events.send(Event::Ready).await;
        tokio::select! {
            biased;
            ended = self.ended() => Over::Ended(ended),
            () = self.asked(Stop::Drained) => Over::Stop,
        }
    }

    /// Waits until the server can be called.
    async fn ready(&self) -> Result<(Service, UnixListener), StartError> {
        let service = match &self.server {
            Running::Stdio(child) => {
                let era = match &self.era {
                    Some(era) => {
                        child.session().initialize(&Told::Own).await?;
                        era.clone()
                    }
                    None => child.session().open().await?,
                };
                child.session().follow_tools(&era);
                self.stdio(child, era)
            }
            Running::Other { port, end, .. } => self.other(*port, end).await?,
        };
        let unusable = |e: std::io::Error| StartError::internal(&format!("cannot listen: {e}"));
        let listener = UnixListener::bind(&self.spec.socket).map_err(unusable)?;
        fs::set_permissions(&self.spec.socket, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        Ok((service, listener))
    }

    fn stdio(&self, child: &Arc<Child>, era: Era) -> Service {
        if !matches!(self.spec.transport, Transport::Stdio { one_per_session: true }) {
            let endpoint = Endpoint::new(Arc::clone(child.session()), era, self.spec.limits.clone());
            return Service::Stdio(Arc::new(endpoint));
        }
        Service::Sessions(Sessions::new(
            Arc::clone(&self.spec),
            (Arc::clone(child), era),
            self.events.clone(),
            Arc::clone(&self.log),
            self.reaper.clone(),
            self.stop.clone(),
        ))
    }

    async fn other(&self, port: Option<u16>, end: &watch::Receiver<Option<End>>) -> Result<Service, StartError> {
        let limits = &self.spec.limits;
        let patience = limits.ready();
        match (&self.spec.transport, port) {
            (Transport::StreamableHttp { path, .. }, Some(port)) => {
                wait_until_open(port, patience).await?;
                let redactor = Arc::clone(self.log.redactor());
                let proxy = Proxy::new(port, path, redactor, end.clone(), limits.grace());
                let proxy = proxy.ok_or_else(|| StartError::new(EndReason::NotStarted, "the path is not valid"))?;
                Ok(Service::Http(Arc::new(proxy)))
            }
            // A task ends.
            _ => {
                sleep(patience).await;
                let message = format!("It did not end within {} s.", patience.as_secs());
                Err(StartError::new(EndReason::TaskTimeout, message))
            }
        }
    }

    fn serve(&mut self, service: Service, listener: UnixListener) {
        let (finish, finishing) = watch::channel(false);
        let sessions = match &service {
            Service::Sessions(sessions) => Some(Arc::clone(sessions)),
            Service::Stdio(_) | Service::Http(_) => None,
        };
        let in_flight = self.in_flight.clone();
        let connections = self.spec.limits.connections;
        self.serving = Some(Serving {
            task: tokio::spawn(serve(listener, service, self.parent, in_flight, finishing, connections)),
            finish,
            sessions,
        });
    }

    fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.serving.as_ref()?.sessions.as_ref()
    }

    /// Waits until the server has ended; see [`Child::ended`]. Never returns once each session has a process of its own, which ends alone.
    async fn ended(&self) -> Ended {
        if self.sessions().is_some() {
            return std::future::pending().await;
        }
        match &self.server {
            Running::Stdio(child) => child.ended().await,
            Running::Other { end, .. } => Ended::Process(ended(&mut end.clone()).await),
        }
    }

    async fn asked(&self, urgency: Stop) {
        stop::asked(&mut self.stop.clone(), urgency).await;
    }

    /// Admits no more requests, and waits until none is under way, for as long as the limits and the parent allow. False: the server has
    /// ended.
    async fn drained(&self) -> bool {
        tokio::select! {
            () = self.in_flight.drain() => true,
            () = self.asked(Stop::Now) => true,
            () = sleep(self.spec.limits.drain()) => true,
            _ = self.ended() => false,
        }
    }

    /// Closes the input of a stdio server, then sends SIGTERM, and waits after each.
    async fn close(&self) {
        let why = "The MCP server was stopped before it had answered.";
        let (limits, stop) = (&self.spec.limits, self.stop.clone());
        match (self.sessions(), &self.server) {
            (Some(sessions), _) => sessions.end(why).await,
            (None, Running::Stdio(child)) => child.close(limits, why, stop).await,
            (None, Running::Other { pid, end, .. }) => close(*pid, false, limits, end.clone(), stop).await,
        }
    }

    /// Kills what is left of the server, and waits until its last answers are sent and its last lines are read.
    async fn clean_up(self, event: &Event) {
        if let (Running::Stdio(child), Event::Ended { message, .. }) = (&self.server, event) {
            child.session().end(message);
        }
        kill_descendants().await;
        if let Some(serving) = self.serving {
            serving.finish.send_replace(true);
            let _ = timeout(LAST_ANSWERS, serving.task).await;
        }
        match self.server {
            Running::Stdio(child) => child.log_ended().await,
            Running::Other { logs, .. } => {
                for log in logs {
                    let _ = timeout(LAST_LINES, log).await;
                }
            }
        }
    }
}

fn exited(ended: Ended) -> Event {
    let StartError { reason, message } = ended.into();
    let end = ended.process();
    Event::Ended {
        reason,
        message,
        exit_code: end.and_then(|end| end.code),
        signal: end.and_then(|end| end.signal),
    }
}
