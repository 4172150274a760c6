//! Loads side by side: one from each of four pods, every transport and family among them.

use std::thread;

use crate::{
    lab::Lab,
    load::{Load, LoadReport},
};

/// The pods that such loads run in.
pub const LOAD_PODS: [&str; 4] = ["load/one", "load/two", "load/three", "load/four"];

impl Load {
    /// Both families and both transports, each for a pod of its own; the names of one begin
    /// `share` after those of the one before.
    pub fn each_way(lab: &Lab, share: u32) -> [Load; 4] {
        let [service4, service6] = lab.dns_service();
        let load = |server, tcp, ipv6, number: u32| Load {
            tcp,
            ipv6,
            first: share * number,
            ..Load::new(server)
        };
        [
            load(service4, false, false, 0),
            load(service4, true, true, 1),
            load(service6, false, true, 2),
            load(service6, true, false, 3),
        ]
    }

    /// Runs loads in their pods, and meanwhile whatever else there is to do.
    pub fn run_each(lab: &Lab, loads: &[Load; 4], meanwhile: impl FnOnce()) -> Vec<LoadReport> {
        thread::scope(|scope| {
            let running: Vec<_> = LOAD_PODS
                .iter()
                .zip(loads)
                .map(|(pod, load)| scope.spawn(|| load.run(lab.pod(pod).namespace()).unwrap()))
                .collect();
            meanwhile();
            running.into_iter().map(|load| load.join().unwrap()).collect()
        })
    }
}
