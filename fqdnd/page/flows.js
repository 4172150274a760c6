// Live flows: the newest at the top, with filters that the daemon applies.

import { columns, failure, h, heading, nothing, roving } from "./dom.js";
import { openFlow } from "./detail.js";
import { follow } from "./server.js";
import { count, kind, link, party, plain, policies, summary, transport, verdict } from "./words.js";

export const title = "Flows";

const LAST = 200;
const SHOWN = 400;
const VERDICTS = ["", "forwarded", "redirected", "dropped", "audit", "error"];

export function mount(root, parameters) {
  const filter = { pod: "", name: "", verdict: "", port: "", ...parameters };
  const rows = h("tbody");
  const told = h("span", { class: "soft", role: "status" });
  const problem = h("div");
  const empty = nothing("No flow that fits was seen yet. They appear here as they happen.");
  const pause = h("button", { type: "button", "aria-pressed": "false", on: { click: () => hold(!held) } }, "Pause");
  let held = false;
  let waiting = [];
  let frame = 0;
  let stream;
  let typed;

  const hold = (on) => {
    held = on;
    pause.setAttribute("aria-pressed", String(on));
    pause.textContent = on ? "Go on" : "Pause";
    if (!on) soon();
    tell();
  };
  const tell = () => {
    told.textContent = held ? `${count(waiting.length, "flow")} waiting` : count(rows.childElementCount, "flow");
    empty.hidden = rows.childElementCount > 0;
  };
  const soon = () => { frame ||= requestAnimationFrame(flush); };
  const flush = () => {
    frame = 0;
    rows.prepend(...waiting.reverse().map(row));
    waiting = [];
    while (rows.childElementCount > SHOWN) rows.lastElementChild.remove();
    stops.settle();
    tell();
  };
  const start = () => {
    stream?.stop();
    stream = undefined;
    let filters;
    try {
      filters = wanted(filter);
    } catch (error) {
      problem.replaceChildren(failure(error));
      return;
    }
    stream = follow(filters, LAST, {
      begin() { waiting = []; rows.replaceChildren(); problem.replaceChildren(); tell(); },
      show(event) {
        waiting.push(event);
        if (waiting.length > SHOWN) waiting.shift();
        if (held) tell(); else soon();
      },
      fail(error) { problem.replaceChildren(failure(error)); },
    });
  };
  const change = (name, value) => {
    filter[name] = value.trim();
    history.replaceState(null, "", link("flows", filter));
    clearTimeout(typed);
    typed = setTimeout(start, 250);
  };
  const field = (name, label, placeholder, mode) => h("label", {}, label, h("input", {
    type: "search", name, placeholder, value: filter[name], inputmode: mode, autocomplete: "off", spellcheck: "false",
    on: { input: (event) => change(name, event.target.value) },
  }));

  const table = h("table", { class: "flows" },
    columns("Time", "Verdict", "From", "To", "What", "Why"),
    rows);
  const stops = roving(table, () => [...rows.children].filter((own) => own.hasAttribute("tabindex")));
  root.append(
    heading("Live flows", told, pause),
    h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      field("pod", "Pod", "namespace/name"),
      field("name", "Name", "*.example.com"),
      field("port", "Port", "443", "numeric"),
      h("label", {}, "Verdict", h("select", { name: "verdict", on: { change: (event) => change("verdict", event.target.value) } },
        VERDICTS.map((own) => h("option", { value: own, selected: own === filter.verdict }, own || "any"))))),
    problem,
    h("div", { class: "card scroll" }, table, empty),
  );
  tell();
  start();
  return () => { stream?.stop(); cancelAnimationFrame(frame); clearTimeout(typed); };
}

// Hubble's filters for what was typed: either end may be the pod, and a name is of an address or
// asked for. One of them must match, so each has all the rest.
function wanted({ pod, name, verdict: own, port }) {
  let filters = [own ? { verdict: [own.toUpperCase()] } : {}];
  const either = (...alternatives) => {
    filters = filters.flatMap((filter) => alternatives.map((own) => ({ ...filter, ...own })));
  };
  if (pod) {
    const text = pod.includes("/") ? pod : `/${pod}`;
    either({ source_pod: [text] }, { destination_pod: [text] });
  }
  if (port) {
    if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) throw new Error(`“${port}” is no port`);
    either({ destination_port: [port] }, { source_port: [port] });
  }
  if (name) {
    if (!/^[\w.*-]+$/.test(name)) throw new Error(`“${name}” is no name; * stands for anything`);
    const text = plain(name.toLowerCase());
    const pattern = text.includes("*") ? text : `*${text}*`;
    const regex = pattern.replaceAll(".", "\\.").replaceAll("*", ".*");
    either({ destination_fqdn: [pattern] }, { source_fqdn: [pattern] }, { dns_query: [`^${regex}\\.?$`] });
  }
  return Object.keys(filters[0]).length > 0 ? filters : [];
}

function row(event) {
  const { flow, lost_events: lost } = event.response;
  if (!flow) {
    const text = lost ? `${count(Number(lost.num_events_lost ?? 0), "flow")} lost: ${lost.source}` : "something this page does not know";
    return h("tr", { class: "lost" }, h("td", { colspan: "6" }, text));
  }
  const { sign, tone, word } = verdict(flow.verdict);
  const decided = policies(flow);
  const time = flow.time?.slice(11, 23) ?? "";
  const port = transport(flow).to;
  const to = party(flow, "destination");
  return h("tr", { tabindex: "-1", "aria-label": `${word}, ${party(flow, "source")} to ${to}, ${flow.Summary ?? ""}`, on: { click: () => openFlow(event) } },
    h("td", { class: "time mono" }, time),
    h("td", {}, h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, sign), word)),
    h("td", { class: "mono from" }, party(flow, "source")),
    h("td", { class: "mono to" }, to, port !== undefined && h("span", { class: "soft" }, `:${port}`)),
    h("td", { class: "what" }, h("span", { class: "kind" }, kind(flow)), summary(event)),
    h("td", { class: "by" }, [event.reason, ...decided.map(({ policy }) => policy)].filter(Boolean).join(", ")));
}
