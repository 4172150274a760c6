//! What is not in the ring: read from the counters once in a while, and told as entries of it.

use std::collections::BTreeMap;

use bpf::Counts;
use flows::{Entry, LossSource, Lost, Time};
use model::EndpointId;

/// What had been lost when it was last looked.
#[derive(Debug, Default)]
pub struct Losses {
    kernel: BTreeMap<EndpointId, Kernel>,
    queries: LeftOut,
    requests: LeftOut,
}

/// What a proxy did that is not in the ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    /// Because their endpoint's budget was used up.
    pub suppressed: u64,
    /// Because their queue was full.
    pub lost: u64,
}

/// What the programs did not tell of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Kernel {
    suppressed: u64,
    lost: u64,
}

impl From<&Counts> for Kernel {
    fn from(counts: &Counts) -> Self {
        let Counts { drop_events, flow_events, .. } = counts;
        Self {
            suppressed: drop_events.suppressed + flow_events.suppressed,
            lost: drop_events.lost + flow_events.lost,
        }
    }
}

impl LeftOut {
    /// What was left out since it was last looked, which was so long ago as `before` says.
    fn since(self, before: &mut Self) -> Self {
        let Self { suppressed, lost } = std::mem::replace(before, self);
        Self { suppressed: self.suppressed - suppressed, lost: self.lost - lost }
    }
}

impl Losses {
    /// What was lost before now is nobody's business.
    pub fn since(counts: &BTreeMap<EndpointId, Counts>) -> Self {
        let kernel = counts.iter().map(|(endpoint, counts)| (*endpoint, counts.into())).collect();
        Self { kernel, ..Self::default() }
    }

    /// What was lost since the last time.
    pub fn look(
        &mut self,
        counts: &BTreeMap<EndpointId, Counts>,
        queries: LeftOut,
        requests: LeftOut,
        time: Time,
    ) -> Vec<Entry> {
        let queries = queries.since(&mut self.queries);
        let requests = requests.since(&mut self.requests);
        let mut suppressed = queries.suppressed + requests.suppressed;
        let mut lost = 0;
        let mut kernel = BTreeMap::new();
        for (endpoint, counts) in counts {
            let (now, before) = (Kernel::from(counts), self.kernel.get(endpoint));
            let before = before.copied().unwrap_or_default();
            // A number that counts another endpoint now has begun from nothing.
            let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            suppressed += since(now.suppressed, before.suppressed);
            lost += since(now.lost, before.lost);
            kernel.insert(*endpoint, now);
        }
        self.kernel = kernel;
        let found = [
            (LossSource::Suppressed, suppressed),
            (LossSource::KernelRing, lost),
            (LossSource::DnsQueue, queries.lost),
            (LossSource::L7Queue, requests.lost),
        ];
        let found = found.into_iter().filter(|(_, count)| *count > 0);
        found.map(|(source, count)| Entry::Lost(Lost { source, count, time })).collect()
    }
}

#[cfg(test)]
mod tests {
    use bpf::Untold;

    use super::*;

    fn counts(all: &[(u32, u64, u64)]) -> BTreeMap<EndpointId, Counts> {
        let of = |&(endpoint, suppressed, lost): &(u32, u64, u64)| {
            let drop_events = Untold { suppressed, lost };
            (EndpointId(endpoint), Counts { drop_events, ..Counts::default() })
        };
        all.iter().map(of).collect()
    }

    fn found(entries: Vec<Entry>) -> Vec<(LossSource, u64)> {
        let lost = entries.into_iter().filter_map(|entry| match entry {
            Entry::Lost(lost) => Some((lost.source, lost.count)),
            Entry::Flow(_) => None,
        });
        lost.collect()
    }

    #[test]
    fn tells_what_was_lost_since_it_last_looked() {
        let mut losses = Losses::since(&counts(&[(1, 100, 0)]));
        let mut look = |all: &[(u32, u64, u64)], suppressed, lost| {
            let queries = LeftOut { suppressed, lost };
            found(losses.look(&counts(all), queries, LeftOut::default(), Time::default()))
        };
        assert_eq!(look(&[(1, 100, 0)], 0, 0), []);
        let both = [(LossSource::Suppressed, 7), (LossSource::KernelRing, 2)];
        assert_eq!(look(&[(1, 105, 0), (2, 2, 2)], 0, 0), both);
        assert_eq!(look(&[(1, 105, 0), (2, 2, 2)], 0, 4), [(LossSource::DnsQueue, 4)]);
        assert_eq!(look(&[(1, 3, 0)], 5, 4), [(LossSource::Suppressed, 8)]);
        assert_eq!(look(&[(1, 3, 0)], 5, 4), []);
    }
}
