// Notices at the head of the page: one sentence each, each shown only once and removed with its cause.

import { call } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { PARTS } from "./parts.js";

const shown = new Map(); // key → element
const failures = new Map(); // stage → why it does not work

/**
 * Show a sentence. It replaces an earlier one with the same `key`.
 * @param {{key?: string, severity?: "info" | "warning" | "error", share?: number | null, progress?: boolean,
 *   link?: {href: string, text: string}, lasting?: boolean}} options  lasting: it cannot be dismissed
 */
export function tell(text, options = {}) {
  const { key = text, severity = "info", progress = false, share = null, link = null, lasting = false } = options;
  const words = element("p", { textContent: text });
  if (link) words.append(" ", element("a", { href: link.href, textContent: link.text }));
  const notice = element("div", { className: `notice ${severity}` }, icon("notice"), words);
  if (!lasting) {
    const close = element(
      "button",
      { type: "button", className: "bare only-icon", "aria-label": "Dismiss" },
      icon("close"),
    );
    close.addEventListener("click", () => withdraw(key));
    notice.append(close);
  }
  if (progress) {
    const bar = element("progress", { max: 1, "aria-label": "Progress" });
    if (share !== null) bar.value = share;
    notice.append(bar);
  }
  const before = shown.get(key);
  if (before) before.replaceWith(notice);
  else byId("notices").append(notice);
  shown.set(key, notice);
}

export function withdraw(key) {
  shown.get(key)?.remove();
  shown.delete(key);
}

/** Show the notices that the server kept for the next visitor, such as that the settings were damaged. */
export async function tellKept() {
  const { notices } = await call("GET", "/api/notices");
  for (const { severity, text } of notices) tell(text, { severity });
}

const STAGE_FIELDS = { ears: "ears", mind: "mind", voice: "voice", memory: "memory", vad: "turns", turns: "turns", speakers: "memory" };

/** Whether this sentence only repeats why a stage does not work. */
const isFailure = (text) => [...failures.values()].some((why) => text.includes(why));

/** Show a sentence from the server, unless another notice already says it. */
export function tellOnce(text, severity) {
  if (!isFailure(text)) tell(text, { severity });
}

/** Show one notice for everything that is loading, and one for each failed stage. */
export function tellEngines(engines) {
  const loading = Object.entries(engines).filter(
    ([, engine]) => engine.state === "loading" || engine.state === "stopped",
  );
  if (loading.length) {
    const [stage, engine] = loading.find(([, { progress }]) => progress) ?? loading[0];
    const what = engine.progress?.what ?? "loading";
    const share = engine.progress?.share ?? null;
    tell(`Getting ready. ${PARTS[stage] ?? stage}: ${what}`, { key: "loading", progress: true, share, lasting: true });
  } else {
    withdraw("loading");
  }
  for (const [stage, engine] of Object.entries(engines)) {
    const key = `failed-${stage}`;
    if (engine.state === "failed") {
      const setUpHere = document.querySelector('nav a[href="/setup"]'); // else only the administrator can fix it
      const link = setUpHere && { href: `/setup#${STAGE_FIELDS[stage] ?? "engines"}`, text: "Choose another in Setup." };
      const why = engine.last_error ?? `${engine.engine} didn’t start.`;
      failures.set(stage, why);
      for (const said of shown.keys()) if (!said.startsWith("failed-") && isFailure(said)) withdraw(said);
      tell(`${PARTS[stage] ?? stage}: ${why}`, { key, severity: "error", link, lasting: true });
    } else {
      failures.delete(stage);
      withdraw(key);
    }
  }
}
