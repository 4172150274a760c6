// The frame: which view is shown, the node's health, colours, and keys.

import { h } from "./dom.js";
import { poll } from "./server.js";
import { theme } from "./theme.js";
import { count } from "./words.js";
import * as cache from "./cache.js";
import * as drops from "./drops.js";
import * as flows from "./flows.js";
import * as map from "./map.js";
import * as node from "./node.js";
import * as policies from "./policies.js";

const VIEWS = { map, flows, drops, cache, policies, node };

const main = document.getElementById("main");
const nav = document.getElementById("views");
const health = document.getElementById("health");
const skip = document.getElementById("skip");
let leave = () => {};

// The address behind # is the whole state: view and parameters.
function show(event) {
  const [wanted, query = ""] = location.hash.slice(1).split("?", 2);
  const name = Object.hasOwn(VIEWS, wanted) ? wanted : "map";
  leave();
  document.getElementById("detail").close();
  main.replaceChildren();
  document.title = `${VIEWS[name].title} – fqdnd`;
  for (const entry of nav.children) {
    if (entry.dataset.view === name) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
  leave = VIEWS[name].mount(main, Object.fromEntries(new URLSearchParams(query)));
  if (event) main.focus({ preventScroll: true });
}

function showHealth(status) {
  const failed = [...status.metrics, ...status.page, ...(status.hubble?.listeners ?? [])].filter((own) => own.failure);
  const problems = status.problems.length + failed.length + (status.endpoints.denied > 0 ? 1 : 0);
  const behind = status.appliedRevision !== status.policyRevision;
  const [tone, sign, text] = problems > 0
    ? ["bad", "!", count(problems, "problem")]
    : behind
      ? ["warn", "…", `revision ${status.policyRevision} is being applied`]
      : status.audit
        ? ["warn", "◎", `auditing ${count(status.policies, "policy", "policies")}`]
        : ["good", "✓", `enforcing ${count(status.policies, "policy", "policies")}`];
  setHealth(tone, sign, text);
}

// Changed only where it changes: it is read out each time.
function setHealth(tone, sign, text) {
  if (health.dataset.text === text) return;
  health.dataset.text = text;
  health.className = `health ${tone}`;
  health.replaceChildren(h("span", { "aria-hidden": "true" }, sign), h("span", {}, text));
}

function key(event) {
  const typing = event.target.closest?.("input, select, textarea, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (event.key === "/") {
    const field = main.querySelector("input");
    if (field) { event.preventDefault(); field.focus(); }
  } else if (number >= 1 && number <= nav.children.length) {
    nav.children[number - 1].click();
  }
}

nav.append(...Object.entries(VIEWS).map(([name, view], at) =>
  h("a", { href: `#${name}`, "data-view": name, "aria-keyshortcuts": String(at + 1) }, view.title)));
skip.addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
window.addEventListener("hashchange", show);
document.addEventListener("keydown", key);
theme(document.getElementById("theme"));
show();
poll(4000, "status", () => ({}), showHealth, () => setHealth("bad", "!", "the daemon does not answer"));
