// The language model's summaries of days, and whether it is to make them.

import { call } from "../shared/api.js";
import { byId } from "../shared/dom.js";
import { tell, withdraw } from "../shared/notices.js";

let summaries = {}; // by day

/** Take the summaries from the memory's overview. */
export function updateSummaries(overview) {
  summaries = overview.summaries;
  byId("summarise").setAttribute("aria-pressed", String(overview.summarises));
  byId("no-summaries").hidden = !overview.cannot_summarise;
  byId("no-summaries").textContent = overview.cannot_summarise;
}

/** @param {string | null} date the day shown, if any */
export function showSummary(date) {
  const summary = summaries[date];
  byId("summary").hidden = !summary;
  byId("summary-text").textContent = summary?.text ?? "";
  byId("summary-by").textContent = summary ? `Summary written by ${summary.by}. It can be wrong.` : "";
}

/** Switch summaries on or off. */
export async function toggleSummaries(refresh) {
  const wanted = byId("summarise").getAttribute("aria-pressed") !== "true";
  await call("PUT", "/api/settings", { memory: { summaries: wanted } });
  await refresh();
  withdraw("summaries");
  if (wanted && byId("no-summaries").hidden) {
    tell("Parley will summarise past days while nobody talks.", { key: "summaries" });
  }
}
