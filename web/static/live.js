// Keeps the page as it is now. The dashboard tells (server-sent events) how it is, and on some pages which parts have changed; other
// pages are fetched again every few seconds. Still in hidden tabs, while text is selected or a field is edited, and on request.
// Without JavaScript the page's <noscript> reloads it.

import { morph, parse } from "./morph.js";
import { arrived, rewrite } from "./times.js";

const FETCH_LIMIT_MS = 8000;
const QUIET_MS = 6000; // a tick comes every second: after so long without one the page fetches itself
const TITLE = document.title;
const SIGNS = { ok: "", busy: "", warn: "▲ ", down: "✕ " };

const main = () => document.getElementById("main");
const live = document.getElementById("live");
const status = live.querySelector("[role=status]");
const button = live.querySelector("button");
const refreshMs = () => Number(main().dataset.refreshS) * 1000;
let source = null;
let paused = false;
let heardAt = performance.now();
let fetchedAt = performance.now();
let fetching = false;
let told = false; // are there parts that come by themselves?

function say(text, trouble = false) {
  if (status.textContent !== text) status.textContent = text;
  live.classList.toggle("trouble", trouble);
  live.classList.toggle("still", paused && !trouble);
}

function open() {
  if (source || paused || document.hidden) return;
  heardAt = performance.now();
  source = new EventSource(main().dataset.live);
  source.addEventListener("tick", (event) => heard(event.data));
  source.addEventListener("page", (event) => show(JSON.parse(event.data)));
}

function close() {
  source?.close();
  source = null;
}

function heard(at) {
  heardAt = performance.now();
  arrived(at);
  const made = document.getElementById("made");
  if (made && told) made.dateTime = at;
  if (made && told) rewrite(made.parentElement);
  say("Live");
}

// How it is, for those who look at another page, another tab, or from across the room.
function show({ level, headline, parts }) {
  document.title = SIGNS[level] + TITLE;
  document.getElementById("icon").href = document.getElementById("icon").href.replace(/icon[^/]*\.svg/, SIGNS[level] ? `icon-${level}.svg` : "icon.svg");
  const pulse = document.getElementById("pulse");
  pulse.className = `pulse ${level}`;
  pulse.hidden = level === "ok" || level === "busy" || Boolean(document.getElementById("health"));
  if (pulse.textContent !== headline) pulse.textContent = headline;
  if (busy()) return;
  for (const [id, html] of Object.entries(parts)) {
    told = true;
    const fresh = parse(`<div class="part" id="${id}">${html}</div>`).body.firstElementChild;
    const old = document.getElementById(id);
    rewrite(fresh);
    if (old) morph(old, fresh);
  }
}

async function refresh() {
  fetching = true;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_LIMIT_MS), redirect: "error" });
    const fresh = parse(await answer.text()).getElementById("main");
    if (!fresh) throw new Error("not a page of the dashboard");
    rewrite(fresh);
    if (!paused && !busy()) morph(main(), fresh);
    say("Live");
  } catch {
    say("The dashboard does not answer: this is what it said last", true);
  }
  fetchedAt = performance.now();
  fetching = false;
}

// Someone is reading, copying, choosing or typing inside <main>: the next round will do.
function busy() {
  const selection = getSelection();
  const selecting = !selection.isCollapsed && main().contains(selection.anchorNode);
  const asking = document.querySelector("dialog[open], dialog:target");
  const choosing = main().querySelector("form.choose input:checked");
  return selecting || asking || choosing || main().contains(document.activeElement?.closest("input, select, textarea"));
}

function turn() {
  if (paused || document.hidden) return;
  open();
  const quiet = performance.now() - heardAt > QUIET_MS;
  if (quiet && source?.readyState === EventSource.CLOSED) close(); // refused for good: try anew
  const due = refreshMs() && performance.now() - fetchedAt >= refreshMs();
  if (!fetching && !busy() && due && (!told || quiet)) refresh();
  else if (quiet && !fetching && !refreshMs()) say("The dashboard does not answer", true);
}

button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
  say(paused ? "Paused" : "Live");
  fetchedAt = 0; // at once
  if (paused) close();
  else turn();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else turn();
});
addEventListener("pagehide", close);

live.hidden = false;
button.hidden = !refreshMs();
say("Live");
open();
setInterval(turn, 1000);
