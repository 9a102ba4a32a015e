//! EntryService.

use std::sync::Arc;

use contracts::registry::{
    ApproveEntryRequest, CreateEntryRequest, DeleteEntryRequest, DeprecateEntryRequest, Entry, EntryLifecycle,
    EntryRevision, GetEntryRequest, GetEntryRevisionRequest, ListEntriesRequest, ListEntriesResponse,
    ListEntryRevisionsRequest, ListEntryRevisionsResponse, ListEntryToolsRequest, ListEntryToolsResponse,
    UpdateEntryRequest, entry_service_server::EntryService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::operate::{Registry, entries, lifecycle, tools};

/// Answers for entries.
pub(crate) struct Entries(pub(crate) Arc<Registry>);

#[async_trait]
impl EntryService for Entries {
    async fn create_entry(&self, request: Request<CreateEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        let (entry, done) = entries::create(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(entry))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            entries::get(&self.0, &caller, &request.into_inner().name).await?,
        ))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            entries::list(&self.0, &caller, request.into_inner()).await?,
        ))
    }

    async fn update_entry(&self, request: Request<UpdateEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        let (entry, done) = entries::update(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(entry))
    }

    async fn delete_entry(&self, request: Request<DeleteEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        let (entry, done) = entries::delete(&self.0, &caller, request.into_inner()).await?;
        Ok(done.reply(entry))
    }

    async fn approve_entry(&self, request: Request<ApproveEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let step = lifecycle::step(&self.0, &caller, &request.name, &request.etag, EntryLifecycle::Approved);
        let (entry, done) = step.await?;
        Ok(done.reply(entry))
    }

    async fn deprecate_entry(&self, request: Request<DeprecateEntryRequest>) -> Result<Response<Entry>, Status> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let step = lifecycle::step(
            &self.0,
            &caller,
            &request.name,
            &request.etag,
            EntryLifecycle::Deprecated,
        );
        let (entry, done) = step.await?;
        Ok(done.reply(entry))
    }

    async fn get_entry_revision(
        &self,
        request: Request<GetEntryRevisionRequest>,
    ) -> Result<Response<EntryRevision>, Status> {
        let caller = self.0.caller(&request).await?;
        Ok(Response::new(
            entries::get_revision(&self.0, &caller, &request.into_inner().name).await?,
        ))
    }

    async fn list_entry_revisions(
        &self,
        request: Request<ListEntryRevisionsRequest>,
    ) -> Result<Response<ListEntryRevisionsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ListEntryRevisionsRequest {
            parent,
            page_size,
            page_token,
        } = request.into_inner();
        let (entry_revisions, next_page_token) =
            entries::list_revisions(&self.0, &caller, &parent, page_size, &page_token).await?;
        Ok(Response::new(ListEntryRevisionsResponse {
            entry_revisions,
            next_page_token,
        }))
    }

    async fn list_entry_tools(
        &self,
        request: Request<ListEntryToolsRequest>,
    ) -> Result<Response<ListEntryToolsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        let ListEntryToolsRequest {
            parent,
            page_size,
            page_token,
        } = request.into_inner();
        let (tools, next_page_token) = tools::of_entry(&self.0, &caller, &parent, page_size, &page_token).await?;
        Ok(Response::new(ListEntryToolsResponse { tools, next_page_token }))
    }
}
