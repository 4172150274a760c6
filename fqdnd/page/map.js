// The map: pods at the left, what they talk to at the right, and between them how often.

import { columns, failure, h, heading, nothing, roving, s } from "./dom.js";
import { openEdge } from "./detail.js";
import { place } from "./layout.js";
import { poll } from "./server.js";
import { ago, count, span } from "./words.js";

export const title = "Map";

const OUTCOMES = {
  allowed: ["✓", "allowed"],
  audited: ["◎", "audited"],
  dropped: ["✕", "dropped"],
  failed: ["!", "failed"],
};

export function mount(root) {
  const told = h("p", { class: "told", "aria-live": "polite" });
  const drawing = h("div", { class: "card drawing" });
  const table = h("tbody");
  const summary = h("span", { class: "soft" });
  root.append(
    heading("Who talks to which names", summary),
    legend(),
    drawing,
    told,
    h("details", { class: "card" },
      h("summary", {}, "The same as a table"),
      h("div", { class: "scroll" }, h("table", {},
        columns("From", "To", ...Object.values(OUTCOMES).map(([, word]) => `#${word}`), "Ports", "Last"),
        table))),
  );
  let drawn = "";
  let map = { edges: [] };
  const ribbons = () => [...drawing.querySelectorAll(".ribbon")];
  const stops = roving(drawing, ribbons);

  const draw = () => {
    const focused = drawing.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    drawing.replaceChildren(map.edges.length > 0
      ? picture(map.edges, drawing.clientWidth, told)
      : nothing("Nothing was seen yet: no pod of this node has asked for a name or connected."));
    stops.settle();
    if (focused) ribbons().find((own) => own.dataset.key === focused)?.focus();
  };
  const show = (body) => {
    summary.textContent = described(body);
    // Whoever closes it goes back to the ribbon that was opened.
    if (document.querySelector("dialog[open]")) return;
    const text = JSON.stringify(body.edges);
    if (text === drawn) return;
    drawn = text;
    map = body;
    draw();
    table.replaceChildren(...body.edges.map(row));
  };
  const fail = (error) => { drawn = ""; drawing.replaceChildren(failure(error)); };
  const asked = poll(3000, "map", () => ({}), show, fail);
  const sized = new ResizeObserver(() => map.edges.length > 0 && draw());
  sized.observe(drawing);
  return () => { asked.stop(); sized.disconnect(); };
}

function described({ flows, lost, since, moreSources }) {
  const parts = [`${count(flows, "flow")}${since ? ` in the last ${span((Date.now() - since) / 1000)}` : ""}`];
  if (lost > 0) parts.push(`${lost.toLocaleString("en")} more that were not recorded`);
  if (moreSources > 0) parts.push(`${count(moreSources, "quieter source")} not drawn`);
  return parts.join(", ");
}

function legend() {
  return h("p", { class: "legend" }, Object.entries(OUTCOMES).map(([outcome, [sign, word]]) =>
    h("span", { class: `key ${outcome}` }, h("span", { class: "swatch", "aria-hidden": "true" }, sign), word)));
}

function row(edge) {
  return h("tr", {},
    h("td", { class: "mono" }, edge.source.name),
    h("td", { class: "mono" }, edge.destination.name),
    Object.keys(OUTCOMES).map((outcome) => h("td", { class: "number" }, String(edge[outcome]))),
    h("td", { class: "ports" }, edge.ports.join(", ")),
    h("td", { class: "time" }, ago(edge.last)));
}

function picture(edges, width, told) {
  const { left, right, ribbons, height, narrow } = place(edges, width);
  const group = s("g");
  const light = (chosen) => {
    group.classList.toggle("chosen", chosen !== null);
    for (const ribbon of group.querySelectorAll(".ribbon")) {
      ribbon.classList.toggle("lit", chosen?.(ribbon.dataset) ?? false);
    }
  };
  group.append(...ribbons.map((own) => drawRibbon(own, light, told)));
  const nodes = [...left.map((own) => [own, "source"]), ...right.map((own) => [own, "destination"])];
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": "Flows from pods to names. Arrow keys go from one to the next, Enter opens it.",
  }, group, nodes.map(([own, end]) => drawNode(own, end, narrow, light)));
}

function drawRibbon({ edge, outcome, path, width, end }, light, told) {
  const [sign, word] = OUTCOMES[outcome];
  const text = `${edge.source.name} to ${edge.destination.name}: ${edge[outcome].toLocaleString("en")} ${word}`;
  const more = [edge.ports.join(", "), ["dropped", "audited"].includes(outcome) ? Object.keys(edge.reasons).join(", ") : "", ago(edge.last)];
  const key = `${outcome} ${edge.source.kind} ${edge.source.name} ${edge.destination.kind} ${edge.destination.name}`;
  const enter = () => {
    light((own) => own.key === key);
    told.textContent = [text, ...more.filter(Boolean)].join(" · ");
  };
  return s("g", {
    class: `ribbon ${outcome}`, role: "button", tabindex: "-1", "aria-label": text,
    "data-key": key, "data-source": edge.source.name, "data-destination": edge.destination.name,
    on: {
      mouseenter: enter, focus: enter,
      mouseleave: () => light(null), blur: () => light(null),
      click: () => openEdge(edge),
    },
  },
  s("path", { class: "band", d: path, "stroke-width": width }),
  s("path", { class: "reach", d: path, "stroke-width": Math.max(width, 14) }),
  outcome !== "allowed" && s("text", { class: "sign", x: end.x - 11, y: end.y + 4.5, "aria-hidden": "true" }, sign));
}

function drawNode({ party, x, y, height, label }, end, narrow, light) {
  return s("g", {
    class: `node ${party.kind}`, "aria-hidden": "true",
    on: {
      mouseenter: () => light((own) => own[end] === party.name),
      mouseleave: () => light(null),
    },
  },
  s("rect", { x, y, width: 6, height, rx: 3 }),
  s("text", { x: label.x, y: label.y, "text-anchor": label.anchor, class: narrow ? "small" : "" }, label.text),
  s("title", {}, party.name));
}
