// "Is all well?": every engine is tried, and each verdict is shown as it comes.

import { callLines } from "./api.js";
import { byId, element, seconds } from "./dom.js";

const WORDS = { good: "Good", fair: "Could be better", bad: "Does not work", skipped: "Not tried" };

export class Doctor {
  constructor() {
    byId("examine").addEventListener("click", () => this.#examine());
  }

  async #examine() {
    const button = byId("examine");
    button.disabled = true;
    byId("findings").replaceChildren();
    const found = [];
    let row = null;
    try {
      for await (const { begun, finding } of callLines("POST", "/api/doctor")) {
        if (begun) {
          byId("examine-line").textContent = `${begun.title} …`;
          row = element("li", { className: "finding" }, element("b", { textContent: begun.title }));
          byId("findings").append(row);
        } else {
          found.push(finding);
          row.replaceWith(verdict(finding));
        }
      }
      byId("examine-line").textContent = summary(found);
    } catch (error) {
      byId("examine-line").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }
}

function verdict({ title, grade, text, seconds: took }) {
  return element(
    "li",
    { className: `finding ${grade}` },
    element("b", { textContent: title }),
    element("span", { className: "small word", textContent: text.startsWith("no verdict") ? "No verdict" : WORDS[grade] }),
    element("span", { className: "small quiet", textContent: capital(withoutVerdict(text)) }),
    element("span", { className: "small quiet figures", textContent: took === null ? "" : seconds(took) }),
  );
}

const withoutVerdict = (text) => text.replace(/^(good|does not work|not here|not tried|no verdict): /, "");

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function summary(found) {
  const bad = found.filter(({ grade }) => grade === "bad").length;
  if (bad) return bad === 1 ? "One thing does not work." : `${bad} things do not work.`;
  return found.some(({ grade }) => grade === "fair") ? "All works; some of it could be better." : "All is well.";
}
