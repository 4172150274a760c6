//! Real containers: made by containerd in the way of a kubelet, connected by the usual plugins, and
//! found by the daemon at the runtime's usual socket.

mod daemon_set;
mod enforcement;
mod ground;
mod leftovers;
