// Plots of a training so far.

import { plot, short } from "../shared/plot.js";

const PLOTS = [
  { title: "First code of each frame", curves: { code0: "learnt", held_out_code0: "held out" } },
  { title: "Other codes", curves: { depth: "learnt", held_out_depth: "held out" } },
  { title: "Similarity to the speaker", curves: { likeness: "cosine" } },
  { title: "Learning rate", curves: { learning_rate: "rate" } },
];

/** @param {Record<string, number | null>[]} lines of metrics.csv  @returns {HTMLElement[]} a figure for each plot */
export function plots(lines) {
  return PLOTS.map(({ title, curves }) => {
    const drawn = Object.entries(curves)
      .map(([name, label]) => ({ label, points: lines.filter((line) => line[name] !== null).map((line) => [line.step, line[name]]) }))
      .filter(({ points }) => points.length > 0);
    if (!drawn.length) return null;
    const steps = drawn.flatMap(({ points }) => points.map(([step]) => step));
    const ends = [`step ${Math.min(...steps)}`, String(Math.max(...steps))];
    return plot(title, drawn, { ends, spoken: spoken(title, drawn) });
  }).filter((made) => made !== null);
}

/** "Other codes: learnt 4.31, was 4.33; held out …" */
function spoken(title, curves) {
  const said = curves.map(({ label, points }) => `${label} ${short(points.at(-1)[1])}, at first ${short(points[0][1])}`);
  return `${title}: ${said.join("; ")}.`;
}
