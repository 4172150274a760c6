// The node: how the daemon fares, and its endpoints.

import { columns, facts, failure, h, heading } from "./dom.js";
import { poll } from "./server.js";
import { link, span } from "./words.js";

export const title = "Node";

export function mount(root) {
  const state = h("section", { class: "card" });
  const rows = h("tbody");
  const problem = h("div");
  const fail = (error) => problem.replaceChildren(failure(error));
  const asked = [
    poll(4000, "status", () => ({}), (status) => { problem.replaceChildren(); state.replaceChildren(...described(status)); }, fail),
    poll(4000, "endpoints", () => ({}), (endpoints) => rows.replaceChildren(...endpoints.map(row)), fail),
  ];
  root.append(
    heading("Node"), problem, state,
    h("div", { class: "card scroll" }, h("table", {},
      columns("Pod", "Enforcement", "Addresses", "Policies", "#Names", "#Dropped"),
      rows)));
  return () => asked.forEach((own) => own.stop());
}

function described(status) {
  const { endpoints } = status;
  const served = (listeners) => listeners.map((own) => own.failure ? `${own.address}: ${own.failure}` : own.address).join(", ");
  const counts = (all) => Object.entries(all).filter(([, number]) => number > 0)
    .map(([name, number]) => `${name} ${number.toLocaleString("en")}`).join(" · ");
  const problem = (own) => [own.file && `${own.file}:${own.line}`, own.field, own.message].filter(Boolean).join(": ");
  return [
    ...(status.audit ? [h("p", { class: "note" }, "Every policy is audited: nothing is enforced.")] : []),
    ...status.problems.map((own) => h("p", { class: "failure" }, problem(own))),
    facts([
      ["Version", `${status.version}, up ${span(status.uptimeSeconds)}`],
      ["Kernel", `${status.kernel}, attached by ${status.attachMode}`],
      ["Policies", `${status.policies} from ${status.files} files; revision ${status.appliedRevision} of ${status.policyRevision} is enforced`],
      ["Pods", `${endpoints.enforced} enforced, ${endpoints.audited} audited, ${endpoints.open} open, ${endpoints.denied} denied`],
      ["DNS", counts(status.dns)],
      ["Flows", counts(status.flows)],
      ["Limits", counts(status.limits)],
      ["Hubble", served(status.hubble?.listeners ?? [])],
      ["Metrics", served(status.metrics)],
      ["Page", served(status.page)],
    ]),
    ...status.warnings.map((own) => h("p", { class: "note" }, problem(own))),
  ];
}

function row(own) {
  const pod = `${own.namespace}/${own.name}`;
  const [tone, sign] = { enforced: ["good", "✓"], audited: ["warn", "◎"], open: ["warn", "○"], denied: ["bad", "✕"] }[own.enforcement] ?? ["soft", "·"];
  const dropped = Object.values(own.drops).reduce((sum, number) => sum + number, 0);
  return h("tr", {},
    h("td", { class: "mono" }, h("a", { href: link("flows", { pod }) }, pod)),
    h("td", {}, h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, sign), own.enforcement), own.reason && ` ${own.reason}`),
    h("td", { class: "mono" }, own.addresses.map((address) => h("div", {}, address))),
    h("td", {}, own.policies.map((policy) => h("div", {}, h("a", { class: "mono", href: link("policies", { policy }) }, policy)))),
    h("td", { class: "number" }, String(own.names)),
    h("td", { class: "number" }, dropped.toLocaleString("en")));
}
