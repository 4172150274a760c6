// Elements from values. Text becomes text nodes and nothing else: whatever pods say stays text.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes, `on` with listeners, and children; what is null or false is left out.
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// The same for drawings.
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const [event, listener] of Object.entries(on)) {
    element.addEventListener(event, listener);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A page's heading with what stands beside it.
export function heading(title, ...beside) {
  return h("div", { class: "heading" }, h("h1", {}, title), ...beside);
}

// A table's head; what begins with # is over numbers.
export function columns(...names) {
  const head = (name) => name.startsWith("#")
    ? h("th", { scope: "col", class: "number" }, name.slice(1))
    : h("th", { scope: "col" }, name);
  return h("thead", {}, h("tr", {}, names.map(head)));
}

// Terms with their descriptions, but for those without.
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h("dl", { class: "facts" }, shown.flatMap(([term, value]) => [
    h("dt", {}, term),
    h("dd", {}, ...[value].flat()),
  ]));
}

// What is shown where there is nothing to show.
export function nothing(...text) {
  return h("p", { class: "nothing" }, ...text);
}

// What went wrong.
export function failure(error) {
  return h("p", { class: "failure", role: "alert" }, error.message);
}

// One stop for the tabulator among the items that `all` finds; arrows, Home and End go on from it.
export function roving(container, all) {
  const enter = (item) => {
    for (const other of all()) other.setAttribute("tabindex", other === item ? "0" : "-1");
  };
  container.addEventListener("focusin", (event) => {
    const item = all().find((own) => own === event.target);
    if (item) enter(item);
  });
  container.addEventListener("keydown", (event) => {
    const items = all();
    const at = items.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1,
      Home: 0, End: items.length - 1,
    }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    } else if (to !== undefined) {
      event.preventDefault();
      items[Math.max(0, Math.min(items.length - 1, to))].focus();
    }
  });
  return {
    // After items were added or taken away.
    settle() {
      const items = all();
      if (!items.some((item) => item.getAttribute("tabindex") === "0")) {
        items[0]?.setAttribute("tabindex", "0");
      }
    },
  };
}
