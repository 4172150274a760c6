//! The page: a small web page on the loopback that shows what happens on this node, and changes
//! nothing.
//!
//! - All of it is in this binary, and it asks nobody but this daemon: nothing of third parties.
//! - It is served on the loopback alone, to requests that name the loopback ([`guard`]).
//! - What it shows was said by pods, so it is hostile: it goes out as JSON, and the page puts it
//!   into text nodes and nowhere else; its policy for content forbids the rest.
//! - A listener that cannot be opened is told of and gone without, as the Hubble API's.

mod assets;
mod cache;
mod guard;
mod live;
mod map;
mod party;
mod serving;
mod source;

use std::sync::Arc;

use anyhow::Context;
use axum::extract::{FromRef, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router, middleware};
use model::{EndpointName, Protocol};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::admin::{self, Failure};
use crate::daemon::Shared;
use map::Map;

pub use serving::{Clients, serve};

/// How many answers are worked out at once that take a while.
const WORKERS: usize = 2;

/// What the page's server has.
#[derive(Clone)]
struct Page {
    shared: Arc<Shared>,
    /// Held by those who work out something long.
    work: Arc<Semaphore>,
}

impl FromRef<Page> for Arc<Shared> {
    fn from_ref(page: &Page) -> Self {
        Self::clone(&page.shared)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let data = Router::new()
        .route("/status", get(admin::status))
        .route("/endpoints", get(admin::endpoints))
        .route("/policies", get(admin::policies))
        .route("/source", get(source::source))
        .route("/cache", get(cache::cache))
        .route("/map", get(draw))
        .route("/explain", get(explain))
        .route("/flows", get(live::flows))
        .layer(middleware::from_fn(guard::same_origin));
    assets::routes()
        .nest("/api", data)
        .fallback(|| async { Failure(StatusCode::NOT_FOUND, "no such path".into()) })
        .layer(middleware::from_fn(guard::local))
        .with_state(Page { shared, work: Arc::new(Semaphore::new(WORKERS)) })
}

/// The map of all flows that are held.
async fn draw(State(page): State<Page>) -> Result<Json<Map>, Failure> {
    let flows = page.shared.flows.clone().ok_or_else(not_recorded)?;
    let _turn = page.work.acquire().await.context("no more maps are drawn")?;
    flows.catch_up().await;
    let drawn = tokio::task::spawn_blocking(move || Map::of(&flows)).await;
    Ok(Json(drawn.context("the map failed")?))
}

/// A question of [`explain`]: one packet, or one name that was asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain {
    namespace: String,
    pod: String,
    to: String,
    protocol: u8,
    port: u16,
    asks: Option<String>,
}

/// Why a connection passes or does not.
async fn explain(
    State(page): State<Page>,
    Query(query): Query<Explain>,
) -> Result<Json<api::Explanation>, Failure> {
    let query = api::ExplainQuery {
        from: EndpointName { namespace: query.namespace, name: query.pod },
        to: query.to,
        protocol: Protocol(query.protocol),
        port: query.port,
        asks: query.asks,
        resolved: Vec::new(),
    };
    let _turn = page.work.acquire().await.context("nothing is explained any more")?;
    admin::explained(&page.shared, &query).await.map(Json)
}

fn not_recorded() -> Failure {
    Failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "flows are not recorded: `flows.enabled` is off".into(),
    )
}
