//! A stdio server of which each MCP session has a process of its own.
//!
//! `initialize` starts one, all requests of its session go to it, and it ends with the session: when a client ends that, when it had no request
//! for a while, or when another session requires its place. A process that ends by itself ends its session, and no other. See [`Seats`] for how
//! many a caller may have.
//!
//! A process is told of its client by that client's `initialize`. One whose client gave up while it started serves the next session of a client that
//! says the same of itself.

mod callers;

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

use self::callers::Callers;
use crate::{
    answer::{Body, empty, json},
    child::Child,
    envelope::{INVALID_REQUEST, Kind, Members, error},
    era::Era,
    event::{EndReason, Event, Events},
    failures::Failures,
    files::{Folder, stage},
    http::{Endpoint, PATH, RUN, SESSION, busy, id, not_taken, session_ended, whole, wrong_path},
    in_flight::{Admitted, InFlight},
    log::Log,
    metered::metered,
    process::{StartError, start},
    reaper::Reaper,
    seats::{Busy, Opener, Seat, Seats},
    spares::{Making, Spares, Waiting},
    spec::Spec,
    stdio::SERVER_ENDED,
    stop::{self, Stop},
    told::Told,
};

/// Processes that start at one time; further ones wait.
const STARTING: usize = 2;
/// Idle sessions of one caller that are kept until [`Limits::session_idle_millis`](crate::Limits).
const KEPT: usize = 4;

/// All sessions.
pub(crate) struct Sessions {
    spec: Arc<Spec>,
    era: Era,
    events: Events,
    log: Arc<Log>,
    reaper: Reaper,
    stop: watch::Receiver<Stop>,
    callers: Callers,
    /// By [`Endpoint::run`].
    open: Mutex<HashMap<String, Arc<Own>>>,
    /// Processes without a session: the one that was started to see that the server works, and those whose clients gave up. A process is started
    /// only where fewer of them were told the same than clients wait that say it.
    spares: Spares<Told, Arc<Own>>,
    /// One for each session, and for each client that waits for its process.
    seats: Seats,
    /// One for each process, until nothing of it is left: as many as there are seats.
    places: Arc<Semaphore>,
    failures: Failures,
    started: AtomicU64,
}

/// One session's own process.
struct Own {
    number: u64,
    child: Arc<Child>,
    endpoint: Arc<Endpoint>,
    /// Its requests.
    in_flight: InFlight,
    /// Set when it has a session.
    seat: OnceLock<Seat>,
    /// Why it is to end; set when it is.
    over: watch::Sender<Option<&'static str>>,
}

impl Own {
    fn is_of(&self, wanted: &Opener) -> bool {
        self.seat.get().is_some_and(|seat| seat.opener() == wanted)
    }

    /// Ends it, whatever is under way.
    fn end(&self, why: &'static str) {
        self.in_flight.close();
        self.over.send_replace(Some(why));
    }

    /// Ends it unless a request is under way. False: one is, or it is being ended already.
    fn end_if_idle(&self, why: &'static str) -> bool {
        let ends = self.in_flight.close_if_idle();
        if ends {
            self.over.send_replace(Some(why));
        }
        ends
    }
}

