//! The Observer service.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use flows::{Entry, Ring};
use futures::stream::Empty;
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::proto::observer::observer_server::Observer;
use crate::proto::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
};
use crate::proto::relay::NodeState;
use crate::reader;
use crate::recording::{self, Recording};

/// What clients are told of the server's version.
const VERSION: &str = concat!("fqdnd v", env!("CARGO_PKG_VERSION"));

/// The service over one recording.
pub struct Service<R> {
    recording: Arc<R>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<GetFlowsResponse, Status>> + Send>>;

impl<R: Recording> Service<R> {
    /// The service over `recording`.
    pub fn new(recording: Arc<R>) -> Self {
        Self { recording }
    }

    fn uptime_ns(&self) -> u64 {
        u64::try_from(self.recording.uptime().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[tonic::async_trait]
impl<R: Recording> Observer for Service<R> {
    type GetFlowsStream = Responses;
    type GetAgentEventsStream = Empty<Result<GetAgentEventsResponse, Status>>;
    type GetDebugEventsStream = Empty<Result<GetDebugEventsResponse, Status>>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Responses>, Status> {
        let responses = reader::flows(Arc::clone(&self.recording), request.get_ref())
            .await
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(Box::pin(responses.map(Ok))))
    }

    async fn get_agent_events(
        &self,
        _: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        Err(Status::unimplemented("fqdnd has no agent events; its log and `fqdnctl status` tell"))
    }

    async fn get_debug_events(
        &self,
        _: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        Err(Status::unimplemented("fqdnd has no debug events"))
    }

    async fn get_nodes(
        &self,
        _: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        self.recording.catch_up().await;
        let uptime_ns = self.uptime_ns();
        let node = self.recording.look(|ring| Node {
            name: self.recording.node().to_owned(),
            version: VERSION.to_owned(),
            address: String::new(),
            state: NodeState::NodeConnected.into(),
            tls: None,
            uptime_ns,
            num_flows: held(ring),
            max_flows: capacity(ring),
            seen_flows: ring.flows(),
        });
        Ok(Response::new(GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        self.recording.catch_up().await;
        let mut names = BTreeSet::new();
        recording::each(&*self.recording, |entry| add_namespaces(entry, &mut names)).await;
        let namespace = |namespace| Namespace { cluster: String::new(), namespace };
        let namespaces = names.into_iter().map(namespace).collect();
        Ok(Response::new(GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        self.recording.catch_up().await;
        let (now, uptime) = (recording::now(), self.recording.uptime());
        let uptime_ns = self.uptime_ns();
        let status = self.recording.look(|ring| ServerStatusResponse {
            num_flows: held(ring),
            max_flows: capacity(ring),
            seen_flows: ring.flows(),
            uptime_ns,
            num_connected_nodes: Some(1),
            num_unavailable_nodes: Some(0),
            unavailable_nodes: Vec::new(),
            version: VERSION.to_owned(),
            flows_rate: recording::rate(ring, now, uptime),
        });
        Ok(Response::new(status))
    }
}

fn held(ring: &Ring) -> u64 {
    ring.len() as u64
}

fn capacity(ring: &Ring) -> u64 {
    ring.capacity().get() as u64
}

/// The namespaces of both ends and of services.
fn add_namespaces(entry: &Entry, names: &mut BTreeSet<String>) {
    let Entry::Flow(flow) = entry else { return };
    let service = flow.destination_service.as_deref().map_or("", |own| &own.namespace);
    for name in [flow.source.pod().0, flow.destination.pod().0, service] {
        if !name.is_empty() && !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
}
