use super::*;
use crate::node::LinkKind;
use crate::sandbox::{Pod, in_own_namespace, ip, ip_output};

fn index(name: &str) -> Interface {
    let line = ip_output(&format!("-o link show {name}"));
    Interface(line.split(':').next().unwrap().parse().unwrap())
}

fn connect(host: &str, pod: &Pod) {
    ip(&format!("link add {host} type veth peer name eth0 netns {}", pod.tid()));
}

#[test]
fn finds_the_veth_that_leads_into_the_namespace() {
    in_own_namespace(|| async {
        let (a, b) = (Pod::new(), Pod::new());
        connect("to-a", &a);
        connect("to-b", &b);
        assert_eq!(host_side(&a.path()).await.unwrap(), index("to-a"));
        assert_eq!(host_side(&b.path()).await.unwrap(), index("to-b"));
    });
}

#[test]
fn what_the_pods_root_does_inside_does_not_move_the_answer() {
    in_own_namespace(|| async {
        let (a, b) = (Pod::new(), Pod::new());
        connect("to-a", &a);
        connect("to-b", &b);
        let (there, wanted) = (index("to-b").0, index("to-a"));
        a.run(move || {
            // A pair of its own, one end under the number of the other pod's veth.
            ip(&format!("link add to-b index {} type veth peer name x", there + 100));
            ip("link set eth0 name to-b-too");
            ip("link set to-b-too address 02:00:00:00:00:01");
        });
        assert_eq!(host_side(&a.path()).await.unwrap(), wanted);
        assert_eq!(host_side(&b.path()).await.unwrap(), Interface(there));
    });
}

#[test]
fn an_end_moved_on_to_another_namespace_leads_there_and_not_here() {
    in_own_namespace(|| async {
        let (a, b) = (Pod::new(), Pod::new());
        connect("to-a", &a);
        assert_eq!(host_side(&a.path()).await.unwrap(), index("to-a"));
        let tid = b.tid();
        a.run(move || ip(&format!("link set eth0 netns {tid}")));
        assert!(matches!(host_side(&a.path()).await, Err(NamespaceError::NoneLeadsThere(_))));
        assert_eq!(host_side(&b.path()).await.unwrap(), index("to-a"));
    });
}

#[test]
fn two_veths_are_one_too_many() {
    in_own_namespace(|| async {
        let pod = Pod::new();
        connect("first", &pod);
        ip(&format!("link add second type veth peer name eth1 netns {}", pod.tid()));
        let error = host_side(&pod.path()).await.unwrap_err().to_string();
        assert!(error.contains("2 veths of the node"), "{error}");
        assert!(error.contains("first") && error.contains("second"), "{error}");
        assert!(error.contains("fqdnd.io/interface"), "{error}");
    });
}

#[test]
fn says_what_is_wrong_with_a_path() {
    in_own_namespace(|| async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let missing = directory.path().join("missing");
        let pod = Pod::new();

        let fails = async |path: &Path| host_side(path).await.unwrap_err();
        assert!(matches!(fails(&missing).await, NamespaceError::Missing(_)));
        assert!(matches!(fails(&file).await, NamespaceError::NotANamespace(_)));
        assert!(matches!(fails(&pipe).await, NamespaceError::NotANamespace(_)));
        let mount = Path::new("/proc/thread-self/ns/mnt");
        assert!(matches!(fails(mount).await, NamespaceError::NotANamespace(_)));
        assert!(matches!(fails(Path::new(OWN_NAMESPACE)).await, NamespaceError::Own(_)));
        assert!(matches!(fails(&pod.path()).await, NamespaceError::NoneLeadsThere(_)));
    });
}

#[test]
fn a_netkit_device_that_leads_there_is_told_and_binds_nobody() {
    let there = PeerNamespace::Numbered(3);
    let end = |index, name: &str, kind: fn(Option<Peer>) -> LinkKind, namespace| Link {
        index: Interface(index),
        name: name.to_owned(),
        up: true,
        kind: kind(Some(Peer { index: 2, namespace })),
        master: None,
        mac: None,
        xdp: None,
        incarnation: 0,
    };
    let elsewhere = end(4, "nk-else", LinkKind::Netkit, PeerNamespace::Numbered(4));
    let veth = end(5, "veth0", LinkKind::Veth, there);
    let netkit = end(6, "nk0", LinkKind::Netkit, there);
    let leading = |links: &[&Link]| {
        let links: Vec<Link> = links.iter().copied().cloned().collect();
        leading(&links, there, Path::new("/run/netns/pod")).map_err(|error| error.to_string())
    };
    assert_eq!(leading(&[&elsewhere, &veth]), Ok(Interface(5)));
    assert!(leading(&[&elsewhere]).unwrap_err().contains("no veth"));
    for links in [&[&netkit][..], &[&veth, &netkit]] {
        let error = leading(links).unwrap_err();
        assert!(error.contains("the netkit device nk0 leads into"), "{error}");
    }
}
