//! What the service needs to know of whoever records flows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flows::{Cursor, Entry, Ring, Time};
use tokio::sync::watch;
use tokio::task;

/// How many entries are taken from the ring at once: it is locked meanwhile.
const BATCH: usize = 64;

/// Where flows are recorded, and what is to be known of it.
pub trait Recording: Send + Sync + 'static {
    /// Looks at the ring. It is locked meanwhile: whoever looks takes what he needs and leaves, and
    /// looks into no flow, which may not be described yet.
    fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T;

    /// Returns when what happened before is in the ring, as far as it will be.
    fn catch_up(&self) -> impl Future<Output = ()> + Send;

    /// Changes whenever entries were added. When it is closed, there will be none any more.
    fn added(&self) -> watch::Receiver<()>;

    /// The node's name.
    fn node(&self) -> &str;

    /// How long it has been recording.
    fn uptime(&self) -> Duration;
}

/// The next entries that `step` gives, as many as are taken at once, with their flows described.
pub(crate) async fn batch<R: Recording>(
    recording: &R,
    mut step: impl FnMut(&Ring) -> Option<Entry>,
) -> Vec<Entry> {
    let batch: Vec<Entry> =
        recording.look(|ring| std::iter::from_fn(|| step(ring)).take(BATCH).collect());
    if batch.is_empty() {
        return batch;
    }
    // To describe a flow may take long: that is for threads that serve nobody else.
    let describe = move || {
        batch.iter().for_each(Entry::describe);
        batch
    };
    match task::spawn_blocking(describe).await {
        Ok(batch) => batch,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The process ends.
        Err(_) => Vec::new(),
    }
}

/// Runs `visit` on everything that is recorded.
pub(crate) async fn each<R: Recording>(recording: &R, mut visit: impl FnMut(&Entry)) {
    let mut cursor: Cursor = recording.look(Ring::oldest);
    loop {
        let entries = batch(recording, |ring| ring.next(&mut cursor)).await;
        if entries.is_empty() {
            return;
        }
        entries.iter().for_each(&mut visit);
    }
}

/// The wall clock's time.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Flows a second over the last minute, or over as much of it as the ring remembers.
pub(crate) fn rate(ring: &Ring, now: Time, uptime: Duration) -> f64 {
    const SPAN: Duration = Duration::from_secs(60);
    let span = SPAN.min(uptime);
    let from = now.since_epoch().saturating_sub(span);
    let mut cursor = ring.since(Time::from_nanos(u64::try_from(from.as_nanos()).unwrap_or(0)));
    let remembers_all = ring.oldest() < cursor || ring.len() < ring.capacity().get();
    let oldest = ring.oldest_time().unwrap_or(now).since_epoch();
    let span = if remembers_all { span } else { now.since_epoch().saturating_sub(oldest) };
    let mut flows: u32 = 0;
    while let Some(entry) = ring.next(&mut cursor) {
        flows += u32::from(matches!(entry, Entry::Flow(_)));
    }
    if span.is_zero() { 0.0 } else { f64::from(flows) / span.as_secs_f64() }
}
