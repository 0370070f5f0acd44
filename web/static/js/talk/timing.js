// Where the last turn's time went, in plain words, and how long it usually takes.

import { byId, element, seconds } from "../shared/dom.js";

// From one mark of a turn's record to the next. `decided` waits for silence, so it is kept apart from the work.
const PARTS = [
  { mark: "speech_ended", words: "you stopped", tint: 0.12 },
  { mark: "decided", words: "made sure you had finished", tint: 0.25 },
  { mark: "transcript_final", words: "understood", tint: 0.4 },
  { mark: "recalled", words: "remembered", tint: 0.55 },
  { mark: "first_token", words: "first word", tint: 0.7 },
  { mark: "first_heard", words: "first sound", tint: 1 },
];
const KEPT = 50;
const totals = [];

/**
 * Return the parts in order; work that was done ahead takes no time.
 * @returns {{mark: string, words: string, tint: number, time: number}[]}
 */
export function parts(marks) {
  const begin = marks.speech_ended;
  const end = marks.first_heard ?? marks.first_sent ?? marks.first_sample;
  if (begin === undefined || end === undefined) return [];
  let reached = begin;
  return PARTS.map(({ mark, words, tint }) => {
    const at = mark === "first_heard" ? end : Math.min(end, marks[mark] ?? reached);
    const time = Math.max(0, at - reached);
    reached = Math.max(reached, at);
    return { mark, words, tint, time };
  });
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Show a finished turn's record. A turn that was typed, or got no answer, has no such timing. */
export function showTiming(record) {
  if (!record.end_of_turn) return;
  const steps = parts(record.marks);
  const total = steps.reduce((sum, { time }) => sum + time, 0);
  if (!steps.length) return;
  totals.push(total);
  totals.splice(0, Math.max(0, totals.length - KEPT));
  byId("timing-total").textContent = `Answered in ${seconds(total)}`;
  byId("timing-median").textContent =
    totals.length > 1 ? `median of ${totals.length}: ${seconds(median(totals))}` : "first answer";
  byId("timing-bar").replaceChildren(...steps.slice(1).map(({ time, tint }) => tinted("span", tint, { time })));
  byId("timing-parts").replaceChildren(
    ...steps.map(({ mark, words, tint, time }) =>
      element(
        "li",
        {},
        tinted("i", tint, {}),
        element("span", { textContent: words }),
        element("span", { className: "figures", textContent: figure(mark, time) }),
      ),
    ),
  );
  byId("timing").hidden = false;
}

function figure(mark, time) {
  if (mark === "speech_ended") return "0 ms";
  return time < 0.0005 ? "done ahead" : `+${Math.round(time * 1000)} ms`;
}

function tinted(tag, tint, { time }) {
  const node = element(tag);
  node.style.setProperty("--tint", tint);
  if (time !== undefined) node.style.setProperty("flex-grow", Math.max(1, time * 1000));
  return node;
}
