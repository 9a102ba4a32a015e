//! A person begins to connect an account.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{
    clock::{from_micros, to_micros},
    status::Violations,
};
use url::Url;

use super::{
    client,
    grant::Tokens,
    pending::{self, Pending},
    plan::{Resource, Server, SignIn, Source},
    scopes,
    servers::{Authentication, AuthorizationServers, Client, Metadata, Upstream},
};
use crate::domain::{
    credentials::{Credentials, Current, TRIES},
    destination::{Moved, Present},
    error::Error,
    owner::{self, Owner},
    plan::Plan,
    ports::{Registry, Store, Written},
    record::{Record, Value},
    rendering::Secrets,
    views::Subject,
};

/// The scope with which servers issue refresh tokens (OpenID Connect Core 1.0, section 11).
const OFFLINE: &str = "offline_access";
/// The scopes with which servers say whose account it is (OpenID Connect Core 1.0, sections 3.1.2.1 and 5.4).
const IDENTITY: [&str; 2] = ["openid", "email"];

/// Where browsers come back to, at gateway-svc; or below it, from one server.
pub(super) const CALLBACK: &str = "/oauth/callback";
/// Parameters that are for this service to set, whatever the query of an authorization endpoint has.
const RESERVED: [&str; 10] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "resource",
    "request",
    "request_uri",
];
/// Bytes of a digest that tell servers apart.
const TAG: usize = 16;

/// Where a person signs in.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) url: String,
    pub(crate) state: SecretString,
    /// Microseconds since 1970.
    pub(crate) expire_time: i64,
}

/// The server of a sign-in, the client there, and what is asked for.
struct Request {
    server: Server,
    metadata: std::sync::Arc<Metadata>,
    client_id: String,
    /// As `Grant::authentication`.
    authentication: Option<Authentication>,
    resource: String,
    scopes: Vec<String>,
    redirect_uri: String,
}

impl<S: Store, R: Registry, A: AuthorizationServers> Credentials<S, R, A> {
    /// Begins a sign-in of `user`, to whom the destination was `shown`, if any was.
    pub(crate) async fn start_authorization(
        &self,
        subject: &Subject,
        user: &str,
        shown: Option<&str>,
    ) -> Result<Started, Error> {
        self.admit(subject)?;
        let (plan, entry) = signs_in(subject)?;
        let present = self.shown(subject, shown).await?;
        let owner = subject.owner();
        let secrets = self.secrets(subject, &owner, &entry).await?;
        check_binding(subject.plan(), &present, &secrets)?;
        let request = self.request(subject.plan(), plan, &entry, &secrets).await?;

        let (state, verifier) = (pending::new_state(owner.uid()), pending::new_verifier());
        let expire_time = self.clock.now_micros() + to_micros(std::time::UNIX_EPOCH + pending::LIFETIME);
        let url = url(plan, &request, &state, &verifier)?;
        let pending = Pending {
            state: pending::hash(state.expose_secret()),
            verifier,
            server: request.server,
            client_id: request.client_id,
            authentication: request.authentication,
            resource: request.resource,
            scopes: request.scopes,
            redirect_uri: request.redirect_uri,
            user: user.to_owned(),
            destination: present.destination,
            expire_time,
        };
        self.begin(subject, &owner, pending).await?;
        Ok(Started {
            url,
            state,
            expire_time,
        })
    }

    /// The present destination, if that is the one that was shown.
    async fn shown(&self, subject: &Subject, shown: Option<&str>) -> Result<Present, Error> {
        let Some(present) = self.present(subject).await? else {
            let mut violations = Violations::new();
            violations.add("", "the entry has no server to send tokens to");
            return Err(Error::Invalid(violations));
        };
        if shown.is_some_and(|shown| shown != present.destination) {
            return Err(Error::DestinationStale {
                present: present.destination,
            });
        }
        Ok(present)
    }

    async fn begin(&self, subject: &Subject, owner: &Owner, pending: Pending) -> Result<(), Error> {
        for _ in 0..TRIES {
            let current = self.current(owner, 0).await?;
            let Current { version, record } = current.ok_or_else(|| Error::NotFound(subject.name()))?;
            let mut next = record;
            next.tokens.pending = pending::with(&next.tokens.pending, self.clock.now_micros(), pending.clone());
            if self.store.write(owner, version, Value::Record(next)).await? == Written::Done {
                return Ok(());
            }
        }
        Err(Error::Contended)
    }

    /// The secrets of the installation and of its entry, with which a client authenticates.
    pub(super) async fn secrets(&self, subject: &Subject, owner: &Owner, entry: &Owner) -> Result<Secrets, Error> {
        let own = self
            .current(owner, 0)
            .await?
            .ok_or_else(|| Error::NotFound(subject.name()))?;
        let entry = self.record(entry, 0).await?;
        Ok(Secrets {
            own: own.record.into(),
            entry: entry.into(),
        })
    }

