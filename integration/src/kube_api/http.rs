//! Requests and answers.

use std::{collections::HashMap, convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::{
    KubeApiError, Shared, described, discovery,
    error::ApiError,
    exec::{self, PodCommand, Upgrading},
    resources::{Resource, Target},
    selectors::Selection,
    table,
    world::Write,
};

/// How long a watch lasts that does not say how long.
const WATCH: u64 = 300;
/// How many changes of a watch may wait to be sent.
const WAITING: usize = 16;
/// How much a client may send.
const BODY: usize = 3 << 20;

/// Serves until it is told to stop; while it is away, nobody listens.
pub(super) fn serve(
    shared: &Arc<Shared>,
    acceptor: &TlsAcceptor,
    listener: TcpListener,
    again: impl Fn() -> Result<TcpListener, KubeApiError>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let listening = async {
        let mut changes = shared.changes.subscribe();
        let mut listener = Some(listener);
        loop {
            if let Some(listener) = listener.take() {
                accept(shared, acceptor, listener, &mut changes).await;
            }
            while shared.faults().away {
                let _ = changes.changed().await;
            }
            match again() {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = listening => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

/// Accepts until the server goes away, and cuts what is open then.
async fn accept(
    shared: &Arc<Shared>,
    acceptor: &TlsAcceptor,
    listener: TcpListener,
    changes: &mut watch::Receiver<u64>,
) {
    let prepared = listener.set_nonblocking(true);
    let Ok(listener) = prepared.and_then(|()| tokio::net::TcpListener::from_std(listener)) else {
        return;
    };
    let router = Router::new().fallback(handle).with_state(Arc::clone(shared));
    let mut cuts = shared.cuts.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (router, acceptor) = (router.clone(), acceptor.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        router.clone().call(request)
                    });
                    let connection = auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = connection
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
            _ = cuts.changed() => connections.abort_all(),
            _ = changes.changed() => {
                if shared.faults().away {
                    return;
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

type Parameters = HashMap<String, String>;

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let (delay, refused) = {
        let mut faults = shared.faults();
        let asked = parts.uri.path_and_query().map_or("", |asked| asked.as_str());
        faults.note(parts.method.as_str(), asked);
        (faults.delay, judge(&faults, asked, &parts.headers))
    };
    tokio::time::sleep(delay).await;
    if let Some((error, retry_after)) = refused {
        return failure(&error, retry_after);
    }
    let answered = match pod_command(&parts.uri) {
        Some((pod, command)) => {
            let upgrade = parts.extensions.remove();
            let asked = Upgrading { method: parts.method, headers: parts.headers, upgrade };
            match shared.kubelet(&pod) {
                Some(kubelet) => exec::stream(kubelet, command, asked).await,
                None => Err(ApiError::new(404, format!("no kubelet runs the pod {pod}"))),
            }
        }
        None => match axum::body::to_bytes(body, BODY).await {
            Ok(body) => answer(&shared, &parts.method, &parts.uri, &parts.headers, &body),
            Err(error) => Err(ApiError::new(400, error.to_string())),
        },
    };
    answered.unwrap_or_else(|error| failure(&error, None))
}

/// The pod, as `namespace/name`, and the command, where one is to run.
fn pod_command(uri: &Uri) -> Option<(String, PodCommand)> {
    let target = Target::read(uri.path()).filter(|own| own.part.as_deref() == Some("exec"))?;
    let Query(parameters) = Query::<Vec<_>>::try_from_uri(uri).ok()?;
    let pod = format!("{}/{}", target.namespace?, target.name?);
    Some((pod, PodCommand::read(&parameters)))
}

fn judge(
    faults: &super::Faults,
    asked: &str,
    headers: &HeaderMap,
) -> Option<(ApiError, Option<u32>)> {
    let token = text(headers, header::AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
    if !faults.tokens.iter().any(|good| good == token) {
        return Some((ApiError::new(401, "Unauthorized"), None));
    }
    let refusal = faults.refusal(asked)?;
    let message = match refusal.code {
        403 => format!("access to {asked} is forbidden for this user"),
        429 => "too many requests, please try again later".to_owned(),
        code => format!("answered {code} on purpose"),
    };
    Some((ApiError::new(refusal.code, message), refusal.retry_after))
}

fn failure(error: &ApiError, retry_after: Option<u32>) -> Response {
    let mut response = json_response(error.code, &error.status(retry_after));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn json_response(code: u16, value: &Value) -> Response {
    let mut response = json_body(Body::from(value.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn json_body(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn answer(
    shared: &Arc<Shared>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    if uri.path() == "/openapi/v2" && text(headers, header::ACCEPT).contains("protobuf") {
        let mut response = Response::new(Body::from(described::answer(&shared.world())));
        let form = header::HeaderValue::from_static(described::FORM);
        response.headers_mut().insert(header::CONTENT_TYPE, form);
        return Ok(response);
    }
    if let Some(said) = discovery::answer(&shared.world(), uri.path()) {
        return Ok(json_response(200, &said));
    }
    let unknown = || ApiError::new(404, "the server could not find the requested resource");
    let target = Target::read(uri.path()).ok_or_else(unknown)?;
    let resource = shared.world().resource(&target)?;
    let Query(parameters) = Query::<Parameters>::try_from_uri(uri)
        .map_err(|error| ApiError::new(400, error.to_string()))?;
    if *method == Method::GET {
        let watched = matches!(parameter(&parameters, "watch"), "true" | "1");
        let mut shown = match &target.name {
            Some(_) => shared.world().read(&resource, &target)?,
            None if watched => {
                return watch(shared, resource, &target, &parameters, is_tabular(headers));
            }
            None => list(shared, &resource, &target, &parameters)?,
        };
        if is_tabular(headers) {
            let whole = parameter(&parameters, "includeObject") == "Object";
            shown = table::of(&shared.world(), &resource, &shown, whole);
        }
        return Ok(json_response(200, &shown));
    }
    let write = write(method, &parameters, headers, body)?;
    let created = matches!(write, Write::Create(_));
    let dry = parameter(&parameters, "dryRun") == "All";
    let written = shared.world().write(&target, write, dry)?;
    shared.changed();
    Ok(json_response(if created { 201 } else { 200 }, &written))
}

fn is_tabular(headers: &HeaderMap) -> bool {
    table::is_wanted(text(headers, header::ACCEPT))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn parameter<'a>(parameters: &'a Parameters, name: &str) -> &'a str {
    parameters.get(name).map_or("", String::as_str)
}

fn selection(target: &Target, parameters: &Parameters) -> Selection {
    let (fields, labels) =
        (parameter(parameters, "fieldSelector"), parameter(parameters, "labelSelector"));
    Selection::new(target.namespace.clone(), fields, labels)
}

fn write(
    method: &Method,
    parameters: &Parameters,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Write, ApiError> {
    if *method == Method::DELETE {
        return Ok(Write::Delete);
    }
    let object: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::new(400, format!("the body is no JSON: {error}")))?;
    match (method.as_str(), text(headers, header::CONTENT_TYPE)) {
        ("POST", _) => Ok(Write::Create(object)),
        ("PUT", _) => Ok(Write::Replace(object)),
        ("PATCH", "application/merge-patch+json") => Ok(Write::Merge(object)),
        ("PATCH", kind) if kind.starts_with("application/apply-patch+") => Ok(Write::Apply {
            object,
            manager: parameter(parameters, "fieldManager").to_owned(),
            force: parameter(parameters, "force") == "true",
        }),
        (_, kind) => Err(ApiError::new(415, format!("{kind} is not taken here"))),
    }
}

fn list(
    shared: &Shared,
    resource: &Resource,
    target: &Target,
    parameters: &Parameters,
) -> Result<Value, ApiError> {
    let (page, shuffled) = {
        let faults = shared.faults();
        (faults.page, faults.shuffled)
    };
    let limit = parameter(parameters, "limit").parse().unwrap_or(usize::MAX).min(page);
    let token = parameter(parameters, "continue");
    let selection = selection(target, parameters);
    shared.world().list(resource, &selection, limit, token, shuffled)
}

fn watch(
    shared: &Arc<Shared>,
    resource: Resource,
    target: &Target,
    parameters: &Parameters,
    tabular: bool,
) -> Result<Response, ApiError> {
    let begun = shared.world().begin(parameter(parameters, "resourceVersion"));
    let gone_as_code = shared.faults().gone_as_code;
    let version = match begun {
        Ok(version) => version,
        Err(error) if gone_as_code => return Err(error),
        Err(error) => {
            let event = json!({"type": "ERROR", "object": error.status(None)});
            return Ok(json_body(Body::from(format!("{event}\n"))));
        }
    };
    let seconds = parameter(parameters, "timeoutSeconds").parse().unwrap_or(WATCH);
    let watcher = Watcher {
        shared: Arc::clone(shared),
        selection: selection(target, parameters),
        bookmarks: parameter(parameters, "allowWatchBookmarks") == "true",
        tabular,
        resource,
        version,
    };
    let (lines, sent) = tokio::sync::mpsc::channel(WAITING);
    tokio::spawn(tokio::time::timeout(Duration::from_secs(seconds), watcher.run(lines)));
    let stream = futures::stream::unfold(sent, |mut sent| async {
        let line: String = sent.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), sent))
    });
    Ok(json_body(Body::from_stream(stream)))
}

/// A watch, from its request to its end.
struct Watcher {
    shared: Arc<Shared>,
    resource: Resource,
    selection: Selection,
    bookmarks: bool,
    /// Whether objects are shown as tables of one row.
    tabular: bool,
    version: u64,
}

impl Watcher {
    async fn run(mut self, lines: tokio::sync::mpsc::Sender<String>) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let since = self.shared.world().since(self.version, &self.resource, &self.selection);
            let mut text = String::new();
            match since {
                Ok((events, version)) => {
                    self.version = version;
                    for mut event in events {
                        if self.tabular {
                            let world = self.shared.world();
                            event["object"] =
                                table::of(&world, &self.resource, &event["object"], false);
                        }
                        text.push_str(&format!("{event}\n"));
                    }
                }
                Err(error) => {
                    let event = json!({"type": "ERROR", "object": error.status(None)});
                    let _ = lines.send(format!("{event}\n")).await;
                    return;
                }
            }
            if !text.is_empty() && lines.send(text).await.is_err() {
                return;
            }
            let pause = self.shared.faults().bookmarks;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
                () = tokio::time::sleep(pause), if self.bookmarks => {
                    if lines.send(self.bookmark()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn bookmark(&self) -> String {
        let metadata = json!({"resourceVersion": self.version.to_string()});
        let (kind, api_version) = (&self.resource.kind, self.resource.api_version());
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }
}
