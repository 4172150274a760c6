//! The texts, in the order of the documents that they are about.
//!
//! A text belongs to the end of a field's path. A bound's name in braces stands for the schema's
//! bound. Values that a field may have are left out where nothing is to be said of each: kubectl
//! shows them.

pub(super) const TEXTS: &[(&str, &str)] = &[
    (
        "CiliumNetworkPolicy",
        "What pods of one namespace may send. Documents are those of Cilium. fqdnd enforces \
         egress: by address, port and name, and through its proxies by what is asked for over DNS, \
         HTTP, Kafka and TLS. A pod may do what any policy allows it and none denies. A rule that \
         needs what is not enforced here allows nothing. The annotation fqdnd.io/audit: \"true\" \
         has a policy tell what it would drop, and not drop it; fqdnd.io/allow-private: \"true\" \
         lets outside names open private addresses.",
    ),
    (
        "CiliumClusterwideNetworkPolicy",
        "What pods of every namespace may send. It says what a CiliumNetworkPolicy says, but \
         selectors are not bound to a namespace. fqdnd enforces egress only, and for pods only. The \
         annotations fqdnd.io/audit and fqdnd.io/allow-private mean the same too.",
    ),
    (
        "CiliumCIDRGroup",
        "Prefixes that rules refer to together: by the group's name (toCIDRSet.cidrGroupRef) or by \
         its labels (toCIDRSet.cidrGroupSelector).",
    ),
    ("CiliumCIDRGroup.spec", "The prefixes of the group."),
    (
        "externalCIDRs",
        "IPv4 and IPv6 prefixes, such as 192.0.2.0/24 or 2001:db8::/32: at most {maxItems}. Rules \
         that refer to the group follow every change.",
    ),
    (
        "spec",
        "A rule: whom it is about, and what these may send. Each pod that it selects may send only \
         what some rule allows, as soon as the rule has an egress or egressDeny section, unless \
         enableDefaultDeny.egress is false. Answers on allowed connections always pass. What fqdnd \
         does not enforce (ingress, ingressDeny, nodeSelector, and in entries authentication, \
         toGroups and listeners) is checked and told of.",
    ),
    ("specs", "Several rules, each as spec is one. They count beside spec."),
    ("description", "A note for people. It has no effect."),
    (
        "endpointSelector",
        "The pods whose egress this rule is about, by their labels: those of the policy's namespace, \
         or of every namespace where the policy is clusterwide. {} selects all of them.",
    ),
    (
        "nodeSelector",
        "Not enforced: what nodes themselves send is not judged, so a rule with this does nothing. \
         It stands in the place of endpointSelector.",
    ),
    (
        "egress",
        "What is allowed. Every entry names destinations (one of the fields that begin with to), \
         ports, or both, and a packet passes where both fit. Entries add up. The one entry {} \
         allows nothing: it makes default deny the whole rule.",
    ),
    (
        "egressDeny",
        "What is denied, whatever any policy allows. Entries are as in egress, without names and \
         without rules for what is said.",
    ),
    ("ingress", "Not enforced: checked, and left out with a warning. Only egress is enforced."),
    ("ingressDeny", "Not enforced: checked, and left out with a warning. Only egress is enforced."),
    (
        "enableDefaultDeny",
        "Whether selected pods may do only what is allowed. Left out, it follows from the sections \
         that are there.",
    ),
    (
        "enableDefaultDeny.egress",
        "false: this rule does not forbid what it does not name; its denials, and its rules for \
         what is said, count all the same. A pod is default-deny if any rule that selects it asks \
         for that.",
    ),
    ("enableDefaultDeny.ingress", "Not enforced: only egress is."),
    ("labels", "Labels of the rule itself, each with key, value and source. No effect."),
    ("log", "Not enforced: what it holds is checked, and not written to flow records."),
    ("log.value", "A text of at most {maxLength} printable ASCII characters."),
    (
        "toEndpoints",
        "Pods, by their labels. In a CiliumNetworkPolicy they are of its own namespace, unless a \
         selector asks for k8s:io.kubernetes.pod.namespace, or for labels of namespaces under \
         io.cilium.k8s.namespace.labels. {} is every pod within these bounds and nothing outside \
         the cluster; an empty list selects nothing. With rules.dns, the pods behind the cluster's \
         DNS service are selected in any namespace if their labels fit.",
    ),
    (
        "toEntities",
        "Parts of the cluster and of the world. world: all that is outside the cluster; world-ipv4 \
         and world-ipv6: of one family; cluster: all pods and nodes and the API server; host: the \
         pod's own node; remote-node: the other nodes; kube-apiserver: the API server wherever it \
         is; all: everything; none: nothing. health, init, ingress and unmanaged are Cilium's own \
         parts.",
    ),
    (
        "toServices",
        "Kubernetes services: their addresses, and the backends behind them. Ports beside it are \
         those of the backends. A service of the type ExternalName stands for its name, as in \
         toFQDNs.",
    ),
    ("k8sService", "One service, by its name."),
    ("serviceName", "The service's name."),
    ("k8sService.namespace", "The service's namespace. Left out, services of that name in all."),
    ("k8sServiceSelector", "Services by their labels. Beside it k8sService has no meaning."),
    ("k8sServiceSelector.selector", "The labels of the services. {} selects every service."),
    ("k8sServiceSelector.namespace", "The services' namespace. Left out, all of them."),
    ("toNodes", "Nodes other than the pod's own, by the labels of the Node objects."),
    (
        "toCIDR",
        "Prefixes outside the cluster, such as 192.0.2.0/24 or 2001:db8::/32. Pods and nodes are \
         not selected by their addresses: name them by toEndpoints, toEntities or toNodes. An empty \
         list selects nothing.",
    ),
    (
        "toCIDRSet",
        "Prefixes outside the cluster, with exceptions, or groups of prefixes. Each item has one of \
         cidr, cidrGroupRef and cidrGroupSelector.",
    ),
    ("cidr", "A prefix, such as 10.0.0.0/8 or 2001:db8::/32."),
    ("cidrGroupRef", "The name of a CiliumCIDRGroup. While there is none, nothing is selected."),
    ("cidrGroupSelector", "CiliumCIDRGroups by their labels."),
    (
        "except",
        "Prefixes within cidr, or within the group, that this item does not select. Other items and \
         rules may select them still.",
    ),
    (
        "toFQDNs",
        "Names outside the cluster. A name opens the addresses that this very pod resolved it to \
         through fqdnd, as long as the answer's TTL, a grace and open connections last: so some \
         rule with rules.dns has to let the pod ask for it. Addresses of pods, nodes and services \
         are never opened by a name, nor private ones unless the annotation fqdnd.io/allow-private \
         is \"true\". Each item has one of matchName and matchPattern.",
    ),
    (
        "matchName",
        "A whole name of at most {maxLength} characters, such as api.example.com. Upper and lower \
         case are the same, and a dot at the end changes nothing.",
    ),
    (
        "matchPattern",
        "A name with stars, of at most {maxLength} characters. * stands for any characters within a label, and for none: \
         *.example.com is a.example.com and not a.b.example.com. **. at the beginning stands for \
         one label or more. * alone is every name.",
    ),
    (
        "toGroups",
        "Not enforced: groups of a cloud provider, whose addresses nobody here knows. The entry \
         allows nothing.",
    ),
    (
        "egressDeny.toGroups",
        "Not enforced: groups of a cloud provider, whose addresses nobody here knows. So that it \
         opens nothing, the entry denies everything outside the cluster.",
    ),
    (
        "authentication",
        "Not enforced: there is no mutual authentication between nodes. With a mode other than \
         disabled the entry allows nothing.",
    ),
    ("authentication.mode", "disabled is as if the field were left out."),
    (
        "toPorts",
        "Ports at the destinations, or anywhere where no destination is named, and what may be said \
         there. Left out, or empty, every port and protocol is meant. Must not stand beside icmps.",
    ),
    (
        "ports",
        "The ports, at most {maxItems}. An empty list covers nothing. Left out beside rules, the protocol's own are \
         meant: 53 for dns, 80 for http, 9092 for kafka.",
    ),
    (
        "ports.port",
        "A number from 0 to 65535, as text, or the name of a port of the destination's pods. \"0\" \
         is every port. A number that begins with 0 is octal.",
    ),
    (
        "endPort",
        "The last port of a range that port begins, from {minimum} to {maximum}. It has no meaning beside a name.",
    ),
    ("protocol", "The transport. ANY, or left out: TCP, UDP and SCTP."),
    (
        "rules",
        "What may be said at these ports, in one protocol: dns, http or kafka. What no item allows \
         is refused by the proxy. A plain allow of the same destination and port leaves nothing to \
         judge. http and kafka need TCP and the L7 proxy: where it is switched off, nothing is \
         allowed.",
    ),
    (
        "rules.dns",
        "Names that may be asked for. Queries go through fqdnd, which refuses others and learns \
         addresses from the answers. The port must be one number, not a range.",
    ),
    (
        "rules.http",
        "Requests that are allowed; all fields of an item have to fit. Others get 403. Requests \
         within TLS are judged only with terminatingTLS and originatingTLS.",
    ),
    ("method", "A regular expression for the whole method: GET|HEAD. Left out, any."),
    (
        "path",
        "A regular expression for the whole path with its query: /v1/.* and not /v1/*. Left out, \
         any.",
    ),
    ("host", "A regular expression for the whole Host header. Left out, any."),
    (
        "headers",
        "Headers that have to be there: a name, or a name and a value, as in X-Key: value. The \
         names' case does not matter.",
    ),
    ("headerMatches", "Headers, and what becomes of a request that has them otherwise."),
    ("headerMatches.name", "The header's name."),
    ("headerMatches.value", "Its value, exactly. Without value and secret, any will do."),
    (
        "headerMatches.secret",
        "A Secret of one key that holds the value. While it is missing, value stands in for it, or \
         the item allows nothing.",
    ),
    (
        "mismatch",
        "What becomes of a request without the header or with another value. Left out, the item \
         does not allow it. LOG: the request passes and is told; ADD: the value is added; REPLACE: \
         it takes the place of others; DELETE: the header is taken out.",
    ),
    (
        "rules.kafka",
        "Requests to Kafka brokers that are allowed. Every topic of a request has to be. Others get \
         Kafka's own refusal.",
    ),
    (
        "role",
        "produce or consume: all requests that such a client makes. Must not stand beside apiKey.",
    ),
    ("apiKey", "One kind of request by its name, such as fetch or metadata."),
    ("kafka.apiVersion", "The version of the request, as text. Left out, any."),
    ("clientID", "The client's own id, exactly. Left out, any."),
    ("topic", "A topic's name, exactly: at most {maxLength} characters. Left out, any."),
    (
        "serverNames",
        "Names that a TLS client may ask for (SNI); *. or **. may stand before. TLS is not opened. \
         Outside the cluster the pod must have resolved the name to this address. Beside rules it \
         needs terminatingTLS.",
    ),
    (
        "terminatingTLS",
        "The proxy ends the pods' TLS with this Secret's certificate (tls.crt, tls.key), or issues \
         certificates by it where the Secret is annotated fqdnd.io/issuer: \"true\". Needs \
         originatingTLS, or nothing passes.",
    ),
    (
        "originatingTLS",
        "The proxy begins TLS to the destination, whose certificate the authorities of this Secret \
         (ca.crt) have to vouch for.",
    ),
    (
        "secret",
        "The Secret. While it is missing nothing passes that needs it. One of another namespace \
         must be in a namespace that l7.secretNamespaces names.",
    ),
    ("secret.name", "The Secret's name."),
    ("secret.namespace", "The Secret's namespace. Left out, the policy's own."),
    ("certificate", "The Secret's key for the certificate, if it is not tls.crt."),
    ("privateKey", "The Secret's key for the private key, if it is not tls.key."),
    ("trustedCA", "The Secret's key for the authorities, if it is not ca.crt."),
    ("listener", "Not enforced: there is no Envoy. These ports are not opened."),
    (
        "icmps",
        "ICMP messages, in the place of ports. A rule that names ports or types allows no others.",
    ),
    ("fields", "The messages, at most {maxItems}. An empty list covers nothing."),
    ("family", "Left out, IPv4."),
    ("fields.type", "The type: a number from 0 to 255, or its name, such as EchoRequest."),
    (
        "matchLabels",
        "Labels that have to be there with exactly these values, of at most {maxLength} characters \
         each. A key may name its source before a \
         colon: k8s:app, reserved:host; without one any source will do.",
    ),
    ("cidrGroupSelector.matchLabels", "Labels that have to be there with exactly these values."),
    ("matchExpressions", "Conditions on labels, all of which have to hold."),
    ("matchExpressions.key", "The label's key, with its source and a colon before it, or without."),
    ("cidrGroupSelector.matchExpressions.key", "The label's key."),
    (
        "operator",
        "In, NotIn: whether the value is among values; without the label NotIn holds. Exists, \
         DoesNotExist: whether the label is there.",
    ),
    (
        "values",
        "At least one for In and NotIn, none for the others; at most {maxLength} characters each.",
    ),
    ("status", "What fqdnd says of the policy. One node writes it for all."),
    (
        "conditions",
        "Valid: whether the policy could be read; its message names the line and field that could \
         not. Enforced: whether it is in force on every node, and on how many.",
    ),
    ("conditions.type", "Valid or Enforced."),
    ("conditions.status", "Whether it is so."),
    ("conditions.reason", "Why, in one word."),
    ("conditions.message", "Why, for people."),
    ("lastTransitionTime", "Since when status is as it is."),
    ("observedGeneration", "The metadata.generation of the policy that this is said of."),
];
