// "Is all well?": every engine is tried, and each verdict is shown as it arrives. It can be stopped at any time.

import { callLines } from "../shared/api.js";
import { byId, capital, element, icon, seconds, withCommands } from "../shared/dom.js";

const SIGNS = { good: "check", fair: "notice", bad: "close", open: "unsure", skipped: "none" };

export class Doctor extends EventTarget {
  #stop = null; // stops the check under way

  /** Fires "step" during the check and at its end: an engine may be unloaded for it, and comes back afterwards. */
  constructor() {
    super();
    byId("examine").addEventListener("click", () => this.#examine());
    byId("examine-stop").addEventListener("click", () => this.#stop?.abort());
  }

  async #examine() {
    const found = [];
    const line = byId("examine-line");
    this.#stop = new AbortController();
    this.#show(true);
    byId("findings").replaceChildren();
    let row = null;
    try {
      for await (const { begun, working, finding } of callLines("POST", "/api/doctor", this.#stop.signal)) {
        if (begun) {
          row = pending(begun.title);
          byId("findings").append(row);
          line.textContent = `${begun.title}…`;
        } else if (working) row.querySelector(".text").textContent = `${working.text}…`;
        else {
          found.push(finding);
          if (row) row.replaceWith(verdict(finding));
          else byId("findings").append(verdict(finding));
          row = null;
        }
        if (!working?.passing) this.dispatchEvent(new Event("step"));
      }
      line.textContent = summary(found);
    } catch (error) {
      row?.remove();
      line.textContent = this.#stop.signal.aborted ? "Stopped." : error.message;
    } finally {
      this.#stop = null;
      this.#show(false);
      this.dispatchEvent(new Event("step"));
    }
  }

  #show(running) {
    const focused = [byId("examine"), byId("examine-stop")].includes(document.activeElement);
    byId("examine").hidden = running;
    byId("examine-stop").hidden = !running;
    if (focused) byId(running ? "examine-stop" : "examine").focus();
    byId("findings").setAttribute("aria-busy", running);
  }
}

/** Return a row that counts the seconds while it is on the page. */
function pending(title) {
  const clock = element("span", { className: "small quiet figures", "aria-hidden": "true" });
  const row = element(
    "li",
    { className: "finding pending" },
    element("span", { className: "spinner" }),
    element("b", { textContent: title }),
    element("span", { className: "small quiet text", textContent: "Checking…" }),
    clock,
  );
  const began = performance.now();
  const ticking = setInterval(() => {
    if (!row.isConnected) clearInterval(ticking);
    else clock.textContent = `${Math.floor((performance.now() - began) / 1000)} s`;
  }, 1000);
  return row;
}

function verdict({ title, grade, word, text, seconds: took }) {
  return element(
    "li",
    { className: `finding ${grade}` },
    icon(SIGNS[grade]),
    element("b", { textContent: title }),
    element("span", { className: "small word", textContent: capital(word) }),
    element("span", { className: "small quiet text" }, ...withCommands(text)),
    element("span", { className: "small quiet figures", textContent: took === null ? "" : seconds(took) }),
  );
}

function summary(found) {
  const bad = found.filter(({ grade }) => grade === "bad").length;
  if (bad) return bad === 1 ? "One thing isn’t working." : `${bad} things aren’t working.`;
  const works = found.some(({ grade }) => grade === "fair") ? "Everything works, but some of it could be better." : "Everything works.";
  const untried = found.some(({ check, grade }) => check === "microphone" && grade === "skipped");
  return untried ? `${works} The microphone wasn’t tried: use “Try it” under Microphone above.` : works;
}
