//! Requests and answers.

use std::{collections::HashMap, convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use tower::Service as _;

use super::{
    KubeApiError, Shared,
    resources::{Resource, Target},
    selectors::Selection,
    world::{ApiError, Write},
};

/// How long a watch lasts that does not say how long.
const WATCH: u64 = 300;
/// How many changes of a watch may wait to be sent.
const WAITING: usize = 16;

/// Serves until it is told to stop; while it is away, nobody listens.
pub(super) fn serve(
    shared: &Arc<Shared>,
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
                accept(shared, listener, &mut changes).await;
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
async fn accept(shared: &Arc<Shared>, listener: TcpListener, changes: &mut watch::Receiver<u64>) {
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
                let router = router.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        router.clone().call(request)
                    });
                    let connection = auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
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

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (delay, refused) = {
        let mut faults = shared.faults();
        let asked = uri.path_and_query().map_or("", |asked| asked.as_str());
        faults.note(method.as_str(), asked);
        (faults.delay, judge(&faults, asked, &headers))
    };
    tokio::time::sleep(delay).await;
    if let Some((error, retry_after)) = refused {
        return failure(&error, retry_after);
    }
    match answer(&shared, &method, &uri, &parameters, &headers, &body) {
        Ok(response) => response,
        Err(error) => failure(&error, None),
    }
}

fn judge(
    faults: &super::Faults,
    asked: &str,
    headers: &HeaderMap,
) -> Option<(ApiError, Option<u32>)> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|given| given.strip_prefix("Bearer ")).unwrap_or_default();
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
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn answer(
    shared: &Arc<Shared>,
    method: &Method,
    uri: &Uri,
    parameters: &Parameters,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    if uri.path() == "/version" {
        return Ok(json_response(
            200,
            &json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"}),
        ));
    }
    let unknown = || ApiError::new(404, "the server could not find the requested resource");
    let target = Target::read(uri.path()).ok_or_else(unknown)?;
    let resource = shared.world().resource(&target)?;
    if *method == Method::GET {
        return match (&target.name, parameter(parameters, "watch")) {
            (Some(_), _) => Ok(json_response(200, &shared.world().read(&resource, &target)?)),
            (None, "true" | "1") => watch(shared, resource, &target, parameters),
            (None, _) => list(shared, &resource, &target, parameters),
        };
    }
    let write = write(method, parameters, headers, body)?;
    let created = matches!(write, Write::Create(_));
    let written = shared.world().write(&target, write)?;
    shared.changed();
    Ok(json_response(if created { 201 } else { 200 }, &written))
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
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match (method.as_str(), kind.unwrap_or_default()) {
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
) -> Result<Response, ApiError> {
    let (page, shuffled) = {
        let faults = shared.faults();
        (faults.page, faults.shuffled)
    };
    let limit = parameter(parameters, "limit").parse().unwrap_or(usize::MAX).min(page);
    let token = parameter(parameters, "continue");
    let selection = selection(target, parameters);
    let page = shared.world().list(resource, &selection, limit, token, shuffled)?;
    Ok(json_response(200, &page))
}

fn watch(
    shared: &Arc<Shared>,
    resource: Resource,
    target: &Target,
    parameters: &Parameters,
) -> Result<Response, ApiError> {
    let begun = shared.world().begin(parameter(parameters, "resourceVersion"));
    let gone_as_code = shared.faults().gone_as_code;
    let version = match begun {
        Ok(version) => version,
        Err(error) if gone_as_code => return Err(error),
        Err(error) => {
            let event = json!({"type": "ERROR", "object": error.status(None)});
            return Ok(Response::new(Body::from(format!("{event}\n"))));
        }
    };
    let seconds = parameter(parameters, "timeoutSeconds").parse().unwrap_or(WATCH);
    let watcher = Watcher {
        shared: Arc::clone(shared),
        selection: selection(target, parameters),
        bookmarks: parameter(parameters, "allowWatchBookmarks") == "true",
        resource,
        version,
    };
    let (lines, sent) = tokio::sync::mpsc::channel(WAITING);
    tokio::spawn(tokio::time::timeout(Duration::from_secs(seconds), watcher.run(lines)));
    let stream = futures::stream::unfold(sent, |mut sent| async {
        let line: String = sent.recv().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), sent))
    });
    Ok(Response::new(Body::from_stream(stream)))
}

/// A watch, from its request to its end.
struct Watcher {
    shared: Arc<Shared>,
    resource: Resource,
    selection: Selection,
    bookmarks: bool,
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
                    events.iter().for_each(|event| text.push_str(&format!("{event}\n")));
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
