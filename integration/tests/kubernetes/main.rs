//! The daemon's view of a cluster, through its API server.
//!
//! With `FQDND_TEST_KUBECONFIG` the tests in `cluster` and `secrets`, that of the schemas, and those
//! of kubectl that leave definitions alone use the cluster that it names; without, and for what no
//! test may do to a real one, a server of the lab's own. Each says which.

mod admission;
mod cluster;
mod deployed;
mod faults;
mod ground;
mod identities;
mod kept;
mod kubectl;
mod node;
mod races;
mod reports;
mod rights;
mod secrets;
