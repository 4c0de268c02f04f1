// Light, dark, or as the system has it: remembered, and set before the first paint (which is why this is no module).

const THEMES = ["auto", "light", "dark"];

function chosenTheme() {
  try {
    const stored = localStorage.getItem("theme");
    return THEMES.includes(stored) ? stored : "auto";
  } catch {
    return "auto"; // storage is forbidden here
  }
}

function applyTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

applyTheme(chosenTheme());

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  if (!button) return; // the page to sign in has none
  const say = (theme) => {
    button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme];
    button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  };
  let theme = chosenTheme();
  say(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem("theme", theme);
    } catch {} // for this page, then
    applyTheme(theme);
    say(theme);
    document.dispatchEvent(new Event("theme"));
  });
});
