//! The service with entries whose tokens come from an authorization server, and what people and callers do with them.

use std::{future::ready, sync::Arc};

use registry_model::destination::Destination;
use secrecy::ExposeSecret as _;

use super::{
    Bench,
    service::{HOME, MemoryRegistry, Process, Service},
};
use crate::domain::{
    authorization::{
        asked::Asked,
        fake::{FakeServers, ISSUER},
        finishing::Returned,
        plan::{
            AuthenticationPlan, ClientCredentials, ClientId, ClientPlan, Resource, Server, SignIn, Source as Tokens,
            TokenPlan,
        },
        starting::Started,
    },
    error::Error,
    injection::Injection,
    owner::Source,
    plan::{Plan, SecretField, Target},
    ports::Store,
    summary::Summary,
};

pub(super) const ALICE: &str = "alice";

/// An account at the server that the upstream names; the field `other` is optional.
pub(super) fn sign_in() -> SignIn {
    SignIn {
        server: None,
        client: None,
        scopes: Vec::new(),
        resource: Resource::OfUpstream,
        parameters: vec![("hint".to_owned(), "a b".to_owned())],
        upstream: Some(format!("{HOME}/mcp")),
    }
}

/// A client whose secret is in the field `secret`.
pub(super) fn client() -> ClientPlan {
    ClientPlan {
        id: ClientId::Given("machine".to_owned()),
        authentication: AuthenticationPlan::Basic("secret".to_owned()),
    }
}

/// A machine with that client.
pub(super) fn machine() -> Tokens {
    Tokens::ClientCredentials(ClientCredentials {
        server: Server::Issuer(ISSUER.to_owned()),
        client: client(),
        scopes: vec!["read".to_owned()],
        resource: format!("{HOME}/mcp"),
        audience: "tools".to_owned(),
    })
}

/// A plan with these tokens, and a field `secret` from `source`.
pub(super) fn plan(tokens: Tokens, source: Source) -> Plan {
    let field = |key: &str, source, target| SecretField {
        key: key.to_owned(),
        title: key.to_owned(),
        required: false,
        source,
        target,
    };
    Plan {
        destination: Some(Destination {
            binding: HOME.to_owned(),
            description: HOME.to_owned(),
            parts: Vec::new(),
        }),
        fields: vec![
            field("secret", source, Target::Model),
            field("other", Source::Prompted, Target::Header("x-other".to_owned())),
        ],
        primary: None,
        tokens: Some(TokenPlan {
            source: tokens,
            injection: Injection::Bearer,
        }),
    }
}

/// A place for records, a registry and an authorization server, which replicas share.
pub(super) struct World<B> {
    pub(super) bench: B,
    pub(super) registry: MemoryRegistry,
    pub(super) servers: FakeServers,
    plan: Plan,
}

impl<B: Bench> World<B> {
    pub(super) async fn new(plan: Plan) -> Self {
        Self {
            bench: B::new().await,
            registry: MemoryRegistry::default(),
            servers: FakeServers::default(),
            plan,
        }
    }

    /// With an account of alice's, as [`sign_in`] has it.
    pub(super) async fn of_accounts() -> Self {
        Self::new(plan(Tokens::SignIn(sign_in()), Source::Prompted)).await
    }

    pub(super) async fn replica(&self) -> Arc<Service<B::Store>> {
        self.process(Process::default()).await
    }

    /// After the entry has changed.
    pub(super) async fn replica_with(&self, sign_in: SignIn) -> Arc<Service<B::Store>> {
        let (store, plan) = (
            self.bench.connect().await,
            plan(Tokens::SignIn(sign_in), Source::Prompted),
        );
        Arc::new(Service::with(
            store,
            &self.registry,
            plan,
            &self.servers,
            Process::default(),
        ))
    }

    pub(super) async fn replica_at(&self, public_url: &'static str) -> Arc<Service<B::Store>> {
        self.process(Process {
            public_url,
            ..Process::default()
        })
        .await
    }

    pub(super) async fn process(&self, process: Process) -> Arc<Service<B::Store>> {
        let store = self.bench.connect().await;
        let plan = self.plan.clone();
        Arc::new(Service::with(store, &self.registry, plan, &self.servers, process))
    }
}

impl<S: Store> Service<S> {
    pub(super) async fn start(&self, user: &str) -> Result<Started, Error> {
        self.credentials
            .start_authorization(&self.subject("a"), user, Some(HOME))
            .await
    }

    /// The browser of `user` comes back; `change` is what is special about it.
    pub(super) async fn finish(
        &self,
        user: &str,
        started: &Started,
        change: impl FnOnce(&mut Returned),
    ) -> Result<Summary, Error> {
        let mut returned = Returned {
            user: user.to_owned(),
            state: started.state.clone(),
            code: "canary-code".into(),
            issuer: ISSUER.to_owned(),
            error: String::new(),
            error_description: String::new(),
            redirect_uri: String::new(),
        };
        change(&mut returned);
        let done = self
            .credentials
            .finish_authorization(self.subject("a"), returned, || ready(self.registry.permits()))
            .await?;
        Ok(done.summary)
    }

    /// Connects alice's account.
    pub(super) async fn connect(&self) -> Summary {
        let started = self.start(ALICE).await.unwrap();
        self.finish(ALICE, &started, |_| {}).await.unwrap()
    }

    /// The value of `authorization`, and the number of the token in it.
    pub(super) async fn call(&self, asked: Asked) -> Result<(String, i64), Error> {
        let vended = self.credentials.vend_headers("a", HOME, &asked).await?;
        assert!(vended.expire_time > self.now(), "it can be used");
        let header = vended.secrets.iter().find(|(name, _)| name == "authorization");
        Ok((header.unwrap().1.expose_secret().to_owned(), vended.token_number))
    }

    /// The same for a call that knows nothing of earlier ones.
    pub(super) async fn token(&self) -> Result<(String, i64), Error> {
        self.call(Asked::default()).await
    }

    /// Waits until calls get the token with this number.
    pub(super) async fn token_comes(&self, number: i64) -> String {
        loop {
            let (token, present) = self.token().await.unwrap();
            if present == number {
                return token;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The header and number of the fake's token.
pub(super) fn bearer(issued: usize, number: i64) -> (String, i64) {
    (format!("Bearer canary-access-{issued}"), number)
}

/// After this token was rejected.
pub(super) fn rejected(number: i64) -> Asked {
    Asked {
        rejected_token: number,
        ..Asked::default()
    }
}

/// After the upstream demanded these scopes.
pub(super) fn demanded(scopes: &[&str]) -> Asked {
    Asked {
        demanded: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..Asked::default()
    }
}
