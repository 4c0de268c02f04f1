// Times in the viewer's zone, with the exact instant on hover; "12 s ago" goes on counting. Without JavaScript they are in UTC.
// <time datetime="2026-11-22T03:00:00.123Z"><b data-ago>12 s ago</b> <span>2026-11-22 03:00:00Z</span></time>, or with text alone.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const two = (n) => String(n).padStart(2, "0");
const day = (t) => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
const clock = (t) => `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function local(t) {
  return `${day(t)} ${clock(t)}`;
}

export function ago(t, now = Date.now()) {
  const seconds = Math.floor(Math.abs(now - t) / 1000);
  const [size, unit] = UNITS.find(([s]) => seconds >= s) ?? [1, ""];
  if (!unit) return "just now";
  const words = `${Math.floor(seconds / size)} ${unit}`;
  return t < now ? `${words} ago` : `in ${words}`;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The clocks of the server and of this machine may differ: what was "12 s ago" when the page came is 13 s ago a second later.
export function rewrite(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const instant = new Date(time.dateTime);
    if (Number.isNaN(instant.getTime())) continue;
    const title = `${local(instant)} ${zone}\n${time.dateTime}`;
    if (time.title !== title) time.title = title;
    const span = time.querySelector("span");
    if (span) put(span, local(instant));
    else if (!time.firstElementChild) put(time, time.hasAttribute("data-clock") ? clock(instant) : local(instant));
  }
}

let came = performance.now();
let serverNow = Date.now();

// `iso`: the server's clock when the page, or what replaced it, was made.
export function arrived(iso) {
  came = performance.now();
  serverNow = iso ? Date.parse(iso) : Date.now();
}

function tick() {
  if (document.hidden) return;
  const now = serverNow + performance.now() - came;
  for (const b of document.querySelectorAll("time[datetime] > [data-ago]")) put(b, ago(new Date(b.parentElement.dateTime), now));
}

arrived(document.querySelector("[data-now]")?.dataset.now);
rewrite();
setInterval(tick, 1000);
new MutationObserver(() => rewrite()).observe(document.body, { childList: true, subtree: true });
