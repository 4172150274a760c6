// What is known of one flow or one edge of the map, and why it was judged as it was.

import { facts, failure, h } from "./dom.js";
import { get } from "./server.js";
import { ago, BY_RULES, count, kind, lacks, link, meaning, party, plain, policies, REASONS, summary, transport, verdict } from "./words.js";

const dialog = document.getElementById("detail");

dialog.addEventListener("click", (event) => {
  // Beside it, or on a link that leads away from it.
  if (event.target === dialog || event.target.closest("a")) dialog.close();
});

function open(title, ...content) {
  dialog.replaceChildren(
    h("div", { class: "sheet" },
      h("div", { class: "heading" },
        h("h2", { id: "detail-title" }, title),
        h("button", { type: "button", class: "plain", "aria-label": "Close", on: { click: () => dialog.close() } }, "✕")),
      ...content));
  dialog.showModal();
}

// All that is known of a flow.
export function openFlow(event) {
  const { flow } = event.response;
  const { word } = verdict(flow.verdict);
  open(`${party(flow, "source")} → ${asked(flow) ?? party(flow, "destination")}`,
    facts([
      ["Verdict", badge(flow.verdict)],
      ["Reason", event.reason && `${event.reason}: ${REASONS[event.reason] ?? "see the manual"}`],
      ["When", `${new Date(flow.time).toLocaleString("en-GB")} (${ago(Date.parse(flow.time))})`],
      ["What", `${kind(flow)} ${summary(event)}`],
      ["Direction", flow.traffic_direction?.toLowerCase()],
      ["From", end(flow, "source")],
      ["To", end(flow, "destination")],
      ["Names", flow.destination_names?.join(", ")],
      ["Interface", flow.interface?.name],
      ["Policies", places(policies(flow))],
    ]),
    ...request(flow),
    why(event, word),
    h("details", {}, h("summary", {}, "As Hubble’s JSON"), h("pre", {}, JSON.stringify(flow, null, 2))));
}

// What is known of flows between two.
export function openEdge(edge) {
  const { source, destination } = edge;
  const reasons = Object.entries(edge.reasons).map(([reason, number]) =>
    h("li", {}, h("b", {}, `${reason} × ${number}`), ` ${REASONS[reason] ?? ""}`));
  const ofPod = source.kind === "pod" ? { pod: source.name } : {};
  const toName = destination.kind === "name" ? { name: destination.name } : {};
  const shown = (verdict) => link("flows", { ...ofPod, ...toName, verdict });
  open(`${source.name} → ${destination.name}`,
    facts([
      ["Allowed", edge.allowed > 0 && count(edge.allowed, "flow")],
      ["Audited", edge.audited > 0 && count(edge.audited, "flow")],
      ["Dropped", edge.dropped > 0 && count(edge.dropped, "flow")],
      ["Failed", edge.failed > 0 && count(edge.failed, "flow")],
      ["Of these", edge.questions > 0 && count(edge.questions, "question").concat(" of DNS")],
      ["Ports", edge.ports.join(", ")],
      ["Last", ago(edge.last)],
    ]),
    reasons.length > 0 && h("ul", { class: "reasons" }, reasons),
    h("p", { class: "actions" },
      h("a", { class: "button", href: shown("") }, "Show the flows"),
      edge.dropped > 0 && h("a", { class: "button", href: shown("dropped") }, "Show the drops")));
}

export function badge(name) {
  const { sign, tone, word } = verdict(name);
  return h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, sign), word);
}

// Policies with the lines that decided, each with a link to its text.
export function places(all) {
  return all.length > 0 && all.map(({ policy, file, line }) => h("a", {
    class: "place", href: link("policies", { policy, line }),
  }, `${policy} (${file.split("/").at(-1)}:${line})`));
}

// The name that a message of DNS asks for.
export const asked = (flow) => flow.l7?.dns?.query && plain(flow.l7.dns.query);

