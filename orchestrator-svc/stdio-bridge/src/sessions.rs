//! A stdio server of which each MCP session has a process of its own.
//!
//! `initialize` starts one, all requests of its session go to it, and it ends with the session: when a client ends that, when nothing was
//! asked of it for a while, or when another session requires its place. A process that ends by itself takes its session with it, and no other.

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
    /// By [`Endpoint::run`]. Also the spare one.
    open: Mutex<HashMap<String, Arc<Own>>>,
    /// The process that was started to see that the server works: it serves the first session.
    spare: Mutex<Option<Arc<Own>>>,
    /// One for each process, until nothing of it is left.
    places: Arc<Semaphore>,
    starting: Semaphore,
    started: AtomicU64,
}

/// One session's own process.
struct Own {
    number: u64,
    child: Arc<Child>,
    endpoint: Arc<Endpoint>,
    /// Its requests.
    underway: Underway,
    /// Told when it is to end.
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
            spare: Mutex::default(),
            starting: Semaphore::new(STARTING),
            started: AtomicU64::new(1),
            places: Arc::clone(&places),
        });
        if let Ok(place) = places.try_acquire_owned() {
            let first = sessions.enter(1, first, place);
            *sessions.spare() = Some(first);
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
        let all: Vec<Arc<Own>> = self.opened().values().map(Arc::clone).collect();
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

    /// A process for a new session, with its first request let in.
    async fn own(self: &Arc<Self>) -> Result<(Arc<Own>, Admitted), Refused> {
        let spare = self.spare().take();
        if let Some(spare) = spare
            && let Some(admitted) = spare.underway.admit()
        {
            return Ok((spare, admitted));
        }
        let place = self.place().await.ok_or(Refused::Full)?;
        let this = Arc::clone(self);
        // A client that goes away in between leaves a process that is known, and ends when it was idle for long enough.
        let started = tokio::spawn(async move { this.start(place).await });
        let own = match started.await {
            Ok(started) => started.map_err(Refused::NotStarted)?,
            Err(_) => {
                return Err(Refused::NotStarted(StartError::internal(
                    "cannot start another process",
                )));
            }
        };
        match own.underway.admit() {
            Some(admitted) => Ok((own, admitted)),
            None => Err(Refused::NotStarted(StartError::new(
                EndReason::Exited,
                "It ended at once.",
            ))),
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

    async fn start(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Result<Arc<Own>, StartError> {
        let Ok(_turn) = self.starting.acquire().await else {
            return Err(StartError::internal("takes no more sessions"));
        };
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let marker = marker(&self.spec, number);
        let started = async {
            let server = start(&self.spec, &marker, None, &self.reaper).await?;
            let child = Arc::new(Child::begin(server, &self.spec, &self.events, &self.log));
            match child.initialize().await {
                Ok(()) => Ok(child),
                Err(error) => {
                    child.gone(&error.message, &marker).await;
                    Err(error)
                }
            }
        };
        let child = started.await?;
        self.log
            .note(format!("[session {number}: its process has started]"))
            .await;
        Ok(self.enter(number, child, place))
    }

    /// Keeps a process, from its start to its end.
    fn enter(self: &Arc<Self>, number: u64, child: Arc<Child>, place: OwnedSemaphorePermit) -> Arc<Own> {
        let endpoint = Endpoint::new(Arc::clone(child.session()), self.spec.limits.clone());
        let own = Arc::new(Own {
            number,
            child,
            endpoint: Arc::new(endpoint),
            underway: Underway::default(),
            over: Notify::new(),
        });
        self.opened().insert(own.endpoint.run().to_owned(), Arc::clone(&own));
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
        self.spare().take_if(|spare| Arc::ptr_eq(spare, own));
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

    fn spare(&self) -> MutexGuard<'_, Option<Arc<Own>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
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
