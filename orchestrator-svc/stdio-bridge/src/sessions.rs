//! A stdio server of which each MCP session has a process of its own.
//!
//! `initialize` starts one, all requests of its session go to it, and it ends with the session: when a client ends that, when it had no request
//! for a while, or when another session requires its place. A process that ends by itself ends its session, and no other.
//!
//! A process knows nothing of its client before the session's first request, which `initialize` is not: the bridge answers that itself. So a
//! process whose client gave up while it started serves the next session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::{
    answer::{Body, empty, json},
    child::{Child, exit_message},
    envelope::{Kind, Members, error},
    event::{EndReason, Events},
    http::{Endpoint, INVALID_REQUEST, PATH, RUN, SESSION, id, not_taken, session_ended, whole, wrong_path},
    log::Log,
    process::{StartError, start},
    reaper::Reaper,
    spares::{Making, Spares},
    spec::Spec,
    stdio::{BUSY, SERVER_ENDED},
    stop::Stop,
    underway::{Admitted, Underway},
};

/// Processes that start at one time; further ones wait.
const STARTING: usize = 2;

/// All sessions.
pub(crate) struct Sessions {
    spec: Arc<Spec>,
    events: Events,
    log: Arc<Log>,
    reaper: Reaper,
    stop: watch::Receiver<Stop>,
    /// By [`Endpoint::run`].
    open: Mutex<HashMap<String, Arc<Own>>>,
    /// Processes without a session: the one that was started to see that the server works, and those whose clients gave up. They take places,
    /// but do not give way: a process is started only where there are fewer of them than clients that wait.
    spares: Spares<Arc<Own>>,
    /// One for each process, until nothing of it is left.
    places: Arc<Semaphore>,
    started: AtomicU64,
}

/// One session's own process.
struct Own {
    number: u64,
    child: Arc<Child>,
    endpoint: Arc<Endpoint>,
    /// Its requests.
    underway: Underway,
    /// Notified when it is to end.
    over: Notify,
}