function end(flow, which) {
  const { identity, labels = [] } = flow[which] ?? {};
  const { from, to } = transport(flow);
  const port = which === "source" ? from : to;
  const address = [flow.IP?.[which], port].filter((part) => part !== undefined && part !== "").join(" port ");
  return [
    h("div", { class: "mono" }, party(flow, which)),
    h("div", { class: "soft" }, [address, identity && `identity ${identity}`].filter(Boolean).join(" · ")),
    labels.length > 0 && h("div", { class: "labels" }, labels.map((label) => h("span", { class: "label" }, label))),
  ];
}

// The fields of a message that a proxy read, of whatever protocol.
function request(flow) {
  const message = Object.entries(flow.l7 ?? {}).find(([, value]) => value !== null && typeof value === "object");
  if (!message) return [];
  const text = (value) => typeof value === "object" ? JSON.stringify(value) : String(value);
  const shown = Object.entries(message[1]).map(([name, value]) =>
    [name, Array.isArray(value) && value.every((own) => typeof own !== "object") ? value.join(", ") : text(value)]);
  return [h("h3", {}, message[0].toUpperCase()), facts(shown)];
}

// Why it is so, asked of the daemon's engine; nothing where rules have nothing to do with it.
export function why(event, word) {
  const { flow } = event.response;
  const question = questionOf(flow);
  if (!question || !BY_RULES.has(event.reason)) return null;
  const place = h("section", { class: "why", "aria-live": "polite" }, h("p", { class: "soft" }, "Asking the rules in force…"));
  get("explain", question).then(
    (explanation) => place.replaceChildren(...explained(explanation, flow, word)),
    (error) => place.replaceChildren(failure(error)));
  return place;
}

function questionOf(flow) {
  const { namespace, pod_name: pod } = flow.source ?? {};
  const { number, judgedBy: port } = transport(flow);
  const to = flow.IP?.destination;
  if (!pod || !to || number === undefined || flow.is_reply || flow.traffic_direction === "INGRESS") return null;
  const question = { namespace, pod, to, protocol: number, port };
  const name = flow.l7?.dns?.query;
  return name ? { ...question, asks: name } : question;
}

function explained(own, flow, word) {
  const passes = own.verdict !== "deny";
  // A proxy may let a connection come to it and refuse what is said there.
  const judged = own.verdict === "redirect" && Boolean(flow.l7);
  const audited = own.verdict === "audit";
  const changed = !judged && (word === "audit" ? !audited : passes === (word === "dropped"));
  const near = own.near.filter((rule) => !own.rules.some((other) => other.file === rule.file && other.line === rule.line));
  return [
    h("h3", {}, judged ? "Which rules judge it" : passes ? "Why it passes" : "Why it does not pass"),
    h("p", {}, meaning(own.reason) || own.reason, changed && " The rules, or what the pod has resolved, changed since this flow."),
    audited && h("p", {}, "It passes all the same, because its policies are audited."),
    own.rules.length > 0 && h("ul", { class: "rules" }, own.rules.map((rule) => h("li", {}, spot(rule), ` ${rule.entry.field}`))),
    near.length > 0 && [
      h("h3", {}, "Nearly allowed by"),
      h("ul", { class: "rules" }, near.map((rule) => h("li", {}, spot(rule), `, but ${lacks(rule.lacks)}`))),
    ],
    own.notes.map((note) => h("p", { class: "note" }, note)),
    own.changes.length > 0 && [
      h("h3", {}, `The smallest change that would let it pass${audited ? " where it is enforced" : ""}`),
      own.changes.map(change),
    ],
    !passes && own.changes.length === 0 && h("p", {}, "No rule that is added would let it pass."),
  ].flat(2).filter(Boolean);
}

function spot({ policy, file, line, stale }) {
  return h("a", { class: "place", href: link("policies", { policy, line }) },
    `${policy} (${file.split("/").at(-1)}:${line})`, stale && " as it was before the file was broken");
}

function change({ kind: what, policy, file, line, field, yaml }) {
  const deed = { add: "Add to", replace: "Put in place of", remove: "Take out" }[what] ?? what;
  return h("div", { class: "change" },
    h("p", {}, `${deed} `, h("code", {}, field), " of ",
      h("a", { class: "place", href: link("policies", { policy, line }) }, `${policy} (${file.split("/").at(-1)}:${line})`)),
    yaml && h("pre", { class: "yaml" }, yaml.trimEnd()));
}
