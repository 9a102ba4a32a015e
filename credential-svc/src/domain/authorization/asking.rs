//! Asks for another token: with what, and until when.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    attempts::Trouble,
    client,
    grant::Grant,
    plan::{ClientCredentials, Server, SignIn, Source},
    requests,
    servers::{AuthorizationServers, Client, ServerError, TokenRequest, Tokens},
};
use crate::domain::{credentials::Credentials, state::State};

/// How long it may take until a request is sent: the server's metadata may have to be read, and others may be before it.
pub(super) const SENT: Duration = Duration::from_secs(10);
/// How long the server may take from then on.
pub(super) const ANSWER: Duration = Duration::from_secs(22);

/// A request, and what is kept of it with the answer.
pub(super) struct Asking {
    pub(super) server: Server,
    pub(super) client: Client,
    request: TokenRequest,
    /// The grant without what is issued. Its scopes are those that are asked for.
    pub(super) grant: Grant,
}

/// What a server answered, and when it was asked.
pub(super) struct Answer {
    pub(super) tokens: Tokens,
    pub(super) asked_at: i64,
}

impl<S, R, A: AuthorizationServers> Credentials<S, R, A> {
    /// Asks the server, if it can be asked before `until`.
    pub(super) async fn ask(&self, asking: &Asking, until: Instant) -> Result<Answer, ServerError> {
        let servers = &self.authorization.servers;
        let ready = async {
            let metadata = servers.metadata(&asking.server).await?;
            let turn = servers.turn(&metadata).await?;
            Ok((metadata, turn))
        };
        let late = |why: &str| ServerError::Unavailable(why.to_owned());
        let ready = timeout_at(until, ready).await;
        let (metadata, turn) =
            ready.unwrap_or_else(|_| Err(late("the authorization server could not be asked in time")))?;
        // Others may have been before it for seconds.
        if self.is_stopping() {
            return Err(late("Chandlery is being stopped"));
        }
        let asked_at = self.clock.now_micros();
        let answer = timeout(ANSWER, servers.token(turn, &metadata, &asking.client, &asking.request)).await;
        let tokens = answer.unwrap_or_else(|_| Err(late("the authorization server did not answer in time")))?;
        Ok(Answer { tokens, asked_at })
    }

    /// What to ask for. `None`: there is nothing to ask with, any more.
    pub(super) fn asking(&self, state: &State) -> Result<Option<Asking>, Trouble> {
        let source = state.plan.tokens.as_ref().map(|tokens| &tokens.source);
        match source {
            Some(Source::SignIn(plan)) => account(state, plan),
            Some(Source::ClientCredentials(plan)) => machine(state, plan, self.clock.now_micros()).map(Some),
            Some(Source::Exchange(_) | Source::Passthrough(_)) | None => Ok(None),
        }
    }
}

/// What gets a machine's token.
fn machine(state: &State, plan: &ClientCredentials, now: i64) -> Result<Asking, Trouble> {
    let client = client::resolve(&state.plan, &state.secrets, &plan.client).map_err(|error| Trouble::own(&error))?;
    let tokens = &state.secrets.own.tokens;
    Ok(Asking {
        server: plan.server.clone(),
        request: requests::client_credentials(plan),
        grant: Grant {
            server: plan.server.clone(),
            client_id: client.id.clone(),
            authentication: None,
            resource: plan.resource.clone(),
            scopes: plan.scopes.clone(),
            declined: Vec::new(),
            basis: requests::basis(&state.plan, plan, &state.secrets, &client.id),
            access: "".into(),
            expire_time: None,
            refresh: None,
            account: String::new(),
            connect_time: tokens.grant.as_ref().map_or(now, |grant| grant.connect_time),
            refresh_time: now,
        },
        client,
    })
}

/// What refreshes an account's token. `None`: the account was disconnected, or connected elsewhere.
fn account(state: &State, plan: &SignIn) -> Result<Option<Asking>, Trouble> {
    let Some(grant) = state.secrets.own.tokens.grant.clone() else {
        return Ok(None);
    };
    let Some(refresh) = grant.refresh.clone().filter(|_| grant.fits(plan)) else {
        return Ok(None);
    };
    let client = match (&grant.authentication, &plan.client) {
        (Some(authentication), _) => Client {
            id: grant.client_id.clone(),
            authentication: authentication.clone(),
        },
        (None, Some(client)) => {
            client::resolve(&state.plan, &state.secrets, client).map_err(|error| Trouble::own(&error))?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Asking {
        server: grant.server.clone(),
        request: requests::refresh(&grant, &refresh),
        client,
        grant,
    }))
}
