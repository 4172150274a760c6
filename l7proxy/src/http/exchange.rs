//! One request and its answer.

use std::sync::Arc;

use ::http::uri::{PathAndQuery, Uri};
use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use l7proxy_core::control::Asked;
use l7proxy_core::http::{Edit, Facts, Target};
use l7proxy_core::{Fate, Reason};
use tokio::time::{Instant, timeout};

use super::body::Tracked;
use super::hop;
use super::life::{Busy, Life};
use super::reply::{Reply, refusal, status};
use super::upgrade::{self, Judged};
use super::upstream::Upstream;
use crate::admission::Permit;
use crate::screened::Gate;
use crate::session::Session;
use crate::splice::micros;

/// How much of a refused request's body is read, so that its connection can be kept.
const MAX_DRAINED: usize = 256 * 1024;

/// What the requests of one connection have in common.
pub(super) struct Exchange {
    pub session: Arc<Session>,
    pub upstream: Upstream,
    pub gate: Option<Gate>,
    pub life: Arc<Life>,
}

/// A request that may be sent on.
struct Allowed {
    target: Target,
    edits: Vec<Edit>,
    /// What is against it, where that is only audited.
    breach: Option<Reason>,
    place: (Permit, Busy),
}

/// What is recorded of a request.
struct Told {
    asked: Asked,
    breach: Option<Reason>,
}

impl Exchange {
    /// Judges a request, and answers it or has it answered.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Reply> {
        let begun = Instant::now();
        if let Some(reason) = self.fault_behind(&request) {
            self.session.record(Asked::Connection, Fate::Refused(reason), None);
            let mut response = refusal(reason);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        let mut told = Told { asked: ask(&request), breach: None };
        let response = match self.exchange(request, &mut told).await {
            Ok(response) => {
                note_status(&mut told.asked, response.status());
                self.session.record(told.asked, told.breach.into(), micros(begun));
                response
            }
            Err(reason) => {
                note_status(&mut told.asked, status(reason));
                self.session.record(told.asked, Fate::Refused(reason), micros(begun));
                self.refuse(reason)
            }
        };
        match &self.gate {
            Some(gate) if response.status() == StatusCode::SWITCHING_PROTOCOLS => gate.open(),
            Some(gate) => gate.resume(),
            None => {}
        }
        response
    }

    /// The fault that a request stands in for: one that no client can make.
    fn fault_behind(&self, request: &Request<Incoming>) -> Option<Reason> {
        let fault = self.gate.as_ref()?.fault()?;
        let is_ours = request.version() == ::http::Version::HTTP_11
            && !request.headers().contains_key(header::HOST);
        is_ours.then_some(fault.reason)
    }

    fn refuse(&self, reason: Reason) -> Response<Reply> {
        let mut response = refusal(reason);
        if matches!(reason, Reason::RulesChanged | Reason::NoJudgement) {
            // A new connection is judged from its beginning.
            self.life.end();
            if self.gate.is_some() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
        }
        response
    }

    async fn exchange(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        told: &mut Told,
    ) -> Result<Response<Reply>, Reason> {
        hop::strip(request.headers_mut());
        let allowed = match self.judge(&request).await {
            Ok(allowed) => allowed,
            Err(reason) => {
                self.drain(request);
                return Err(reason);
            }
        };
        note_edits(&mut told.asked, &allowed.edits);
        told.breach = allowed.breach;
        self.forward(request, allowed).await
    }

    async fn judge(&self, request: &Request<Incoming>) -> Result<Allowed, Reason> {
        let target = Target::read(request.method(), request.uri(), request.headers())?;
        if target.host.is_empty() {
            return Err(Reason::AmbiguousHost);
        }
        let permit = self.session.shared.admission.request(self.session.endpoint)?;
        let place = (permit, self.life.begin());
        let standing = self.session.standing().await?;
        let misled = self.session.server_name().is_some_and(|name| !same_name(&name, &target));
        let misled =
            misled.then(|| standing.unmatched.judge(Reason::HostIsNotServerName)).transpose()?;
        let facts = Facts {
            method: request.method().as_str(),
            path: &target.path,
            host: &target.host,
            headers: request.headers(),
        };
        let (edits, against) = standing.http(&facts)?;
        Ok(Allowed { target, edits, breach: misled.or(against), place })
    }

