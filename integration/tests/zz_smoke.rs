use std::{fs, time::Duration};
use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, LabOptions, Reach, Resolver, Topology};

#[test]
fn smoke() {
    let topology = if std::env::var_os("BRIDGED").is_some() { Topology::Bridged } else { Topology::Routed };
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    let text = fs::read_to_string("../examples/one-name.yaml").unwrap();
    lab.policy("one-name", &text).unwrap();
    let daemon = Daemon::start(&lab, &["--log-level", "debug"]).unwrap();
    println!("started in {:?}", daemon.started_in());
    println!("{}", daemon.ctl(&["status"]).unwrap());
    println!("{}", daemon.ctl(&["endpoint", "list"]).unwrap());
    let client = lab.pod("default/client");
    println!("{:?}", Reach::tcp(client.namespace(), "203.0.113.10:80".parse().unwrap()));
    for server in lab.dns_service().into_iter().chain(lab.dns_pod().addresses()) {
        for tcp in [false, true] {
            for name in ["www.example.com", "shop.example.com"] {
                let answer = client.namespace().run(|| Resolver::new(server).over_tcp(tcp).with_timeout(Duration::from_secs(2)).ask(name, RecordType::A));
                println!("{server} tcp={tcp} {name} {answer:?}");
            }
        }
    }
    println!("{:?}", Reach::tcp(client.namespace(), "203.0.113.10:80".parse().unwrap()));
    println!("{:?}", Reach::tcp(lab.pod("default/other").namespace(), "203.0.113.10:80".parse().unwrap()));
    println!("{}", daemon.ctl(&["cache", "list"]).unwrap());
    println!("{}", daemon.ctl(&["status"]).unwrap());
    println!("{}", daemon.ctl(&["endpoint", "list"]).unwrap());
    println!("{}", daemon.ctl(&["map", "list"]).unwrap());
    println!("{}", daemon.log());
}
