// Fetches this page again every few seconds and swaps <main>. Pauses in hidden tabs, while text is selected, and on request.
// Without JavaScript the page's <noscript> reloads it.

const FETCH_LIMIT_MS = 8000;

const live = document.getElementById("live");
const status = live.querySelector("[role=status]");
const button = live.querySelector("button");
let paused = false;
let timer = 0;

const main = () => document.getElementById("main");
const refreshMs = () => Number(main().dataset.refreshS) * 1000;

function say(text, trouble = false) {
  if (status.textContent !== text) status.textContent = text;
  live.classList.toggle("trouble", trouble);
}

function schedule() {
  clearTimeout(timer);
  live.hidden = !refreshMs();
  if (refreshMs() && !paused && !document.hidden) timer = setTimeout(refresh, refreshMs());
}

async function refresh() {
  if (!busy()) {
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_LIMIT_MS), redirect: "error" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      if (!fresh) throw new Error("not a page of the dashboard");
      if (!paused && !busy()) swap(fresh);
      say("Live");
    } catch {
      say("The dashboard does not answer: this is what it said last", true);
    }
  }
  schedule();
}

// Someone is reading, copying, choosing or typing inside <main>: the next round will do.
function busy() {
  const selection = getSelection();
  const selecting = !selection.isCollapsed && main().contains(selection.anchorNode);
  const choosing = main().querySelector("form.choose input:checked");
  return selecting || choosing || main().contains(document.activeElement?.closest("input, select"));
}

function swap(fresh) {
  const old = main();
  for (const details of old.querySelectorAll("details[data-key]")) {
    const same = fresh.querySelector(`details[data-key="${CSS.escape(details.dataset.key)}"]`);
    if (same) same.open = details.open;
  }
  const scrolled = [...old.querySelectorAll("pre")].map((box) => [box.scrollLeft, box.scrollTop]);
  const focused = [...old.querySelectorAll("a, button, summary")].indexOf(document.activeElement);
  const { scrollX, scrollY } = window;
  old.replaceWith(fresh);
  fresh.querySelectorAll("pre").forEach((box, i) => scrolled[i] && box.scrollTo(...scrolled[i]));
  if (focused >= 0) fresh.querySelectorAll("a, button, summary")[focused]?.focus({ preventScroll: true });
  window.scrollTo(scrollX, scrollY);
}

button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
  say(paused ? "Paused" : "Live");
  if (paused) schedule();
  else refresh();
});
document.addEventListener("visibilitychange", () => (document.hidden || paused ? schedule() : refresh()));

say("Live");
schedule();