    async fn request(&self, plan: &Plan, sign_in: &SignIn, entry: &Owner, secrets: &Secrets) -> Result<Request, Error> {
        let servers = &self.authorization.servers;
        let upstream = match &sign_in.upstream {
            // Who connects again may have to because the upstream has moved to another authorization server.
            Some(url) => {
                let grant = secrets.own.tokens.grant.as_ref();
                servers
                    .upstream(url, grant.map(|grant| from_micros(grant.refresh_time)))
                    .await?
            }
            None => None,
        };
        let server = match (&sign_in.server, &upstream) {
            (Some(server), _) => server.clone(),
            (None, Some(upstream)) => first_server(upstream)?,
            (None, None) => origin_of(sign_in)?,
        };
        let metadata = servers.metadata(&server).await?;
        let name = server.issuer();
        let redirect_uri = self.redirect_uri(sign_in.client.is_some(), &server, &metadata)?;
        if metadata.authorization_endpoint.is_empty() {
            return Err(Error::AuthorizationServerRefused(format!(
                "nobody can sign in at the authorization server {name}: it has no authorization endpoint; an admin must change the entry"
            )));
        }
        if !metadata.has_pkce {
            return Err(Error::AuthorizationServerRefused(format!(
                "the authorization server {name} does not say that it supports PKCE with S256 (RFC 7636), so a code could be stolen; its operator \
                 must enable that, or an admin must name its endpoints in the entry"
            )));
        }
        let (client_id, authentication) = match &sign_in.client {
            Some(client) => (client::resolve(plan, secrets, client)?.id, None),
            None => {
                let client = self.own_client(entry, &server, &metadata, &redirect_uri).await?;
                (client.id, Some(client.authentication))
            }
        };
        let resource = match (&sign_in.resource, &upstream) {
            (Resource::Given(resource), _) => resource.clone(),
            (Resource::Omitted, _) => String::new(),
            (Resource::OfUpstream, Some(upstream)) => upstream.resource.clone(),
            (Resource::OfUpstream, None) => sign_in.upstream.clone().unwrap_or_default(),
        };
        Ok(Request {
            scopes: wanted(sign_in, upstream.as_deref(), &secrets.own, &metadata),
            server,
            metadata,
            client_id,
            authentication,
            resource,
            redirect_uri,
        })
    }

    /// The client of an entry that names none: its metadata document, where the server reads that, otherwise a registered one.
    async fn own_client(
        &self,
        entry: &Owner,
        server: &Server,
        metadata: &Metadata,
        redirect_uri: &str,
    ) -> Result<Client, Error> {
        let document = self.authorization.page(&format!("/oauth/client/{}.json", tag(server)));
        // A server reads it over https only (draft-ietf-oauth-client-id-metadata-document, section 3).
        let document = document.filter(|url| metadata.takes_client_documents && url.starts_with("https://"));
        match document {
            Some(id) => Ok(Client {
                id,
                authentication: Authentication::None,
            }),
            None => self.registered(entry, server, metadata, redirect_uri).await,
        }
    }
}

impl<S, R, A> Credentials<S, R, A> {
    /// Where browsers come back to. One for each server: an answer of another server comes elsewhere, also if that does not say who it is
    /// (RFC 9700, section 4.4.2). A client that an admin has registered, which the entry names, has the one that all such clients share where
    /// its server says who it is: then no answer is taken that does not.
    pub(super) fn redirect_uri(&self, is_named: bool, server: &Server, metadata: &Metadata) -> Result<String, Error> {
        let uri = match is_named && metadata.sends_issuer {
            true => self.authorization.page(CALLBACK),
            false => self.authorization.page(&format!("{CALLBACK}/{}", tag(server))),
        };
        uri.ok_or_else(|| {
            Error::AuthorizationServerRefused(
                "credential-svc does not know where browsers reach the gateway; an operator must configure its public URL".to_owned(),
            )
        })
    }
}

/// Tells servers apart in paths.
fn tag(server: &Server) -> String {
    let hash = digest(&SHA256, server.issuer().as_bytes());
    BASE64URL_NOPAD.encode(&hash.as_ref()[..TAG])
}

/// The sign-in of a subject, and its entry.
pub(super) fn signs_in(subject: &Subject) -> Result<(&SignIn, Owner), Error> {
    let source = subject.plan().tokens.as_ref().map(|tokens| &tokens.source);
    match (subject, source) {
        (Subject::Installation(view, ..), Some(Source::SignIn(plan))) => {
            Ok((plan, Owner::Entry(view.entry_uid.clone())))
        }
        _ => {
            let mut violations = Violations::new();
            violations.add(
                "installation",
                "its entry does not connect accounts: its credential is not an OAuthCredential",
            );
            Err(Error::Invalid(violations))
        }
    }
}

