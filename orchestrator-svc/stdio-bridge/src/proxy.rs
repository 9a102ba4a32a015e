//! Forwards requests to a server that speaks streamable HTTP.

use std::{error::Error as StdError, io, net::Ipv4Addr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    answer::{Body, json, text},
    asked::asked,
    envelope::error,
    event::EndReason,
    http::{NOT_TAKEN_HEADER, not_taken},
    process::{StartError, ended},
    redact::Redactor,
    screen::{Rules, screened},
    seats::CALLER_HEADER,
    stdio::SERVER_ENDED,
    tree::{End, Listens, listens},
};

/// The names of the headers of a request whose values are secrets, separated by commas. The gateway sets it, and the server does not get it.
pub const SECRET_HEADERS: &str = "chandlery-secret-headers";

/// Fields of one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Forwards requests to the server's port.
pub(crate) struct Proxy {
    client: Client<HttpConnector, Body>,
    authority: String,
    path: PathAndQuery,
    redactor: Arc<Redactor>,
    end: watch::Receiver<Option<End>>,
    /// How long a server that has stopped listening may take to end.
    ending: Duration,
}

/// The port for the server: a free one if `port` is 0.
///
/// # Errors
/// If another process uses the port.
pub(crate) async fn choose_port(port: u16) -> Result<u16, StartError> {
    let taken = |e| {
        let text = format!(
            "Port {port} of this machine cannot be used ({e}). Give the entry port 0, and a free one is chosen."
        );
        StartError::new(EndReason::PortInUse, text)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(taken)?;
    listener.local_addr().map(|a| a.port()).map_err(taken)
}

/// Waits until the server listens on its port.
///
/// Which addresses it listens on is not checked again while it runs. The check finds accidents, such as a default address. A server that intends to
/// be called by others does not depend on this port, since it may open connections itself; and to find its sockets takes reading the descriptors
/// of all its processes.
///
/// # Errors
/// If it does not in time, or listens on all interfaces: other machines could call it without the gateway and without a credential.
pub(crate) async fn wait_until_open(port: u16, patience: Duration) -> Result<(), StartError> {
    let open = async {
        let mut pause = Duration::from_millis(5);
        loop {
            match listens(port) {
                Listens::No => tokio::time::sleep(pause).await,
                open => return open,
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    };
    match tokio::time::timeout(patience, open).await {
        Ok(Listens::Exposed) => {
            let text = format!(
                "The server listens on port {port} of all network interfaces, where other machines can call it without the gateway. An admin must \
                 make it listen on 127.0.0.1: try the environment variable HOST=127.0.0.1 in the entry, or an argument such as --host 127.0.0.1."
            );
            Err(StartError::new(EndReason::PortExposed, text))
        }
        Ok(_) => Ok(()),
        Err(_) => {
            let seconds = patience.as_secs_f32();
            let text =
                format!("The server does not listen on port {port} (environment variable PORT) after {seconds} s.");
            Err(StartError::new(EndReason::PortNotOpen, text))
        }
    }
}

impl Proxy {
    /// `end` is set when the server ends; once it has stopped listening, that may take as long as `ending`.
    pub(crate) fn new(
        port: u16,
        path: &str,
        redactor: Arc<Redactor>,
        end: watch::Receiver<Option<End>>,
        ending: Duration,
    ) -> Option<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        let path = if path.is_empty() { "/mcp" } else { path };
        let path = if path.starts_with('/') {
            path.parse()
        } else {
            format!("/{path}").parse()
        };
        Some(Self {
            client,
            authority: format!("127.0.0.1:{port}"),
            path: path.ok()?,
            redactor,
            end,
            ending,
        })
    }

    /// Forwards a request, and its answer. Bodies are streamed.
    pub(crate) async fn handle(&self, mut request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/mcp" {
            return text(StatusCode::NOT_FOUND, "The MCP endpoint is /mcp.");
        }
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(self.path.clone())
            .build();
        let Ok(uri) = uri else {
            return text(StatusCode::BAD_GATEWAY, "The entry's path is not valid.");
        };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        // Before the server has the values, and can write them.
        for value in secret_values(headers) {
            self.redactor.learn(&String::from_utf8_lossy(value.as_bytes()));
        }
        headers.remove(SECRET_HEADERS);
        strip(headers);
        let Some((request, description)) = asked(request).await else {
            return text(StatusCode::BAD_REQUEST, "The message broke off.");
        };
        match self.client.request(request).await {
            Ok(mut response) => {
                strip(response.headers_mut());
                let redactor = Arc::clone(&self.redactor);
                screened(response, Rules { redactor, description })
            }
            Err(error) if error.is_connect() => self.not_received(&error).await,
            // Not necessarily by a fault of the server: it may have been stopped.
            Err(_) => unanswered(
                "The MCP server ended the connection before it had answered: it failed at this request, has ended, or was stopped. It may have done \
                 its work: check that, then try again. The log of its runtime may say why.",
            ),
        }
    }

    /// Answers a request for which there is no connection.
    async fn not_received(&self, error: &legacy::Error) -> Response<Body> {
        let cause = io_cause(error);
        match cause.map(io::Error::kind) {
            // Nobody may know yet that it has ended. Its successor gets the request.
            Some(io::ErrorKind::ConnectionRefused) => match timeout(self.ending, ended(&mut self.end.clone())).await {
                Ok(_) => not_taken("null"),
                Err(_) => unanswered(
                    "The MCP server runs, but no longer listens on its port. It did not receive the request. Its owner or an admin must restart its \
                     runtime.",
                ),
            },
            Some(io::ErrorKind::TimedOut) => unanswered(&format!(
                "The MCP server accepted no connection within {} s. It did not receive the request: try again in a moment. If this happens again, its \
                 owner or an admin must restart its runtime.",
                CONNECT.as_secs()
            )),
            _ => {
                let cause = cause.map_or("no cause is known".to_owned(), ToString::to_string);
                unanswered(&format!(
                    "Chandlery cannot connect to the MCP server: {cause}. The server did not receive the request: try again in a moment."
                ))
            }
        }
    }
}

/// The error of the operating system that caused this one.
fn io_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| io_cause(error.source()?))
}

/// The caller gets an answer, and not a connection that breaks.
fn unanswered(why: &str) -> Response<Body> {
    json(StatusCode::BAD_GATEWAY, error("null", SERVER_ENDED, why))
}

/// The values of the headers that [`SECRET_HEADERS`] names.
fn secret_values(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let named = headers.get(SECRET_HEADERS).and_then(|names| names.to_str().ok());
    let names = named.unwrap_or_default().split(',');
    names.flat_map(|name| headers.get_all(name.trim()))
}

fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove(NOT_TAKEN_HEADER);
    headers.remove(CALLER_HEADER);
}
