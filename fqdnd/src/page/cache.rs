//! What endpoints have resolved, as much of it as somebody can look at.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use crate::admin::Failure;
use crate::daemon::Shared;
use crate::report;

/// How many entries are shown.
const SHOWN: usize = 500;

/// Which entries: those whose name or endpoint has this text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    #[serde(default)]
    text: String,
}

/// Some entries, and how many there are.
#[derive(Serialize)]
pub(super) struct Found {
    total: usize,
    entries: Vec<api::CacheEntry>,
}

pub(super) async fn cache(
    State(shared): State<Arc<Shared>>,
    Query(search): Query<Search>,
) -> Result<Json<Found>, Failure> {
    let mut entries = {
        let reconciler = shared.reconciler.lock().await;
        report::cache(&shared, &reconciler, None, &|_| true)
    };
    let text = search.text.to_ascii_lowercase();
    entries
        .retain(|entry| entry.name.contains(&text) || entry.endpoint.to_string().contains(&text));
    let total = entries.len();
    entries.truncate(SHOWN);
    Ok(Json(Found { total, entries }))
}
