//! Pauses between tries, which grow and are never the same twice: the nodes of a cluster do not come
//! back all at once.

use std::time::Duration;

use rand::Rng;

/// The first and the longest pause after a fault.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, less a random part.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    faults: u32,
}

impl Pause {
    /// Whether this is not the first fault since anything went well.
    pub fn is_repeated(&self) -> bool {
        self.faults > 0
    }

    /// The next pause; not less than what is asked for.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let whole = LONGEST.min(FIRST * 2_u32.pow(self.faults.min(16)));
        self.faults = self.faults.saturating_add(1);
        let part = whole.mul_f64(rand::rng().random_range(0.5..1.0));
        asked.map_or(part, |asked| asked + part.min(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_keep_to_what_is_asked_for() {
        let mut pause = Pause::default();
        assert!(!pause.is_repeated());
        let first = pause.next(None);
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        assert!(pause.is_repeated());
        for _ in 0..100 {
            assert!(pause.next(None) <= LONGEST);
        }
        assert!(pause.next(None) >= LONGEST / 2);
        let asked = Duration::from_secs(1);
        let waited = pause.next(Some(asked));
        assert!(waited >= asked && waited <= 2 * asked, "{waited:?}");
    }
}