impl Sessions {
    /// `first` is a process that can be called, and what it speaks.
    pub(crate) fn new(
        spec: Arc<Spec>,
        (first, era): (Arc<Child>, Era),
        events: Events,
        log: Arc<Log>,
        reaper: Reaper,
        stop: watch::Receiver<Stop>,
    ) -> Arc<Self> {
        let callers = spec.limits.sessions.max(1);
        let places = Arc::new(Semaphore::new(callers + 1));
        let told = match era {
            Era::Legacy => Told::Own,
            Era::Modern(_) => Told::Nothing,
        };
        let sessions = Arc::new(Self {
            spec,
            era,
            events,
            log,
            reaper,
            stop,
            callers: Callers::default(),
            open: Mutex::default(),
            spares: Spares::new(STARTING),
            seats: Seats::new(callers),
            failures: Failures::default(),
            started: AtomicU64::new(1),
            places: Arc::clone(&places),
        });
        if let Ok(place) = places.try_acquire_owned() {
            sessions.enter(1, told, first, place);
        }
        let (failures, events) = (sessions.failures.last(), sessions.events.clone());
        let mut stop = sessions.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = metered(failures, events, |failure| Event::SessionStarts { failure }) => {}
                // The last event is another, and waits until nobody can send any.
                () = stop::asked(&mut stop, Stop::Drained) => {}
            }
        });
        sessions
    }

    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, in_flight: &InFlight) -> Response<Body> {
        if request.uri().path() != PATH {
            return wrong_path();
        }
        if let Era::Modern(discovered) = &self.era {
            let discovered = Arc::clone(discovered);
            return self.modern(request, &discovered, in_flight).await;
        }
        let Some(session) = request.headers().get(SESSION) else {
            return self.open(request, in_flight).await;
        };
        let Some(own) = self.find(session) else {
            return session_ended();
        };
        let endpoint = Arc::clone(&own.endpoint);
        match *request.method() {
            Method::DELETE => {
                own.end("The session has ended.");
                empty(StatusCode::NO_CONTENT)
            }
            Method::POST => match own.in_flight.admit() {
                Some(admitted) => admitted.until_answered(endpoint.handle(request, in_flight).await),
                None => session_ended(),
            },
            _ => endpoint.handle(request, in_flight).await,
        }
    }

    /// Ends all processes as one is ended, at the same time.
    pub(crate) async fn end(&self, why: &str) {
        let mut all: Vec<Arc<Own>> = self.opened().values().map(Arc::clone).collect();
        all.extend(self.spares.remove(|_| true));
        join_all(all.iter().map(|own| {
            own.in_flight.close();
            own.child.close(&self.spec.limits, why, self.stop.clone())
        }))
        .await;
    }

    /// Opens a session.
    async fn open(self: Arc<Self>, request: Request<Incoming>, in_flight: &InFlight) -> Response<Body> {
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
        let Some(admitted) = in_flight.admit() else {
            return not_taken(&id);
        };
        let opener = Opener::of(&parts.headers);
        let told = Told::by(&opener, &message);
        let response = match self.own(&opener, told).await {
            Ok((own, first)) => {
                let request = Request::from_parts(parts, Full::<Bytes>::new(body));
                let response = Arc::clone(&own.endpoint).handle(request, in_flight).await;
                // Without its id, nobody can use or end the session.
                if !response.headers().contains_key(SESSION) {
                    own.end("Its session was not opened.");
                }
                first.until_answered(response)
            }
            Err(refused) => self.refuse(&id, refused),
        };
        admitted.until_answered(response)
    }

    fn refuse(&self, id: &str, refused: Refused) -> Response<Body> {
        match refused {
            Refused::Full(Busy::All) => busy(id, "full", &all_busy(self.spec.limits.sessions)),
            Refused::Full(Busy::Share) => busy(id, "share", &share_busy(self.seats.each())),
            Refused::NotStarted(why) => {
                let why = format!("The process of this session could not be started. {why}");
                json(StatusCode::OK, error(id, SERVER_ENDED, &why))
            }
        }
    }

    /// A process for a new session, with its first request admitted.
    async fn own(self: &Arc<Self>, opener: &Opener, told: Told) -> Result<(Arc<Own>, Admitted), Refused> {
        let seat = self.seat(opener).await.map_err(Refused::Full)?;
        let waiting = self.spares.wait(told.clone());
        let (own, first) = tokio::select! {
            biased;
            own = next(&waiting) => own,
            refused = self.start_required(&told) => return Err(refused),
        };
        // It had none: spares are without a session.
        let _ = own.seat.set(seat);
        self.opened().insert(own.endpoint.run().to_owned(), Arc::clone(&own));
        // If it has ended since it was taken, it may have been removed before it was added.
        if own.in_flight.is_closed() {
            self.opened().remove(own.endpoint.run());
        }
        Ok((own, first))
    }

    /// A seat for a new session: that of an idle one, where none is free.
    async fn seat(&self, opener: &Opener) -> Result<Seat, Busy> {
        let busy = match self.seats.try_take(opener) {
            Ok(seat) => return Ok(seat),
            Err(busy) => busy,
        };
        // Another is asked if a request came in between.
        while !self
            .gives_way(opener, busy)
            .ok_or(busy)?
            .end_if_idle("Another session required its place.")
        {}
        let patience = self.spec.limits.longest_close() + self.spec.limits.grace();
        timeout(patience, self.seats.take(opener)).await.unwrap_or(Err(busy))
    }

    /// The idle process that ends for a new session: of the caller who has the most of them, the one which is idle for longest.
    fn gives_way(&self, opener: &Opener, busy: Busy) -> Option<Arc<Own>> {
        let open = self.opened();
        let idle = open.values().filter_map(|own| {
            let seat = own.seat.get()?;
            let may = match (busy, opener) {
                (Busy::All, Opener::Caller(_)) => *seat.opener() != Opener::Gateway,
                _ => seat.opener() == opener,
            };
            let since = own.in_flight.idle_since().filter(|_| may)?;
            Some(((self.seats.held(seat), Reverse(since)), own))
        });
        idle.max_by_key(|(order, _)| *order).map(|(_, own)| Arc::clone(own))
    }

    /// Ends the idle sessions of a caller who has many of them.
    fn thin_out(&self, of: &Own) {
        let Some(opener @ Opener::Caller(_)) = of.seat.get().map(Seat::opener) else {
            return;
        };
        let surplus = {
            let open = self.opened();
            let own = open.values().filter(|own| own.is_of(opener));
            let mut idle: Vec<_> = own
                .filter_map(|own| Some((own.in_flight.idle_since()?, Arc::clone(own))))
                .collect();
            idle.sort_unstable_by_key(|(since, _)| Reverse(*since));
            idle.split_off(idle.len().min(KEPT))
        };
        for (since, own) in surplus {
            if since.elapsed() >= self.spec.limits.surplus_idle() {
                own.end_if_idle("It was idle, and its caller has others that are.");
            }
        }
    }

    /// Starts processes for whoever is next, until one cannot be started.
    async fn start_required(self: &Arc<Self>, told: &Told) -> Refused {
        loop {
            let making = self.spares.required(told).await;
            if let Some((pause, why)) = self.failures.pause(told, Instant::now()) {
                let seconds = pause.as_secs_f32().ceil();
                let why = format!("{why} The next is started in {seconds} s at the earliest.");
                return Refused::NotStarted(why);
            }
            let Some(place) = self.place().await else {
                return Refused::Full(Busy::All);
            };
            // A task of its own: the start goes on when the client gives up.
            let started = tokio::spawn(Arc::clone(self).start(told.clone(), place, making)).await;
            let why = match started {
                Ok(Ok(own)) if own.in_flight.is_closed() => StartError::new(EndReason::Exited, "It ended at once."),
                // The client before this one got it.
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error,
                Err(_) => StartError::internal("cannot start another process"),
            };
            return Refused::NotStarted(why.message);
        }
    }

    /// A place for one more process. Whoever has a seat gets one: a process without a session ends for it.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if self.places.available_permits() == 0
            && let Some(spare) = self.spares.remove_idle()
        {
            spare.end("A session required its place.");
        }
        let patience = self.spec.limits.longest_close() + self.spec.limits.grace();
        let place = timeout(patience, Arc::clone(&self.places).acquire_owned()).await;
        place.ok()?.ok()
    }

    async fn start(
        self: Arc<Self>,
        told: Told,
        place: OwnedSemaphorePermit,
        making: Making<Told, Arc<Own>>,
    ) -> Result<Arc<Own>, StartError> {
        let started = self.start_one(&told, place).await;
        match &started {
            Ok(_) => self.failures.succeeded(&told),
            Err(error) => self.failures.failed(&told, Instant::now(), error),
        }
        drop(making);
        started
    }

    async fn start_one(self: &Arc<Self>, told: &Told, place: OwnedSemaphorePermit) -> Result<Arc<Own>, StartError> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let marker = marker(&self.spec, number);
        // Another process may have removed or changed the files.
        let folder =
            Folder::open(&self.spec, number).map_err(|_| StartError::internal("cannot open the working folder"))?;
        stage(&folder, &self.spec)?;
        let server = start(&self.spec, &marker, None, &self.reaper).await?;
        let child = Arc::new(Child::begin(server, &self.spec, &self.events, &self.log));
        if let Err(error) = child.initialize(told).await {
            child.gone(&error.message, &marker).await;
            return Err(error);
        }
        child.session().follow_tools(&self.era);
        self.log
            .note(format!("[session {number}: its process has started]"))
            .await;
        Ok(self.enter(number, told.clone(), child, place))
    }

    /// Adds a process to the spares, and keeps it until its end.
    fn enter(self: &Arc<Self>, number: u64, told: Told, child: Arc<Child>, place: OwnedSemaphorePermit) -> Arc<Own> {
        let endpoint = Endpoint::new(Arc::clone(child.session()), self.era.clone(), self.spec.limits.clone());
        let own = Arc::new(Own {
            number,
            child,
            endpoint: Arc::new(endpoint),
            in_flight: InFlight::default(),
            seat: OnceLock::new(),
            over: watch::Sender::new(None),
        });
        self.spares.add(told, Arc::clone(&own));
        let (this, kept) = (Arc::clone(self), Arc::clone(&own));
        tokio::spawn(async move {
            this.keep(&kept).await;
            drop(place);
        });
        own
    }

    async fn keep(&self, own: &Arc<Own>) {
        let limits = &self.spec.limits;
        let mut over = own.over.subscribe();
        let why = tokio::select! {
            ended = own.child.ended() => StartError::from(ended).message,
            () = own.in_flight.idle_for(limits.session_idle()) => {
                format!("It was idle for {} s.", limits.session_idle().as_secs_f32())
            }
            () = own.in_flight.each_rest(limits.surplus_idle(), || self.thin_out(own)) => return,
            Ok(why) = over.wait_for(Option::is_some) => why.unwrap_or_default().to_owned(),
        };
        own.in_flight.close();
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

/// The next process that is ready, with its first request admitted.
async fn next(waiting: &Waiting<Told, Arc<Own>>) -> (Arc<Own>, Admitted) {
    loop {
        let own = waiting.next().await;
        // Else it has ended.
        if let Some(admitted) = own.in_flight.admit() {
            return (own, admitted);
        }
    }
}

/// Why there is no process for a new session.
enum Refused {
    /// All that it may have are taken by sessions with requests under way.
    Full(Busy),
    NotStarted(String),
}

/// What marks the process of one session, see [`Spec::marker`].
pub(crate) fn marker(spec: &Spec, number: u64) -> String {
    format!("{}#{number}", spec.marker)
}

fn all_busy(sessions: usize) -> String {
    format!(
        "All {sessions} processes of the MCP server have requests under way, and each session requires one of its own. Try again later, or end \
         sessions that are no longer used."
    )
}

fn share_busy(each: usize) -> String {
    format!(
        "You have requests under way in {each} sessions, the most that one caller may have: each session has a process of the MCP server of its \
         own. Wait for an answer, or end sessions that are no longer used."
    )
}
