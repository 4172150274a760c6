// Light or dark: as the system has it, until somebody chooses.

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SIGN = { auto: "◐", light: "☀", dark: "☾" };

export function theme(button) {
  const show = (chosen) => {
    document.documentElement.dataset.theme = chosen;
    button.textContent = SIGN[chosen];
    button.setAttribute("aria-label", `Colours: ${chosen}. Change to ${NEXT[chosen]}`);
    button.title = `Colours: ${chosen}`;
  };
  const chosen = () => NEXT[stored()] ? stored() : "auto";
  button.addEventListener("click", () => {
    const next = NEXT[chosen()];
    try { localStorage.setItem("theme", next); } catch { /* It holds for this page alone. */ }
    show(next);
  });
  show(chosen());
}

function stored() {
  try { return localStorage.getItem("theme"); } catch { return document.documentElement.dataset.theme; }
}
