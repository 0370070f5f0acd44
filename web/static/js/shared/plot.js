// Curves over one axis, drawn as SVG: a figure with named curves, and a sentence for screen readers. The drawing takes
// the available width; lines and letters keep their size.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const FULL = 100; // the drawing's own units, in each direction
const FEW = 40; // up to this many points are also drawn as dots

/**
 * @typedef {{label: string, points: [number, number | null][]}} Curve  null is a gap
 * @param {string} title
 * @param {Curve[]} curves
 * @param {{ends: [string, string], spoken: string, form?: (value: number) => string, x?: [number, number], y?: [number, number]}} axes
 *   the labels of both ends, the sentence, how a value is written, and bounds that are always shown
 * @returns {HTMLElement & {at: (x: number | null) => void, under: (clientX: number) => number}} a figure: `at` marks a
 *   position on the axis and shows the curves' values there, `under` returns the position under the pointer
 */
export function plot(title, curves, { ends, spoken, form = short, x = [], y = [] }) {
  const known = curves.flatMap(({ points }) => points.filter(([, value]) => value !== null));
  const across = range([...known.map(([at]) => at), ...x]);
  const up = range([...known.map(([, value]) => value), ...y]);
  const left = (at) => across.share(at) * FULL;
  const top = (value) => (1 - up.share(value)) * FULL;

  const bounds = [...new Set([up.high, up.low])];
  const drawing = node("svg", { viewBox: `0 0 ${FULL} ${FULL}`, preserveAspectRatio: "none", role: "img", "aria-label": spoken });
  for (const value of bounds) drawing.append(node("line", { class: "grid", x1: 0, x2: FULL, y1: top(value), y2: top(value) }));
  curves.forEach(({ points }, number) => {
    const kind = `curve-${number}`;
    for (const piece of pieces(points)) {
      const places = piece.map(([at, value]) => [left(at).toFixed(2), top(value).toFixed(2)]);
      if (places.length > 1) drawing.append(node("polyline", { class: kind, points: places.map((at) => at.join(",")).join(" ") }));
      const dots = places.length === 1 || points.length < FEW ? places : [];
      for (const [x, y] of dots) drawing.append(node("line", { class: `dot ${kind}`, x1: x, x2: x, y1: y, y2: y }));
    }
  });
  const mark = node("line", { class: "mark", y1: 0, y2: FULL, visibility: "hidden" });
  drawing.append(mark);

  const named = curves.map(({ label }, number) => {
    const value = element("b", { className: "figures" });
    return { value, key: element("span", { className: `key key-${number}` }, label, " ", value) };
  });
  const keys = named.map(({ key }) => key);
  const axes = [scale("up", bounds.map(form)), scale("across", ends)];
  const caption = element("figcaption", {}, element("b", { textContent: title }), ...keys);
  const figure = element("figure", {}, caption, element("div", { className: "plot" }, drawing, ...axes));
  figure.at = (at) => {
    if (at === null) {
      mark.setAttribute("visibility", "hidden");
    } else {
      for (const end of ["x1", "x2"]) mark.setAttribute(end, left(at));
      mark.setAttribute("visibility", "visible");
    }
    named.forEach(({ value }, number) => {
      const there = curves[number].points.find(([place]) => place === at)?.[1] ?? null;
      value.textContent = at === null ? "" : there === null ? "–" : form(there);
    });
  };
  figure.under = (clientX) => {
    const { left: edge, width } = drawing.getBoundingClientRect();
    const share = (clientX - edge) / width;
    return across.low + Math.min(1, Math.max(0, share)) * (across.high - across.low);
  };
  return figure;
}

/** Split into stretches without gaps. */
function pieces(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((piece) => piece.length > 0);
}

function range(values) {
  if (!values.length) return { low: 0, high: 0, share: () => 0 };
  const low = Math.min(...values);
  const high = Math.max(...values);
  return { low, high, share: (value) => (high > low ? (value - low) / (high - low) : 0.5) };
}

export const short = (value) =>
  Math.abs(value) < 0.01 && value !== 0 ? value.toExponential(0) : Number(value.toPrecision(3)).toString();

/** The labels of an axis, hidden from screen readers, which get the drawing's own sentence. */
function scale(side, words) {
  const texts = words.map((each) => element("span", { textContent: each }));
  return element("div", { className: `scale ${side} small quiet figures`, "aria-hidden": "true" }, ...texts);
}

function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