impl Sessions {
    /// `first` is a process that has been initialized.
    pub(crate) fn new(
        spec: Arc<Spec>,
        first: Arc<Child>,
        events: Events,
        log: Arc<Log>,
        reaper: Reaper,
        stop: watch::Receiver<Stop>,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(spec.limits.sessions.max(1)));
        let sessions = Arc::new(Self {
            spec,
            events,
            log,
            reaper,
            stop,
            open: Mutex::default(),
            spares: Spares::new(STARTING),
            started: AtomicU64::new(1),
            places: Arc::clone(&places),
        });
        if let Ok(place) = places.try_acquire_owned() {
            sessions.enter(1, first, place);
        }
        sessions
    }

    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, underway: &Underway) -> Response<Body> {
        if request.uri().path() != PATH {
            return wrong_path();
        }
        let Some(session) = request.headers().get(SESSION) else {
            return self.open(request, underway).await;
        };
        let Some(own) = self.find(session) else {
            return session_ended();
        };
        let endpoint = Arc::clone(&own.endpoint);
        match *request.method() {
            Method::DELETE => {
                own.underway.close();
                own.over.notify_one();
                empty(StatusCode::NO_CONTENT)
            }
            Method::POST => match own.underway.admit() {
                Some(admitted) => admitted.until_answered(endpoint.handle(request, underway).await),
                None => session_ended(),
            },
            _ => endpoint.handle(request, underway).await,
        }
    }

    /// Ends all processes as one is ended, at the same time.
    pub(crate) async fn end(&self, why: &str) {
        let mut all: Vec<Arc<Own>> = self.opened().values().map(Arc::clone).collect();
        all.extend(self.spares.remove(|_| true));
        join_all(all.iter().map(|own| {
            own.underway.close();
            own.child.close(&self.spec.limits, why, self.stop.clone())
        }))
        .await;
    }

    /// Opens a session.
    async fn open(self: Arc<Self>, request: Request<Incoming>, underway: &Underway) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match whole(body, &self.spec.limits).await {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        let message = Members::parse(&body);
        let initialize = message
            .filter(|message| matches!(message.kind(), Some(Kind::Request { method }) if method == "initialize"));
        let Some(message) = initialize.filter(|_| parts.method == Method::POST) else {
            let why = "Send initialize first: each session has a process of its own.";
            return json(StatusCode::BAD_REQUEST, error("null", INVALID_REQUEST, why));
        };
        let id = id(&message).to_owned();
        let Some(admitted) = underway.admit() else {
            return not_taken(&id);
        };
        let response = match self.own().await {
            Ok((own, first)) => {
                let request = Request::from_parts(parts, Full::<Bytes>::new(body));
                let response = Arc::clone(&own.endpoint).handle(request, underway).await;
                first.until_answered(response)
            }
            Err(Refused::Full) => full(&id, self.spec.limits.sessions),
            Err(Refused::NotStarted(why)) => {
                let why = format!("The process of this session could not be started. {}", why.message);
                json(StatusCode::OK, error(&id, SERVER_ENDED, &why))
            }
        };
        admitted.until_answered(response)
    }

    /// A process for a new session, with its first request admitted.
    async fn own(self: &Arc<Self>) -> Result<(Arc<Own>, Admitted), Refused> {
        let _waiting = self.spares.wait();
        tokio::select! {
            biased;
            own = self.next() => Ok(own),
            refused = self.start_required() => Err(refused),
        }
    }

    /// The next process that is ready, with its first request admitted.
    async fn next(&self) -> (Arc<Own>, Admitted) {
        loop {
            let own = self.spares.next().await;
            // Else it has ended.
            if let Some(admitted) = own.underway.admit() {
                self.opened().insert(own.endpoint.run().to_owned(), Arc::clone(&own));
                return (own, admitted);
            }
        }
    }

    /// Starts processes for whoever is next, until one cannot be started.
    async fn start_required(self: &Arc<Self>) -> Refused {
        loop {
            let making = self.spares.required().await;
            let Some(place) = self.place().await else {
                return Refused::Full;
            };
            // A task of its own: the start goes on when the client gives up.
            let started = tokio::spawn(Arc::clone(self).start(place, making)).await;
            let why = match started {
                Ok(Ok(own)) if own.underway.is_closed() => StartError::new(EndReason::Exited, "It ended at once."),
                // The client before this one got it.
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error,
                Err(_) => StartError::internal("cannot start another process"),
            };
            return Refused::NotStarted(why);
        }
    }

    /// A place for one more process: that of the one which is idle for longest, where there is no other.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let over = loop {
            let longest = {
                let open = self.opened();
                let idle = open.values().filter_map(|own| Some((own.underway.idle_since()?, own)));
                idle.min_by_key(|(since, _)| *since).map(|(_, own)| Arc::clone(own))
            }?;
            // Else a request came in between.
            if longest.underway.close_if_idle() {
                break longest;
            }
        };
        over.over.notify_one();
        let patience = self.spec.limits.longest_close() + self.spec.limits.grace();
        timeout(patience, Arc::clone(&self.places).acquire_owned())
            .await
            .ok()?
            .ok()
    }

    async fn start(
        self: Arc<Self>,
        place: OwnedSemaphorePermit,
        making: Making<Arc<Own>>,
    ) -> Result<Arc<Own>, StartError> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let marker = marker(&self.spec, number);
        let server = start(&self.spec, &marker, None, &self.reaper).await?;
        let child = Arc::new(Child::begin(server, &self.spec, &self.events, &self.log));
        if let Err(error) = child.initialize().await {
            child.gone(&error.message, &marker).await;
            return Err(error);
        }
        self.log
            .note(format!("[session {number}: its process has started]"))
            .await;
        let own = self.enter(number, child, place);
        drop(making);
        Ok(own)
    }

    /// Adds a process to the spares, and keeps it until its end.
    fn enter(self: &Arc<Self>, number: u64, child: Arc<Child>, place: OwnedSemaphorePermit) -> Arc<Own> {
        let endpoint = Endpoint::new(Arc::clone(child.session()), self.spec.limits.clone());
        let own = Arc::new(Own {
            number,
            child,
            endpoint: Arc::new(endpoint),
            underway: Underway::default(),
            over: Notify::new(),
        });
        self.spares.add(Arc::clone(&own));
        let (this, kept) = (Arc::clone(self), Arc::clone(&own));
        tokio::spawn(async move {
            this.keep(&kept).await;
            drop(place);
        });
        own
    }

    async fn keep(&self, own: &Arc<Own>) {
        let limits = &self.spec.limits;
        let why = tokio::select! {
            end = own.child.ended() => exit_message(end),
            () = own.underway.idle_for(limits.session_idle()) => {
                format!("It was idle for {} s.", limits.session_idle().as_secs_f32())
            }
            () = own.over.notified() => "The session has ended.".to_owned(),
        };
        own.underway.close();
        self.opened().remove(own.endpoint.run());
        self.spares.remove(|spare| Arc::ptr_eq(spare, own));
        own.child.close(limits, &why, self.stop.clone()).await;
        own.child.gone(&why, &marker(&self.spec, own.number)).await;
        self.log
            .note(format!("[session {}: its process is gone. {why}]", own.number))
            .await;
    }

    fn find(&self, session: &HeaderValue) -> Option<Arc<Own>> {
        let run = session.to_str().ok()?.get(..RUN)?;
        self.opened().get(run).map(Arc::clone)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<String, Arc<Own>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no process for a new session.
enum Refused {
    /// All places are taken by sessions with requests under way.
    Full,
    NotStarted(StartError),
}

/// What marks the process of one session, see [`Spec::marker`].
pub(crate) fn marker(spec: &Spec, number: u64) -> String {
    format!("{}#{number}", spec.marker)
}

fn full(id: &str, sessions: usize) -> Response<Body> {
    let why = format!(
        "All {sessions} processes of the MCP server have requests under way, and each session requires one of its own. Try again later, or end \
         sessions that are no longer used."
    );
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, error(id, BUSY, &why));
    let retry = HeaderValue::from_static("5");
    response.headers_mut().insert(header::RETRY_AFTER, retry);
    response
}
