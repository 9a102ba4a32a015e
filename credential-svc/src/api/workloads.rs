//! VendService, for workloads.

use std::sync::Arc;

use contracts::credential::{
    VendHeadersRequest, VendHeadersResponse, VendRuntimeRequest, VendRuntimeResponse, VendedField, VendedHeader,
    vend_service_server::VendService,
};
use secrecy::ExposeSecret as _;
use service_kit::{Workload, identity::require_workload, status::Violations};
use tonic::{Request, Response, Status};

use crate::{
    convert,
    domain::{
        authorization::{
            asked::{Asked, Generations},
            scopes,
            servers::AuthorizationServers,
        },
        credentials::Credentials,
        owner::Owner,
        ports::{Registry, Store},
    },
};

/// Serves workloads.
#[derive(Debug)]
pub(crate) struct Workloads<S, R, A> {
    credentials: Arc<Credentials<S, R, A>>,
}

impl<S, R, A> Workloads<S, R, A> {
    pub(crate) fn new(credentials: Arc<Credentials<S, R, A>>) -> Self {
        Self { credentials }
    }
}

#[tonic::async_trait]
impl<S: Store, R: Registry, A: AuthorizationServers> VendService for Workloads<S, R, A> {
    async fn vend_headers(
        &self,
        request: Request<VendHeadersRequest>,
    ) -> Result<Response<VendHeadersResponse>, Status> {
        require_workload(&request, &[Workload::Gateway])?;
        let VendHeadersRequest {
            installation_uid,
            destination,
            rejected_credential_generation,
            rejected_entry_credential_generation,
            rejected_token_number,
            demanded_scopes,
            caller,
            known_credential_generation,
            known_entry_credential_generation,
        } = request.into_inner();
        let asked = Asked {
            known: Generations {
                own: known_credential_generation,
                entry: known_entry_credential_generation,
            },
            rejected: Generations {
                own: rejected_credential_generation,
                entry: rejected_entry_credential_generation,
            },
            rejected_token: rejected_token_number,
            demanded: scopes::parse(&demanded_scopes),
            caller: caller.map(convert::caller),
        };
        let vended = self
            .credentials
            .vend_headers(&installation_uid, &destination, &asked)
            .await?;
        let header = |(name, value): (String, secrecy::SecretString)| VendedHeader {
            name,
            value: value.expose_secret().to_owned(),
        };
        Ok(Response::new(VendHeadersResponse {
            headers: vended.secrets.into_iter().map(header).collect(),
            credential_generation: vended.generation,
            entry_credential_generation: vended.entry_credential_generation,
            expire_time: Some(vended.expire_time.into()),
            token_number: vended.token_number,
            for_caller_only: vended.for_caller_only,
        }))
    }

    async fn vend_runtime(
        &self,
        request: Request<VendRuntimeRequest>,
    ) -> Result<Response<VendRuntimeResponse>, Status> {
        require_workload(&request, &[Workload::Orchestrator])?;
        let VendRuntimeRequest {
            installation_uid,
            destination,
            entry_uid,
        } = request.into_inner();
        let owner = match (installation_uid.is_empty(), entry_uid.is_empty()) {
            (false, true) => Owner::Installation(installation_uid),
            (true, false) => Owner::Entry(entry_uid),
            _ => {
                let mut violations = Violations::new();
                violations.add("entry_uid", "must be set, or installation_uid: one of the two");
                return Err(violations.into());
            }
        };
        let vended = self.credentials.vend_runtime(&owner, &destination).await?;
        let field = |(key, value): (String, secrecy::SecretString)| VendedField {
            key,
            value: value.expose_secret().to_owned(),
        };
        Ok(Response::new(VendRuntimeResponse {
            fields: vended.secrets.into_iter().map(field).collect(),
            credential_generation: vended.generation,
            entry_credential_generation: vended.entry_credential_generation,
            expire_time: Some(vended.expire_time.into()),
        }))
    }
}
