//! The gRPC `ToolService`: each method parses, makes one call into the stations, and converts.

mod admission;
mod convert;
mod status;

use std::sync::Arc;

use contracts::{
    gateway::{
        CallToolRequest, CallToolResponse, DiscoverToolsRequest, DiscoverToolsResponse, ErrorReason,
        ExplainResolutionRequest, ExplainResolutionResponse, ListToolsRequest, ListToolsResponse, SearchToolsRequest,
        SearchToolsResponse, tool_service_server::ToolService,
    },
    registry::{AccessAction, GetUserRequest, user_service_client::UserServiceClient},
};
use registry_client::access::Access;
use service_kit::{
    UserId, identity,
    page_token::{self, PageTokens},
    status::{Violations, not_found, page_size},
    turns::in_place,
};
use tonic::{Code, Extensions, Request, Response, Status, metadata::MetadataMap, transport::Channel};

use crate::{
    calls::Calls,
    discovery::Discovery,
    domain::{Caller, CallerUser, ConsumerKind, ConsumerRef, Links},
    identity::Refusal,
    json::Object,
    listing::{Listings, MOST_QUERY, Use},
    resolve,
    snapshot::Store,
};

pub(crate) use admission::Admission;
use admission::Held;

/// What the methods work with.
pub(crate) struct Tools {
    /// What the registry says.
    pub(crate) store: Arc<Store>,
    /// Lists of tools.
    pub(crate) listings: Arc<Listings>,
    /// Makes calls.
    pub(crate) calls: Arc<Calls>,
    /// Asks servers for their tools.
    pub(crate) discovery: Arc<Discovery>,
    /// Makes links.
    pub(crate) links: Links,
    /// Seals page tokens.
    pub(crate) pages: PageTokens,
    /// Asks the registry who may do what.
    pub(crate) access: Access,
    /// The registry's users.
    pub(crate) users: UserServiceClient<Channel>,
}

