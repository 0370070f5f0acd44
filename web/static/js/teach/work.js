// The work under way, at the foot of the page: its progress, and pausing and stopping it.

import { call } from "../shared/api.js";
import { byId, setIcon } from "../shared/dom.js";

const NAMES = { preparing: "Preparing the recordings", measuring: "Measuring one step", training: "Training" };
let shown = null; // the page that is shown

export function showWork(page) {
  shown = page;
  const { work, voices } = page.overview;
  byId("work").hidden = !work;
  if (!work) return;
  const whose = voices.find(({ id }) => id === work.lesson)?.person ?? work.lesson;
  const line = sentence(work, page.lesson?.id === work.lesson ? "" : ` (${whose})`);
  if (byId("work-line").textContent !== line) byId("work-line").textContent = line;
  byId("work-line").classList.toggle("failed", work.state === "failed");
  byId("work-figures").textContent = work.under_way ? figures(work) : "";
  byId("work-share").hidden = !work.under_way;
  if (work.share === null) byId("work-share").removeAttribute("value");
  else byId("work-share").value = work.share;
  byId("work-acts").hidden = !work.under_way;
  const paused = work.state === "paused";
  byId("pause").querySelector("span").textContent = paused ? "Resume" : "Pause";
  setIcon(byId("pause"), paused ? "play" : "pause");
  for (const id of ["pause", "stop"]) byId(id).disabled = work.state === "stopping";
}

function sentence({ kind, state, text }, whose) {
  const name = NAMES[kind] + whose;
  switch (state) {
    case "running":
      return `${name}…`;
    case "paused":
      return `${name}: paused.`;
    case "waiting":
      return `${name}: waiting until no one is talking.`;
    case "stopping":
      return `${name}: stopping after this step. What was learnt is kept.`;
    case "stopped":
      return `${name}: stopped. Your progress is saved.`;
    case "failed":
      return text;
    default:
      return text || `${name}: done.`;
  }
}

function figures({ kind, step, steps, left_s: left, text }) {
  if (kind !== "training" || !step) return text;
  const parts = [`Step ${step} of ${steps}`];
  if (left !== null) parts.push(`${duration(left)} left`);
  return parts.join(", ") + (text ? `. ${text}` : "");
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${(seconds / 3600).toFixed(1)} hours` : `${Math.round(seconds / 86400)} days`;
}

async function order(body) {
  const { work } = shown.overview;
  try {
    await call("PUT", `/api/teaching/${encodeURIComponent(work.lesson)}/work`, body);
  } catch (error) {
    byId("work-line").textContent = error.message;
  }
  await shown.refresh();
}

byId("pause").addEventListener("click", () => order({ do: shown.overview.work.state === "paused" ? "go on" : "pause" }));
byId("stop").addEventListener("click", () => order({ do: "stop" }));