/// Secrets of clients go to authorization servers only if their owners agreed.
fn check_binding(plan: &Plan, present: &Present, secrets: &Secrets) -> Result<(), Error> {
    let binding = plan.binding(None);
    // The tokens are about to be replaced.
    let own = Record {
        tokens: Tokens::default(),
        ..Record::clone(&secrets.own)
    };
    for (source, record, to) in [
        (owner::Source::Prompted, &own, Some(present.destination.clone())),
        (owner::Source::Stored, &secrets.entry, binding),
    ] {
        if plan.is_bound_elsewhere(source, record, to.as_deref()) {
            let moved = Moved {
                bound: record.bound_destination.clone(),
                present: to.unwrap_or_default(),
            };
            return Err(Error::DestinationChanged(source, moved));
        }
    }
    Ok(())
}

fn first_server(upstream: &Upstream) -> Result<Server, Error> {
    let first = upstream.authorization_servers.first().cloned().map(Server::Issuer);
    first.ok_or_else(|| unnamed("the server of the entry"))
}

/// Where revision 2025-03-26 of MCP has the authorization server: at the upstream itself.
fn origin_of(plan: &SignIn) -> Result<Server, Error> {
    let url = plan.upstream.as_deref().unwrap_or_default();
    let origin = Url::parse(url)
        .ok()
        .map(|url| url.origin())
        .filter(url::Origin::is_tuple);
    let origin = origin.ok_or_else(|| unnamed("the server of the entry"))?;
    Ok(Server::Issuer(origin.ascii_serialization()))
}

fn unnamed(who: &str) -> Error {
    Error::AuthorizationServerRefused(format!(
        "{who} names no authorization server (RFC 9728); an admin must name one in the entry"
    ))
}

/// The entry's scopes or the upstream's, those that the upstream has demanded since, and where the server knows them, the one with which a
/// token can be renewed and those that name the account.
fn wanted(plan: &SignIn, upstream: Option<&Upstream>, own: &Record, metadata: &Metadata) -> Vec<String> {
    let of_upstream = upstream.map(|upstream| upstream.scopes.clone()).unwrap_or_default();
    let base = if plan.scopes.is_empty() {
        of_upstream
    } else {
        plan.scopes.clone()
    };
    let knows = |scope: &&str| metadata.scopes.iter().any(|known| known == scope);
    let identity: &[&str] = if knows(&IDENTITY[0]) { &IDENTITY } else { &[] };
    let extra = [OFFLINE].into_iter().chain(identity.iter().copied()).filter(knows);
    // First what makes a connection last, so that no list is too long for it.
    scopes::union(
        scopes::union(extra.map(str::to_owned), base),
        own.tokens.demanded.clone(),
    )
}

/// The authorization request (RFC 6749, section 4.1.1; RFC 7636; RFC 8707).
fn url(plan: &SignIn, request: &Request, state: &SecretString, verifier: &SecretString) -> Result<String, Error> {
    let endpoint = &request.metadata.authorization_endpoint;
    let url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http"));
    let mut url = url.ok_or_else(|| {
        Error::AuthorizationServerRefused(format!(
            "the authorization endpoint of {} is not a web address; an admin must change the entry or the authorization server",
            request.server.issuer()
        ))
    })?;
    url.set_fragment(None);
    // What stands twice is read differently by different servers.
    let own: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    url.set_query(None);
    let scopes = request.scopes.join(" ");
    let has_offline = request.scopes.iter().any(|scope| scope == OFFLINE);
    let has_prompt = plan.parameters.iter().any(|(name, _)| name == "prompt");
    let mut query = url.query_pairs_mut();
    query
        .extend_pairs(own.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())))
        .append_pair("response_type", "code")
        .append_pair("client_id", &request.client_id)
        .append_pair("redirect_uri", &request.redirect_uri)
        .append_pair("state", state.expose_secret())
        .append_pair("code_challenge", &pending::challenge(verifier))
        .append_pair("code_challenge_method", "S256");
    if !scopes.is_empty() {
        query.append_pair("scope", &scopes);
    }
    if !request.resource.is_empty() {
        query.append_pair("resource", &request.resource);
    }
    // Without it, servers ignore `offline_access` (OpenID Connect Core 1.0, section 11).
    if has_offline && !has_prompt {
        query.append_pair("prompt", "consent");
    }
    query.extend_pairs(&plan.parameters);
    drop(query);
    Ok(url.into())
}