    async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        allowed: Allowed,
    ) -> Result<Response<Reply>, Reason> {
        let Allowed { target, edits, place, breach: _ } = allowed;
        let changes = self.gate.is_some() && hop::is_websocket(request.headers());
        let judged = changes.then(|| Judged {
            method: request.method().clone(),
            target: target.clone(),
            headers: request.headers().clone(),
        });
        let client = changes.then(|| hyper::upgrade::on(&mut request));
        edits.into_iter().for_each(|edit| edit.apply(request.headers_mut()));
        self.address(&mut request, &target)?;
        let sent = self.upstream.send(request, &target.host_name()).await;
        let mut response = sent.map_err(|reason| self.blame(reason))?;
        hop::strip(response.headers_mut());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            *response.version_mut() = ::http::Version::HTTP_11;
            return Ok(response.map(|body| Either::Right(Tracked::new(body, place))));
        }
        let (Some(judged), Some(client)) = (judged, client) else {
            return Err(Reason::UpstreamFailed);
        };
        let destination = hyper::upgrade::on(&mut response);
        tokio::spawn(upgrade::carry(Arc::clone(self), client, destination, judged, place));
        Ok(response.map(|_| Either::Left(Full::new(Bytes::new()))))
    }

    /// Writes down where the request goes: exactly what was judged.
    fn address(&self, request: &mut Request<Incoming>, target: &Target) -> Result<(), Reason> {
        request.headers_mut().remove(header::EXPECT);
        let path: PathAndQuery = target.path.parse().map_err(|_| Reason::AmbiguousPath)?;
        let host = HeaderValue::from_str(&target.host).map_err(|_| Reason::AmbiguousHost)?;
        let uri = if self.gate.is_some() {
            request.headers_mut().insert(header::HOST, host);
            *request.version_mut() = ::http::Version::HTTP_11;
            Uri::from(path)
        } else {
            request.headers_mut().remove(header::HOST);
            let uri = Uri::builder().scheme(self.upstream.scheme()).authority(target.host.as_str());
            uri.path_and_query(path).build().map_err(|_| Reason::AmbiguousHost)?
        };
        *request.uri_mut() = uri;
        Ok(())
    }

    /// A body that is framed wrong fails the request that it belongs to.
    fn blame(&self, reason: Reason) -> Reason {
        let fault = self.gate.as_ref().and_then(Gate::fault);
        fault.filter(|fault| fault.in_body).map_or(reason, |fault| fault.reason)
    }

    /// Reads what is left of a refused request beside its answer, if it is little, and was not
    /// asked for first.
    fn drain(&self, request: Request<Incoming>) {
        if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
            return;
        }
        let mut body = request.into_body();
        let patience = self.session.shared.options.request_time();
        let drained = async move {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MAX_DRAINED {
                    return;
                }
            }
        };
        // A body that does not come costs its client the connection, and nobody else anything.
        tokio::spawn(timeout(patience, drained));
    }
}

fn same_name(server_name: &str, target: &Target) -> bool {
    server_name.trim_end_matches('.').eq_ignore_ascii_case(&target.host_name())
}

/// What is recorded of a request.
fn ask(request: &Request<Incoming>) -> Asked {
    let version = match request.version() {
        ::http::Version::HTTP_2 => 20,
        ::http::Version::HTTP_10 => 10,
        _ => 11,
    };
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(::http::uri::Authority::as_str);
    let path = match *request.method() {
        Method::CONNECT => String::new(),
        _ => request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
    };
    Asked::Http {
        version,
        method: request.method().to_string(),
        host: authority.or(header).unwrap_or_default().to_owned(),
        path,
        status: None,
        edited: Vec::new(),
    }
}

fn note_status(asked: &mut Asked, code: StatusCode) {
    if let Asked::Http { status, .. } = asked {
        *status = Some(code.as_u16());
    }
}

fn note_edits(asked: &mut Asked, edits: &[Edit]) {
    if let Asked::Http { edited, .. } = asked {
        edited.extend(edits.iter().map(|edit| edit.name().to_string()));
    }
}
