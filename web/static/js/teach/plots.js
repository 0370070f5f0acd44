// What a training has shown so far, drawn as SVG: each plot a figure with its curves named, and a sentence for those who
// hear the page.

import { element } from "../shared/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 150;
const LEFT = 46; // for the numbers beside the axis
const BELOW = 22;

const PLOTS = [
  { title: "First code of each frame", curves: { code0: "learnt", held_out_code0: "held out" } },
  { title: "Other codes", curves: { depth: "learnt", held_out_depth: "held out" } },
  { title: "Likeness to the speaker", curves: { likeness: "cosine" } },
  { title: "Learning rate", curves: { learning_rate: "rate" } },
];

/** @param {Record<string, number | null>[]} lines of metrics.csv  @returns {HTMLElement[]} a figure for each plot */
export function plots(lines) {
  return PLOTS.map(({ title, curves }) => {
    const drawn = Object.entries(curves)
      .map(([name, label]) => ({ label, points: lines.filter((line) => line[name] !== null).map((line) => [line.step, line[name]]) }))
      .filter(({ points }) => points.length > 0);
    return drawn.length ? figure(title, drawn) : null;
  }).filter((made) => made !== null);
}

function figure(title, curves) {
  const all = curves.flatMap(({ points }) => points);
  const x = range(all.map(([step]) => step));
  const y = range(all.map(([, value]) => value));
  const place = ([step, value]) => [LEFT + x.share(step) * (WIDTH - LEFT - 8), 8 + (1 - y.share(value)) * (HEIGHT - 8 - BELOW)];
  const drawing = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(title, curves) });
  for (const value of [y.low, y.high]) {
    const [, height] = place([x.low, value]);
    drawing.append(node("line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: height, y2: height }));
    drawing.append(text(short(value), LEFT - 6, height + 4, "end"));
  }
  drawing.append(text(`step ${x.low}`, LEFT, HEIGHT - 4, "start"), text(String(x.high), WIDTH - 8, HEIGHT - 4, "end"));
  curves.forEach(({ points }, number) => {
    const places = points.map(place);
    const kind = `curve-${number}`;
    if (places.length > 1) drawing.append(node("polyline", { class: kind, points: places.map((at) => at.map((v) => v.toFixed(1)).join(",")).join(" ") }));
    if (places.length < 40) for (const [cx, cy] of places) drawing.append(node("circle", { class: kind, cx, cy, r: 2 }));
  });
  const keys = curves.map(({ label }, number) => element("span", { className: `key key-${number}`, textContent: label }));
  return element("figure", {}, element("figcaption", {}, element("b", { textContent: title }), ...(curves.length > 1 ? keys : [])), drawing);
}

/** "Other codes: learnt 4.31, was 4.33; held out …" */
function spoken(title, curves) {
  const said = curves.map(({ label, points }) => `${label} ${short(points.at(-1)[1])}, at first ${short(points[0][1])}`);
  return `${title}: ${said.join("; ")}.`;
}

function range(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return { low, high, share: (value) => (high > low ? (value - low) / (high - low) : 0.5) };
}

const short = (value) => (Math.abs(value) < 0.01 && value !== 0 ? value.toExponential(0) : Number(value.toPrecision(3)).toString());

function text(words, x, y, anchor) {
  const made = node("text", { x, y, "text-anchor": anchor });
  made.textContent = words;
  return made;
}

function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
