//! Which server most queries are for, found in constant space (Boyer and Moore's majority vote).

use std::net::SocketAddr;

/// A leader, and by how many queries it leads.
#[derive(Debug, Default)]
pub struct Vote {
    leader: Option<SocketAddr>,
    lead: u32,
}

impl Vote {
    /// Counts a query; gives the leader each time that it leads by `enough`, and begins anew.
    pub fn count(&mut self, server: SocketAddr, enough: u32) -> Option<SocketAddr> {
        if self.leader == Some(server) {
            self.lead += 1;
        } else if self.lead > 0 {
            self.lead -= 1;
        } else {
            (self.leader, self.lead) = (Some(server), 1);
        }
        if self.lead < enough {
            return None;
        }
        self.lead = 0;
        self.leader.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leads_once_it_was_asked_more_often_than_all_others() {
        let [often, a, b] =
            ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"].map(|text| text.parse().unwrap());
        let mut vote = Vote::default();
        let asked = [often, a, often, b, often, often];
        let leaders = asked.map(|server| vote.count(server, 2));
        assert_eq!(leaders, [None, None, None, None, None, Some(often)]);
        assert_eq!(vote.count(often, 2), None, "it begins anew");
    }

    #[test]
    fn nobody_leads_where_all_are_asked_alike() {
        let servers = ["10.0.0.1:53", "10.0.0.2:53"].map(|text| text.parse().unwrap());
        let mut vote = Vote::default();
        assert!((0..1000).all(|index| vote.count(servers[index % 2], 3).is_none()));
    }
}
