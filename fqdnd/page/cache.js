// What pods have resolved, and for how long it counts.

import { columns, failure, h, heading, nothing } from "./dom.js";
import { poll } from "./server.js";
import { count, link, plain, span } from "./words.js";

export const title = "Cache";

export function mount(root, parameters) {
  let text = parameters.text ?? "";
  let typed;
  const rows = h("tbody");
  const told = h("span", { class: "soft", role: "status" });
  const problem = h("div");
  const empty = nothing("No pod has resolved a name like that.");
  const show = ({ total, entries }) => {
    problem.replaceChildren();
    rows.replaceChildren(...entries.map(row));
    empty.hidden = entries.length > 0;
    told.textContent = `${total > entries.length ? `${entries.length} of ` : ""}${count(total, "address", "addresses")}`;
  };
  const asked = poll(3000, "cache", () => ({ text }), show, (error) => problem.replaceChildren(failure(error)));
  const search = h("input", {
    type: "search", placeholder: "name or pod", value: text, autocomplete: "off", spellcheck: "false",
    on: {
      input: (event) => {
        text = event.target.value.trim();
        history.replaceState(null, "", link("cache", { text }));
        clearTimeout(typed);
        typed = setTimeout(asked.now, 250);
      },
    },
  });
  root.append(
    heading("Cache", told),
    h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } }, h("label", {}, "Find", search)),
    problem,
    h("div", { class: "card scroll" }, h("table", { class: "cache" },
      columns("Name", "Address", "Pod", "Expires", "State"),
      rows), empty));
  return () => { asked.stop(); clearTimeout(typed); };
}

function row({ endpoint, name, address, expiresInSeconds: left, keptAlive, enforced }) {
  const pod = `${endpoint.namespace}/${endpoint.name}`;
  const [tone, sign, state] = !enforced
    ? ["soft", "·", "no rule selects it"]
    : left >= 0
      ? ["good", "✓", "may be connected to"]
      : keptAlive
        ? ["proxy", "↪", "kept for a living connection"]
        : ["warn", "…", "expired"];
  return h("tr", {},
    h("td", { class: "mono" }, plain(name)),
    h("td", { class: "mono" }, address),
    h("td", { class: "mono" }, h("a", { href: link("flows", { pod, name: plain(name) }) }, pod)),
    h("td", { class: "time" }, left >= 0 ? `in ${span(left)}` : `${span(left)} ago`),
    h("td", {}, h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, sign), state)));
}
