// The page of the last hour: a summary, and plots that can be read at any moment with the slider or the pointer.

import { call } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";
import { tell, tellKept, withdraw } from "../shared/notices.js";
import { plot } from "../shared/plot.js";

const EVERY = 10_000; // ms between two updates
const BINS = 120;

const seconds = (value) => `${value.toFixed(2)} s`;
const count = (value) => value.toLocaleString();
const share = (value) => `${Math.round(100 * value)}%`;
const size = (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
const time = (at) => new Date(1000 * at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });

const PLOTS = [
  {
    title: "Answered after",
    curves: { median: (bin) => bin.medians.heard, "95% are faster": (bin) => bin.p95 },
    form: seconds,
    y: [0],
  },
  {
    title: "Steps to the answer",
    curves: {
      understood: (bin) => bin.medians.understood,
      "first word": (bin) => bin.medians.first_token,
      "first sound": (bin) => bin.medians.first_sound,
    },
    form: seconds,
    y: [0],
  },
  { title: "Conversations", curves: { "at once": (bin) => bin.talks }, form: count, y: [0, 1] },
  { title: "Turns in half a minute", curves: { turns: (bin) => bin.turns }, form: count, y: [0, 1] },
  { title: "Processor", curves: { busy: (bin) => bin.processor }, form: share, y: [0, 1] },
  { title: "Memory", curves: { "all processes": (bin) => sum(bin.memory) }, form: size, y: [0] },
  {
    title: "Waiting or turned away",
    curves: { "requests waiting": (bin) => bin.waiting, "turned away": (bin) => bin.refused },
    form: count,
    y: [0, 1],
  },
];

let moments = []; // when the hour's bins begin, seconds since 1970
let looked = null; // the moment that is being read; null: none
let figures = [];

const sum = (sizes) => Object.values(sizes).reduce((total, each) => total + each, 0);

function show(hour) {
  const last = hour.bins.at(-1).at;
  moments = Array.from({ length: BINS }, (_, back) => last - (BINS - 1 - back) * hour.bin_s);
  showTotals(hour);
  const bins = new Map(hour.bins.map((bin) => [bin.at, bin]));
  figures = PLOTS.map((drawn) => figure(drawn, bins)).filter((made) => made !== null);
  byId("plots").replaceChildren(...figures);
  byId("moment").hidden = false;
  byId("when").max = BINS - 1;
  if (looked !== null && looked < moments[0]) looked = null;
  look(looked);
}

function showTotals(hour) {
  const running = `${count(hour.talks)} of ${count(hour.places)} possible conversations right now.`;
  byId("now").textContent = hour.talks === 0 ? "Nobody is talking right now." : running;
  const totals = [
    ["turns", count(hour.turns)],
    ["median answer time", hour.median === null ? "–" : seconds(hour.median)],
    ["95% are faster", hour.p95 === null ? "–" : seconds(hour.p95)],
    ["turned away", count(hour.refused)],
    ["engines restarted", count(hour.restarts)],
    ["memory in use", size(sum(hour.memory))],
  ];
  const rows = totals.map(([words, value]) =>
    element("div", {}, element("dt", { textContent: words }), element("dd", { textContent: value })),
  );
  byId("totals").replaceChildren(...rows);
}

/** Return a plot of the known values; null if there are none. */
function figure({ title, curves, form, y }, bins) {
  const drawn = Object.entries(curves).map(([label, read]) => ({
    label,
    points: moments.map((at) => [at, bins.has(at) ? (read(bins.get(at)) ?? null) : null]),
  }));
  const known = drawn.map(({ points }) => points.filter(([, value]) => value !== null));
  if (known.every((points) => points.length === 0)) return null;
  const ends = [time(moments[0]), time(moments.at(-1))];
  return plot(title, drawn, { ends, spoken: spoken(title, drawn, known, form), form, x: [moments[0], moments.at(-1)], y });
}

/** "Answered after: median 0.61 s, at most 0.90 s; …" */
function spoken(title, curves, known, form) {
  const said = curves.flatMap(({ label }, number) => {
    const values = known[number].map(([, value]) => value);
    return values.length ? [`${label} ${form(values.at(-1))}, at most ${form(Math.max(...values))}`] : [];
  });
  return `${title}: ${said.join("; ")}.`;
}

/** Read the plots at a moment; null ends the reading. */
function look(at) {
  looked = at;
  const slider = byId("when");
  slider.value = at === null ? BINS - 1 : moments.indexOf(at);
  byId("at").textContent = at === null ? "" : time(at);
  for (const each of figures) each.at(at);
  const read = figures.flatMap((each) => [each.querySelector("b").textContent, ...words(each)]);
  slider.setAttribute("aria-valuetext", at === null ? "none" : `${time(at)}: ${read.join(", ")}`);
}

const words = (figure) => [...figure.querySelectorAll(".key")].map((key) => key.textContent);

const nearest = (at) =>
  moments.reduce((best, each) => (Math.abs(each - at) < Math.abs(best - at) ? each : best), moments[0]);

function underPointer(event) {
  const figure = event.target.closest("figure");
  if (figure && event.target.closest("svg")) look(nearest(figure.under(event.clientX)));
}

async function refresh() {
  try {
    show(await call("GET", "/api/activity"));
    withdraw("activity");
  } catch (error) {
    tell(error.message, { key: "activity", severity: "error" });
  }
}

byId("when").addEventListener("input", ({ target }) => look(moments[Number(target.value)]));
for (const kind of ["pointermove", "pointerdown"]) byId("plots").addEventListener(kind, underPointer);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => document.hidden || refresh(), EVERY);
await Promise.all([refresh(), tellKept()]);
