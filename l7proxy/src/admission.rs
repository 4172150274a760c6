//! Who may have how much: connections in all, connections and requests of one endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l7proxy_core::{Options, Reason};
use model::EndpointId;

/// What is taken, by whom.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Limits {
    connections: usize,
    connections_per_endpoint: usize,
    requests_per_endpoint: usize,
}

#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    endpoints: HashMap<EndpointId, Share>,
}

/// What one endpoint has taken.
#[derive(Debug, Default)]
struct Share {
    connections: usize,
    requests: usize,
}

/// A place that is given back when this goes.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Connection,
    OfEndpoint(EndpointId),
    Request(EndpointId),
}

impl Admission {
    pub fn new(options: &Options) -> Arc<Self> {
        let limits = Limits {
            connections: options.connections,
            connections_per_endpoint: options.connections_per_endpoint,
            requests_per_endpoint: options.requests_per_endpoint,
        };
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place for a connection that is not judged yet.
    pub fn connection(self: &Arc<Self>) -> Result<Permit, Reason> {
        let mut taken = self.lock();
        take(&mut taken.connections, self.limits.connections, Reason::OverConnections)?;
        Ok(self.permit(Place::Connection))
    }

    /// A place for a connection among its endpoint's.
    pub fn of_endpoint(self: &Arc<Self>, endpoint: EndpointId) -> Result<Permit, Reason> {
        let mut taken = self.lock();
        let share = taken.endpoints.entry(endpoint).or_default();
        let limit = self.limits.connections_per_endpoint;
        take(&mut share.connections, limit, Reason::OverEndpointConnections)?;
        Ok(self.permit(Place::OfEndpoint(endpoint)))
    }

    /// A place for a request.
    pub fn request(self: &Arc<Self>, endpoint: EndpointId) -> Result<Permit, Reason> {
        let mut taken = self.lock();
        let share = taken.endpoints.entry(endpoint).or_default();
        take(&mut share.requests, self.limits.requests_per_endpoint, Reason::OverRequests)?;
        Ok(self.permit(Place::Request(endpoint)))
    }

    fn permit(self: &Arc<Self>, place: Place) -> Permit {
        Permit { admission: Arc::clone(self), place }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The numbers are right after each statement, so a panic elsewhere spoils nothing.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(taken: &mut usize, limit: usize, reason: Reason) -> Result<(), Reason> {
    if *taken >= limit {
        return Err(reason);
    }
    *taken += 1;
    Ok(())
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.admission.lock();
        let (endpoint, is_request) = match self.place {
            Place::Connection => {
                taken.connections -= 1;
                return;
            }
            Place::OfEndpoint(endpoint) => (endpoint, false),
            Place::Request(endpoint) => (endpoint, true),
        };
        let Some(share) = taken.endpoints.get_mut(&endpoint) else { return };
        *(if is_request { &mut share.requests } else { &mut share.connections }) -= 1;
        if share.connections == 0 && share.requests == 0 {
            taken.endpoints.remove(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        let options = Options {
            connections: 2,
            connections_per_endpoint: 1,
            requests_per_endpoint: 1,
            ..Options::default()
        };
        Admission::new(&options)
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let admission = admission();
        let first = admission.connection().unwrap();
        let _second = admission.connection().unwrap();
        assert_eq!(admission.connection().unwrap_err(), Reason::OverConnections);
        drop(first);
        admission.connection().unwrap();
    }

    #[test]
    fn one_endpoint_takes_nothing_from_another() {
        let admission = admission();
        let _connection = admission.of_endpoint(EndpointId(1)).unwrap();
        let _request = admission.request(EndpointId(1)).unwrap();
        let over = Reason::OverEndpointConnections;
        assert_eq!(admission.of_endpoint(EndpointId(1)).unwrap_err(), over);
        assert_eq!(admission.request(EndpointId(1)).unwrap_err(), Reason::OverRequests);
        admission.of_endpoint(EndpointId(2)).unwrap();
        admission.request(EndpointId(2)).unwrap();
    }

    #[test]
    fn endpoints_that_are_gone_are_forgotten() {
        let admission = admission();
        drop(admission.of_endpoint(EndpointId(1)));
        drop(admission.request(EndpointId(1)));
        assert!(admission.lock().endpoints.is_empty());
    }
}
