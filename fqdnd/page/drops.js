// What was dropped, or would have been if its policies were enforced, by who, what and why; opened,
// with what would let it pass.

import { failure, h, heading, nothing } from "./dom.js";
import { asked, places, why } from "./detail.js";
import { follow, poll } from "./server.js";
import { ago, count, link, party, policies, REASONS, summary, transport, verdict } from "./words.js";

export const title = "Drops";

const LAST = 1000;
const SHOWN = 100;

export function mount(root) {
  const list = h("ul", { class: "drops" });
  const exact = h("p", { class: "chips" });
  const problem = h("div");
  const empty = nothing("Nothing was dropped or audited, as far as flows are kept.");
  const told = h("span", { class: "soft", role: "status" });
  const groups = new Map();
  let frame = 0;

  const show = () => {
    frame = 0;
    const newest = [...groups.values()].sort((a, b) => b.last - a.last);
    for (const group of newest.slice(SHOWN)) { group.item.remove(); groups.delete(group.key); }
    newest.slice(0, SHOWN).forEach((group, at) => {
      group.update();
      // Moved only if it must be: what is moved loses focus.
      if (list.children[at] !== group.item && !group.item.contains(document.activeElement)) {
        list.insertBefore(group.item, list.children[at] ?? null);
      }
    });
    empty.hidden = groups.size > 0;
    told.textContent = groups.size > 0 ? count(groups.size, "kind") : "";
  };
  const stream = follow([{ verdict: ["DROPPED", "ERROR", "AUDIT"] }], LAST, {
    begin() { groups.clear(); list.replaceChildren(); problem.replaceChildren(); frame ||= requestAnimationFrame(show); },
    show(event) {
      const { flow } = event.response;
      if (!flow) return;
      const key = [party(flow, "source"), asked(flow) ?? "", party(flow, "destination"), transport(flow).text, flow.verdict, event.reason, said(event)].join("\n");
      if (!groups.has(key)) groups.set(key, group(key));
      groups.get(key).add(event);
      frame ||= requestAnimationFrame(show);
    },
    fail(error) { problem.replaceChildren(failure(error)); },
  });
  const counted = poll(4000, "status", () => ({}), ({ drops, audits }) => exact.replaceChildren(...chips(drops), ...chips(audits, "audited ")), () => {});
  const clock = setInterval(show, 5000);
  root.append(heading("Drops", told), exact, problem, list, empty);
  return () => { stream.stop(); counted.stop(); clearInterval(clock); cancelAnimationFrame(frame); };
}

// The kernel's own counters: exact, however many flows were recorded.
function chips(counts, prefix = "") {
  const entries = Object.entries(counts).filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
  return entries.map(([reason, number]) => h("span", { class: "chip", title: REASONS[reason] ?? "" },
    h("b", {}, number.toLocaleString("en")), ` ${prefix}${reason}`));
}

// Drops that are alike.
function group(key) {
  const times = h("b", { class: "times" });
  const age = h("span", { class: "soft age" });
  const line = h("span", { class: "line" });
  const body = h("div", { class: "body", hidden: true });
  const button = h("button", {
    type: "button", class: "fold", "aria-expanded": "false",
    on: { click: () => own.toggle() },
  }, times, line, age);
  const own = {
    key, last: 0, number: 0, event: null,
    item: h("li", { class: "card" }, button, body),
    add(event) {
      own.number += 1;
      own.last = Date.parse(event.response.flow.time);
      if (!own.event) line.replaceChildren(...described(event));
      own.event = event;
    },
    update() {
      times.textContent = `${own.number.toLocaleString("en")}×`;
      age.textContent = ago(own.last);
    },
    toggle() {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      body.hidden = open;
      body.replaceChildren(...(open ? [] : inside(own.event)));
    },
  };
  return own;
}

// What a proxy read, or why it failed; of a packet, its place says enough.
const said = (event) => event.response.flow.l7 || !event.reason ? summary(event) : "";

function described(event) {
  const { flow } = event.response;
  const name = asked(flow);
  const question = name && `${flow.l7.dns.qtypes?.join(",") ?? ""} asked of ${party(flow, "destination")}`;
  const what = [question ?? transport(flow).text, (!name || !event.reason) && said(event)];
  const { sign, tone, word } = verdict(flow.verdict);
  const passed = word === "audit";
  return [
    h("span", { class: "mono" }, party(flow, "source")),
    h("span", { class: passed ? tone : "bad", "aria-label": passed ? "audited, to" : "not to" }, passed ? ` ${sign} ` : " ✕ "),
    h("span", { class: "mono" }, name ?? party(flow, "destination")),
    h("span", { class: "soft" }, ` ${what.filter(Boolean).join(" ")}`),
    " ",
    h("span", { class: `badge ${tone}` }, [passed && "audit", event.reason ?? (!passed && word)].filter(Boolean).join(": ")),
  ];
}

function inside(event) {
  const { flow } = event.response;
  const pod = flow.source?.pod_name ? `${flow.source.namespace}/${flow.source.pod_name}` : "";
  const explained = why(event, verdict(flow.verdict).word === "audit" ? "audit" : "dropped");
  return [
    explained ?? h("p", {}, REASONS[event.reason] ?? flow.Summary ?? ""),
    places(policies(flow)),
    h("p", { class: "actions" }, h("a", { class: "button", href: link("flows", { pod, verdict: flow.verdict.toLowerCase() }) }, "Show the flows")),
  ].flat().filter(Boolean);
}
