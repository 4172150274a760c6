// Policies with their text, as somebody wrote it, and whom they select.

import { facts, failure, h, heading, nothing } from "./dom.js";
import { get, poll } from "./server.js";
import { count, link } from "./words.js";

export const title = "Policies";

export function mount(root, { policy: chosen = "", line = "0" }) {
  const list = h("ul", { class: "choices" });
  const text = h("section", { class: "card source", "aria-label": "Policy" });
  const problem = h("div");
  let drawn = "";
  let opened = false;

  const show = (policies) => {
    problem.replaceChildren();
    const state = JSON.stringify(policies);
    if (state === drawn) return;
    drawn = state;
    const name = policies.some((own) => nameOf(own) === chosen) ? chosen : chosen || nameOf(policies[0]);
    list.replaceChildren(...policies.map((own) => choice(own, name)));
    const own = policies.find((policy) => nameOf(policy) === name);
    if (!own) {
      text.replaceChildren(nothing(chosen ? `There is no policy ${chosen} any more.` : "No policies: every pod may send anything."));
      return;
    }
    open(own, text, Number(line), !opened);
    opened = true;
  };
  const asked = poll(5000, "policies", () => ({}), show, (error) => problem.replaceChildren(failure(error)));
  root.append(heading("Policies"), problem, h("div", { class: "split" }, h("nav", { "aria-label": "Policies" }, list), text));
  return () => asked.stop();
}

const nameOf = (policy) => policy ? [policy.namespace, policy.name].filter(Boolean).join("/") : "";

function choice(policy, chosen) {
  const name = nameOf(policy);
  const warned = policy.warnings.length;
  return h("li", {}, h("a", { href: link("policies", { policy: name }), "aria-current": name === chosen ? "true" : null },
    h("span", { class: "mono" }, name),
    h("span", { class: "soft" }, [
      count(policy.endpoints.length, "pod"),
      policy.audited && "audited",
      warned > 0 && count(warned, "warning"),
    ].filter(Boolean).join(" · "))));
}

async function open(policy, place, line, scroll) {
  const name = nameOf(policy);
  const known = [
    h("h2", { class: "mono" }, name),
    facts([
      ["Selects", policy.endpoints.map((own) => `${own.namespace}/${own.name}`).join(", ") || "no pod of this node"],
      ["Rules", policy.rules.map((rule) => `${rule.allows} allow, ${rule.denies} deny${rule.defaultDeny ? "; what none allows is denied" : ""}`).join(" · ")],
      ["Audited", policy.audited && "what it alone would drop passes"],
    ]),
    policy.warnings.map((own) => h("p", { class: "note" }, `${own.line ? `line ${own.line}: ` : ""}${own.field ? `${own.field}: ` : ""}${own.message}`)),
  ].flat();
  try {
    const source = await get("source", { policy: name });
    place.replaceChildren(...known, ...shown(source, line));
    if (scroll && line) place.querySelector(".marked")?.scrollIntoView({ block: "center" });
  } catch (error) {
    place.replaceChildren(...known, nothing(`Its text is not here: ${error.message}.`));
  }
}

function shown({ file, first, lines, cut, stale }, marked) {
  return [
    h("p", { class: "soft mono" }, file),
    stale && h("p", { class: "failure" }, "The file is broken: an earlier version of it is in force."),
    h("ol", { class: "code", start: first, tabindex: "0", "aria-label": `Text of ${file}` }, lines.map((line, at) =>
      h("li", { class: first + at === marked ? "marked" : null, value: first + at },
        h("span", { class: "line-number", "aria-hidden": "true" }, String(first + at)), h("code", {}, line || " ")))),
    cut && h("p", { class: "note" }, "It goes on."),
  ].filter(Boolean);
}
