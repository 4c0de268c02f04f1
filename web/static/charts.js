// Draws the charts with uPlot over the SVG that came with the page: values under the pointer, and new ones as time goes on.

import { local } from "./times.js";

const HEIGHT = 108;
const drawn = new Map(); // key -> {figure, data, plot}

const words = {
  "/s": (v) => (v == null ? "–" : `${v < 99.95 ? v.toFixed(v < 0.1 ? 2 : 1).replace(/\.?0+$/, "") : Math.round(v).toLocaleString("en")}/s`),
  s: (v) => (v == null ? "–" : v < 1 ? `${Math.round(v * 1000)} ms` : v < 60 ? `${v.toFixed(1)} s` : `${Math.round(v / 60)} min`),
};

function colour(figure, tone) {
  const probe = document.createElement("i");
  probe.className = `probe ${tone}`;
  figure.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function translucent(found) {
  return found.replace(/^rgb\((.*)\)$/, "rgba($1, 0.10)");
}

function columns(data) {
  const times = data.curves[0].values.map((_, i) => data.start + i * data.step);
  return [times, ...data.curves.map((curve) => curve.values)];
}

function options(figure, data) {
  const soft = colour(figure, "mute");
  const say = words[data.unit];
  const axis = { stroke: soft, grid: { show: false }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: figure.clientWidth,
    height: HEIGHT,
    padding: [6, 8, 0, 0],
    legend: { show: false },
    cursor: { points: { size: 5 }, y: false, sync: { key: "tidings" } },
    scales: { y: { range: (_, __, top) => [0, top > 0 ? top * 1.08 : 1] } },
    axes: [
      { ...axis, size: 20, gap: 2, space: 70, values: (_, splits) => splits.map((t) => local(new Date(t * 1000)).slice(11, 16)) },
      { ...axis, size: 52, gap: 4, space: 34, grid: { show: true, stroke: translucent(soft), width: 1 }, values: (_, splits) => splits.map((v) => say(v)) },
    ],
    series: [
      {},
      ...data.curves.map((curve) => {
        const stroke = colour(figure, curve.tone);
        return { label: curve.label, stroke, width: 1.6, fill: curve.label === "sent" ? translucent(stroke) : undefined, points: { show: false } };
      }),
    ],
    hooks: { setCursor: [(plot) => tell(figure, data, plot)] },
  };
}

// The values under the pointer, in a line of text.
function tell(figure, data, plot) {
  const tip = figure.querySelector(".tip");
  const at = plot.cursor.idx;
  tip.hidden = at == null || plot.cursor.left < 0;
  if (tip.hidden) return;
  const values = data.curves.map((curve) => `${curve.label} ${words[data.unit](curve.values[at])}`);
  tip.textContent = `${local(new Date((data.start + at * data.step) * 1000)).slice(11)}  ${values.join("  ")}`;
}

function draw(figure, data, said) {
  if (!data.curves.length || !figure.clientWidth) return;
  const known = drawn.get(figure);
  if (known && JSON.stringify(known.labels) === JSON.stringify(data.curves.map((c) => c.label))) {
    Object.assign(known.data, data);
    known.plot.setData(columns(data));
    return;
  }
  known?.plot.destroy();
  const tip = document.createElement("p");
  tip.className = "tip";
  tip.hidden = true;
  figure.replaceChildren(tip);
  figure.setAttribute("role", "img");
  if (said) figure.setAttribute("aria-label", said);
  const plot = new uPlot(options(figure, data), columns(data), figure);
  drawn.set(figure, { data, plot, labels: data.curves.map((c) => c.label) });
}

const figures = new Map();
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const figure = svg.closest("figure");
  figures.set(svg.dataset.chart, figure);
  draw(figure, JSON.parse(svg.dataset.values), svg.getAttribute("aria-label"));
}

async function renew() {
  const place = document.querySelector("[data-rates]");
  if (!place || document.hidden) return;
  try {
    const answer = await fetch(place.dataset.rates, { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) return;
    for (const [key, data] of Object.entries(await answer.json())) {
      const figure = figures.get(key || "events");
      if (figure?.isConnected) draw(figure, data);
    }
  } catch {} // live.js says that the dashboard does not answer
}

function again() {
  for (const [figure, { data, plot }] of [...drawn]) {
    plot.destroy();
    drawn.delete(figure);
    if (figure.isConnected) draw(figure, data);
  }
}

if (figures.size) {
  const step = Math.min(...[...drawn.values()].map(({ data }) => data.step));
  setInterval(renew, Math.min(60, Math.max(5, step / 2)) * 1000);
  document.addEventListener("visibilitychange", renew);
  document.addEventListener("theme", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [figure, { plot }] of drawn)
      if (figure.clientWidth && figure.clientWidth !== plot.width) plot.setSize({ width: figure.clientWidth, height: HEIGHT });
  }).observe(document.getElementById("main"));
}