#[tonic::async_trait]
impl ToolService for Tools {
    async fn list_tools(&self, request: Request<ListToolsRequest>) -> Result<Response<ListToolsResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let caller = caller(&extensions)?;
        let mut violations = Violations::new();
        let consumer = parent(&request.parent, &mut violations);
        let size = size(request.page_size, &mut violations);
        let consumer = violations.into_result(consumer)?;
        let binding = format!("ListTools\n{consumer}\n{}", caller.subject_name());
        let after: Option<String> = self.pages.open(&binding, &request.page_token)?;
        let snapshot = self.store.load().map_err(status::of_call)?;
        let page =
            resolve::page(&snapshot, &caller, &consumer, None, after.as_deref(), size).map_err(status::of_call)?;
        let next_page_token = page
            .tools
            .last()
            .filter(|_| page.more)
            .map(|last| self.pages.seal(&binding, &&*last.exposed_name));
        Ok(Response::new(ListToolsResponse {
            tools: convert::exposed_tools(&page.tools, &consumer, &self.links),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn search_tools(
        &self,
        request: Request<SearchToolsRequest>,
    ) -> Result<Response<SearchToolsResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let caller = caller(&extensions)?;
        let mut violations = Violations::new();
        let consumer = parent(&request.parent, &mut violations);
        if request.query.chars().nth(MOST_QUERY).is_some() {
            violations.add("query", format!("must have at most {MOST_QUERY} characters"));
        }
        let size = size(request.page_size, &mut violations);
        let consumer = violations.into_result(consumer)?;
        let binding = format!("SearchTools\n{consumer}\n{}\n{}", caller.subject_name(), request.query);
        let after: Option<String> = self.pages.open(&binding, &request.page_token)?;
        let snapshot = self.store.load().map_err(status::of_call)?;
        let listing = self.listings.of(&snapshot, &caller, &consumer, None, Use::Search);
        let found = listing.await.map_err(status::of_call)?.find(&request.query).await;
        let rest = found.after(after.as_deref()).ok_or_else(page_token::gone)?;
        let more = rest.len() > size;
        let page: Vec<&str> = rest.take(size).map(|tool| &*tool.exposed_name).collect();
        let next = page.last().filter(|_| more);
        let next_page_token = next.map(|last| self.pages.seal(&binding, last));
        let tools = resolve::named(&snapshot, &caller, &consumer, page).map_err(status::of_call)?;
        Ok(Response::new(SearchToolsResponse {
            tools: convert::exposed_tools(&tools, &consumer, &self.links),
            next_page_token: next_page_token.unwrap_or_default(),
            total_size: i32::try_from(found.len()).unwrap_or(i32::MAX),
        }))
    }

    async fn call_tool(&self, request: Request<CallToolRequest>) -> Result<Response<CallToolResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = caller(&extensions)?;
        let mut violations = Violations::new();
        let consumer = parent(&request.parent, &mut violations);
        tool(&request.exposed_name, &mut violations);
        if !request.arguments_json.is_empty() {
            let parse = || Object::parse(&request.arguments_json).map(drop);
            if let Err(error) = in_place(request.arguments_json.len(), parse).await {
                violations.add("arguments_json", format!("must be a JSON object: {error}"));
            }
        }
        let consumer = violations.into_result(consumer)?;
        let call = self.calls.call_tool(
            &caller,
            &consumer,
            &request.exposed_name,
            &request.arguments_json,
            metadata.as_ref(),
        );
        let result = call.await.map_err(status::of_call)?;
        let converted = in_place(result.len(), || convert::result(&result)).await?;
        let mut response = Response::new(converted);
        response.extensions_mut().insert(Held(result));
        Ok(response)
    }

    async fn discover_tools(
        &self,
        request: Request<DiscoverToolsRequest>,
    ) -> Result<Response<DiscoverToolsResponse>, Status> {
        // A gateway token does not work here: this is the control plane.
        let user = identity::require_user(&request)?;
        let token = caller(request.extensions())?.token;
        let name = request.into_inner().installation;
        let mut violations = Violations::new();
        if name
            .strip_prefix("installations/")
            .is_none_or(|id| id.is_empty() || id.len() > 64 || id.contains('/'))
        {
            violations.add("installation", "must be installations/{installation}");
        }
        violations.into_result(())?;
        let answer = self
            .access
            .installation(&name, &user, AccessAction::Manage)
            .await
            .map_err(status::passed_on)?;
        let snapshot = self.store.load().map_err(status::of_call)?;
        let running = snapshot.authorized(&answer).ok_or_else(|| not_found(&name))?;
        drop(snapshot);
        if !running.usable() {
            return Err(status::unusable(&running, &self.links));
        }
        let discovered = self.discovery.now(&running, token).await;
        let tools = discovered.map_err(|failure| status::of_discovery(&failure, &running, &self.links))?;
        Ok(Response::new(DiscoverToolsResponse { tools }))
    }

    async fn explain_resolution(
        &self,
        request: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = caller(&extensions)?;
        let mut violations = Violations::new();
        let consumer = parent(&request.parent, &mut violations);
        tool(&request.exposed_name, &mut violations);
        let user = (!request.user.is_empty()).then(|| request.user.strip_prefix("users/").and_then(UserId::parse));
        if user == Some(None) {
            violations.add("user", "must be users/{user}");
        }
        let consumer = violations.into_result(consumer)?;
        // What somebody else calls with is not known.
        let mut without_jwt = caller.token.is_none();
        let subject = match user.flatten() {
            Some(user) if caller.user().is_none_or(|caller| caller.id != user) => {
                without_jwt = false;
                self.somebody_else(&caller, &user, &metadata).await?
            }
            _ => caller,
        };
        let snapshot = self.store.load().map_err(status::of_call)?;
        let mut explanation = resolve::explain(&snapshot, &subject, &consumer, &request.exposed_name, &self.links)
            .map_err(status::of_call)?;
        if without_jwt {
            explanation.credential = explanation.credential.map(resolve::ExplainedCredential::without_jwt);
        }
        let running = explanation.chosen.as_ref().and_then(|chosen| snapshot.running(chosen));
        let pause = running.and_then(|running| self.calls.pause(&running, &subject.subject_name()));
        Ok(Response::new(convert::explanation(explanation, pause)))
    }
}

impl Tools {
    /// Another user, as the registry knows them. The request carries the admin's own token.
    async fn somebody_else(&self, caller: &Caller, user: &UserId, metadata: &MetadataMap) -> Result<Caller, Status> {
        if caller.user().is_none_or(|caller| !caller.admin) {
            return Err(status::of(
                Code::PermissionDenied,
                ErrorReason::PermissionDenied,
                "only admins may ask where somebody else's calls go",
            )
            .build());
        }
        let mut request = Request::new(GetUserRequest {
            name: user.resource_name(),
        });
        if let Some(token) = metadata.get("authorization") {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let known = self
            .users
            .clone()
            .get_user(request)
            .await
            .map_err(status::passed_on)?
            .into_inner();
        Ok(Caller::person(CallerUser {
            id: user.clone(),
            issuer: known.issuer,
            subject: known.subject,
            groups: Vec::new(),
            machine: known.machine,
            admin: false,
        }))
    }
}

/// Who calls, as [`Admission::admit`] has found out.
fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    let caller = extensions.get::<Caller>().cloned();
    caller.ok_or_else(|| status::of_refusal(Refusal::Anonymous))
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").finish_non_exhaustive()
    }
}

/// The gateway or agent that a request names. Where it names none, there is a violation, and what is returned is not used.
fn parent(name: &str, violations: &mut Violations) -> ConsumerRef {
    ConsumerRef::parse(name).unwrap_or_else(|| {
        violations.add("parent", "must be gateways/{gateway} or agents/{agent}");
        ConsumerRef::new(ConsumerKind::Gateway, "")
    })
}

/// How many tools a page has that is requested with this size.
fn size(requested: i32, violations: &mut Violations) -> usize {
    let size = page_size(requested).unwrap_or_else(|wrong| {
        violations.extend("", wrong);
        0
    });
    usize::try_from(size).unwrap_or_default()
}

fn tool(name: &str, violations: &mut Violations) {
    let valid = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if !valid {
        violations.add("exposed_name", "must be an exposed name: 1 to 64 of [A-Za-z0-9_-]");
    }
}
