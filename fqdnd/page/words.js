// What is meant by words, times and ends of flows.

// Why packets are dropped.
export const REASONS = {
  "policy-denied": "No rule allows the destination, protocol and port.",
  "deny-rule": "A deny rule covers it, whatever else allows it.",
  "spoofed-source": "The packet's source address is not one of the pod's.",
  "malformed": "Headers are cut short, lengths lie, or an address is impossible on the wire.",
  "unsupported-header": "IP options, a routing header, or an extension header that is not known.",
  "unsupported-ethertype": "Neither IPv4, IPv6 nor ARP.",
  "fragment-to-proxy": "A fragment of UDP to a port that a proxy judges.",
  "fragment-unknown": "A later fragment whose first one was not seen or not allowed.",
  "proxy-unavailable": "The proxy that has to judge this has no socket open.",
  "no-service": "An address of the service range where no service has this port.",
  "endpoint-conflict": "The pod's interface is claimed twice, or bound to another.",
  "router-message": "A router advertisement or redirect from a pod.",
  "lease-expired": "The pod's answer for the name has expired: it should look the name up again.",
  "flow-table": "The pod's flow table is missing or takes no entry.",
  "icmp-unrelated": "An ICMP error for a flow that was never seen.",
  "endpoint-unknown": "The pod is not known to the kernel's maps.",
  "endpoint-pending": "The pod's rules are not in the kernel yet.",
  "quic-not-inspected": "UDP to a port whose connections a proxy judges: it could be QUIC, which hides what is said.",
};

// Reasons that rules have to do with, so that an explanation says more.
export const BY_RULES = new Set([undefined, "policy-denied", "deny-rule", "lease-expired", "no-service", "quic-not-inspected"]);

const OUTCOMES = {
  "no-policy": "No policy selects the pod, so it may send anything.",
  "not-enforced": "No rule covers it, and none of the pod's policies asks for default deny.",
  "allow-rule": "A rule allows it.",
  "dns-rule": "A rule for DNS sends it to the proxy, which judges each name.",
  "l7-rule": "Rules for HTTP, Kafka or TLS send it to the proxy, which judges each request.",
  "name-refused": "The proxy refuses it: no rule lets this name be asked for there.",
  "policy-denied": "No rule allows it, and what no rule allows is denied.",
};

// What a reason means. A daemon may have reasons that this page does not know.
export const meaning = (reason) => OUTCOMES[reason] ?? REASONS[reason] ?? "";

// What is in the way of a rule that nearly allows.
export function lacks(what) {
  const others = { port: "it is for other ports", destination: "it is for other destinations", name: "it is for other names" };
  return others[what] ?? `it needs ${what}, which is not enforced`;
}

// Verdicts by Hubble's names: sign and class. A shape for each, beside its colour.
const VERDICTS = {
  FORWARDED: ["✓", "good"],
  REDIRECTED: ["↪", "proxy"],
  DROPPED: ["✕", "bad"],
  ERROR: ["!", "warn"],
  AUDIT: ["◎", "warn"],
};

export function verdict(name) {
  const [sign, tone] = VERDICTS[name] ?? ["·", "soft"];
  return { sign, tone, word: (name ?? "unknown").toLowerCase() };
}

export function count(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

// A length of time, roughly.
export function span(seconds) {
  const size = Math.abs(seconds);
  if (size < 120) return `${Math.round(size)} s`;
  if (size < 7200) return `${Math.round(size / 60)} min`;
  if (size < 172800) return `${Math.round(size / 3600)} h`;
  return `${Math.round(size / 86400)} d`;
}

export const ago = (milliseconds) => `${span(Math.max(0, Date.now() - milliseconds) / 1000)} ago`;

// A name without its trailing dot; the root stays a dot.
export const plain = (name) => name.length > 1 ? name.replace(/\.$/, "") : name;

// An end of a flow of Hubble's: pod, service, name, group such as the host, or address.
export function party(flow, end) {
  const { namespace, pod_name: pod, labels = [] } = flow[end] ?? {};
  const service = end === "destination" ? flow.destination_service : flow.source_service;
  const names = flow[`${end}_names`] ?? [];
  const address = flow.IP?.[end];
  if (pod) return `${namespace}/${pod}`;
  if (service?.name) return `${service.namespace}/${service.name}`;
  const group = labels.find((label) => /^reserved:(?!world)/.test(label))?.slice("reserved:".length);
  return names[0] ?? group ?? address ?? "unknown";
}

const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132, ICMPv4: 1, ICMPv6: 58 };

// The transport layer: name, number, and the ports. Rules go by the destination's, or by ICMP's type.
// Of protocols that this page does not know, what there is.
export function transport(flow) {
  const [name, fields] = Object.entries(flow.l4 ?? {})[0] ?? [null, {}];
  const isIcmp = name?.startsWith("ICMP");
  return {
    name,
    number: PROTOCOLS[name],
    from: fields.source_port,
    to: fields.destination_port,
    judgedBy: isIcmp ? fields.type ?? 0 : fields.destination_port ?? 0,
    text: isIcmp ? `${name} type ${fields.type ?? 0}` : [fields.destination_port, name].filter(Boolean).join("/"),
  };
}

// What kind of event it is: a protocol of layer 7 by its own key, whichever it is.
export function kind(flow) {
  const layer7 = Object.keys(flow.l7 ?? {}).find((key) => !["type", "latency_ns"].includes(key));
  if (layer7) return layer7.toUpperCase();
  if (flow.l7 || flow.Type === "L7") return "L7";
  return transport(flow).name ?? "IP";
}

// What was seen, without what stands beside it: its kind and the reason.
export function summary({ reason, response: { flow } }) {
  const text = flow.Summary ?? "";
  const start = `${kind(flow)} `;
  const end = ` (${reason})`;
  const from = text.startsWith(start) ? start.length : text === kind(flow) ? text.length : 0;
  return text.slice(from, text.endsWith(end) ? text.length - end.length : undefined);
}

// The policies that decided, with their places.
export function policies(flow) {
  const lists = ["egress_denied_by", "ingress_denied_by", "egress_allowed_by", "ingress_allowed_by"];
  const decided = lists.map((list) => flow[list] ?? []).find((list) => list.length > 0) ?? [];
  return decided.map(({ name, namespace, labels = [] }) => {
    const place = labels.find((label) => label.startsWith("fqdnd:file="))?.slice("fqdnd:file=".length) ?? "";
    const [, file, line] = /^(.*):(\d+)$/.exec(place) ?? [null, place, "0"];
    return { policy: namespace ? `${namespace}/${name}` : name, file, line: Number(line) };
  });
}

// The address within this page of a view with its parameters.
export function link(view, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  return `#${view}${query && "?"}${query}`;
}
