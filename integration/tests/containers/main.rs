//! Real containers: made by a container runtime in the way of a kubelet, connected by the usual
//! plugins, and found by the daemon at the runtime's usual socket.
//!
//! The runtime is the machine's containerd; with `FQDND_TEST_CRIO` it is the CRI-O whose program that
//! names. The tests say which.

mod daemon_set;
mod enforcement;
mod ground;
mod leftovers;
