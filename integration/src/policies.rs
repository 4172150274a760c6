//! Policies that several scenarios begin with, as text to add to.

/// The client may look up names under example.com, and connect to www.example.com on port 80.
pub const ONE_NAME: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: one-name
  namespace: default
spec:
  endpointSelector:
    matchLabels: {app: client}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
      rules:
        dns:
        - matchPattern: "*.example.com"
  - toFQDNs:
    - matchName: www.example.com
    toPorts:
    - ports:
      - {port: "80", protocol: TCP}
"#;

/// The client may look up www.example.com and no other name, and connect to it on any port.
pub const WWW: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: one-name, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchName: www.example.com}]}
  - toFQDNs: [{matchName: www.example.com}]
"#;

/// The client may look up fresh names, and connect to them on port 80.
pub const FRESH_NAMES: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.fresh.example"
  - toFQDNs:
    - matchPattern: "**.fresh.example"
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
"#;

/// The client may use the echo service of 192.0.2.10, over and above what others allow.
pub const ECHO: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: echo, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toCIDR: [192.0.2.10/32]
    toPorts:
    - ports: [{port: "7", protocol: UDP}]
"#;
