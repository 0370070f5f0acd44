// What was said, as a script: who in the margin, what in the text. It follows the end unless the reader scrolled up.

import { capital, element, speakerName } from "../shared/dom.js";

// Causes of the end of a reply, as the user of this page sees them.
const CAUSES = {
  "the client cancelled": "You stopped it",
  "the user typed": "You interrupted by typing",
};
const cause = (why) => CAUSES[why] ?? (why.startsWith("the user") ? "You interrupted" : capital(why));
const ANNOUNCED = 3; // kept for those who hear the page: more would be read twice by who walks through it
const TOGETHER = 400; // ms: sentences that come at once are said as one, as readers may turn their order around
const AT_END = 80; // px from the end that still count as being there

export class Transcript {
  #log;
  #opening;
  #turns = new Map(); // the user's item id → entry
  #replies = new Map(); // response id → {entry, text, made, heard}
  #tools = new Map(); // the call's id → {entry, said}
  #recalled = [];
  #announced;
  #unsaid = null; // {who, text} to be announced in a moment
  #followed = true; // whether it moves on by itself, which ends when the reader scrolls away
  #top = 0; // where it was moved to last

  /** @param {HTMLElement} announced where whole sentences are put for those who hear the page */
  constructor(log, opening, announced) {
    this.#log = log;
    this.#opening = opening;
    this.#announced = announced;
  }

  /** Whether anything stands in it. */
  get begun() {
    return this.#opening.hidden;
  }

  /** An empty page again. */
  clear() {
    for (const entry of this.#log.querySelectorAll(".entry")) entry.remove();
    this.forgetIds();
    if (this.#unsaid) this.#unsaid.text = "";
    this.#announced.replaceChildren();
    this.#opening.hidden = false;
    this.#log.closest(".room").classList.remove("begun");
  }

  /** What was said before this page was opened: {role, text, interrupted}. */
  past(said) {
    for (const { role, text, interrupted } of said) {
      const mine = role === "user";
      const { entry, said: words } = this.#entry(mine ? "You" : "Parley", mine ? "you final" : "companion");
      words.textContent = text;
      if (interrupted) entry.append(element("p", { className: "aside", textContent: "You interrupted" }));
    }
  }

  #announce(who, text) {
    if (this.#unsaid?.who === who) {
      this.#unsaid.text += ` ${text}`;
      return;
    }
    const unsaid = { who, text };
    this.#unsaid = unsaid;
    setTimeout(() => {
      if (this.#unsaid === unsaid) this.#unsaid = null;
      if (!unsaid.text) return; // cleared meanwhile
      this.#announced.append(element("p", { textContent: `${who}: ${unsaid.text}`, dir: "auto" }));
      while (this.#announced.children.length > ANNOUNCED) this.#announced.firstChild.remove();
    }, TOGETHER);
  }

  #entry(who, kind) {
    this.#begin();
    const said = element("p", { className: "said", dir: "auto" });
    const entry = element(
      "div",
      { className: `entry ${kind}` },
      element("p", { className: "who", textContent: who }),
      said,
    );
    this.#keepEnd(() => this.#log.append(entry));
    return { entry, said };
  }

  #begin() {
    this.#opening.hidden = true;
    this.#log.closest(".room").classList.add("begun");
  }

  /**
   * Change the log, then show its end if the end was being looked at.
   * @param {() => HTMLElement | null} focus what is to stay in view even where the end does not fit beside it
   */
  #keepEnd(change, focus = () => null) {
    const scroller = this.#log.scrollHeight > this.#log.clientHeight + 1 ? this.#log : document.scrollingElement;
    const left = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    this.#followed = left < AT_END || (this.#followed && Math.abs(scroller.scrollTop - this.#top) < 2);
    change();
    if (!this.#followed) return;
    requestAnimationFrame(() => {
      let top = scroller.scrollHeight - scroller.clientHeight;
      const [place] = focus()?.getClientRects() ?? [];
      if (place) {
        const frame = scroller === this.#log ? scroller.getBoundingClientRect().top : 0;
        top = Math.min(top, Math.max(0, scroller.scrollTop + place.top - frame - scroller.clientHeight / 3));
      }
      scroller.scrollTo({ top });
      this.#top = scroller.scrollTop;
    });
  }

  /** What is understood of the running turn; the letters after `stable` may still change. */
  partial(item, text, stable) {
    if (!text && !this.#turns.has(item)) return;
    const { said } = this.#user(item);
    this.#keepEnd(() => {
      said.replaceChildren(
        text.slice(0, stable),
        element("span", { className: "unsure", textContent: text.slice(stable) }),
      );
    });
  }

  /** Whose voice it is. */
  speaker(item, speaker) {
    const { entry } = this.#user(item);
    entry.querySelector(".who").textContent = speakerName(speaker);
  }

  /** The user's turn is complete. Nothing understood: its line goes again. */
  user(item, text) {
    if (!text) {
      this.#turns.get(item)?.entry.remove();
      this.#turns.delete(item);
      return;
    }
    const { entry, said } = this.#user(item);
    this.#keepEnd(() => {
      said.textContent = text;
      entry.classList.add("final");
    });
    this.#announce(entry.querySelector(".who").textContent, text);
  }

  #user(item) {
    if (!this.#turns.has(item)) this.#turns.set(item, this.#entry("You", "you"));
    return this.#turns.get(item);
  }

  /** What came to mind for the turn being answered; shown under the reply. */
  recalled(items) {
    this.#recalled = items;
  }

  reply(id, more) {
    const reply = this.#reply(id);
    reply.text += more;
    this.#paint(reply);
    this.#announce("Parley", more.trim());
  }

  #reply(id) {
    if (!this.#replies.has(id)) {
      const reply = { ...this.#entry("Parley", "companion"), text: "", made: 0, played: 0, complete: false };
      if (this.#recalled.length) reply.entry.append(memories(this.#recalled));
      this.#recalled = [];
      this.#replies.set(id, reply);
    }
    return this.#replies.get(id);
  }

  /** How many samples of the reply were sent so far. */
  made(id, samples) {
    const reply = this.#replies.get(id);
    if (reply) reply.made = samples;
  }

  /** The voice has come so far: what it has not reached is fainter. An estimate; the reply's end has the truth. */
  played(id, samples) {
    const reply = this.#replies.get(id);
    if (!reply) return;
    reply.entry.dataset.played = samples;
    if (reply.done) return;
    reply.played = samples;
    this.#paint(reply);
  }

  #paint(reply) {
    const share = reply.made ? Math.min(1, reply.played / reply.made) : 0;
    let reached = Math.round(reply.text.length * share);
    while (reached < reply.text.length && reached > 0 && /\S/.test(reply.text[reached])) reached += 1;
    const ahead = element("span", { className: "ahead", textContent: reply.text.slice(reached) });
    this.#keepEnd(
      () => reply.said.replaceChildren(reply.text.slice(0, reached), ahead),
      () => ahead, // what is being said
    );
  }

  /** The reply is over: what was not heard is struck, and the cause is said. */
  done(id, { outcome, text, heard, why }) {
    if (!text && !this.#replies.has(id)) return;
    const reply = this.#reply(id);
    reply.done = true;
    const full = text || reply.text;
    const reached = outcome === "completed" ? full.length : common(full, heard);
    this.#keepEnd(() => {
      reply.said.replaceChildren(full.slice(0, reached));
      if (reached < full.length) {
        const unheard = element("span", { className: "unheard", textContent: full.slice(reached) });
        reply.said.append(unheard, element("span", { className: "for-readers", textContent: " (not heard)" }));
      }
      if (outcome !== "completed") {
        const words = outcome === "failed" ? `This reply failed: ${why}` : cause(why);
        reply.entry.append(element("p", { className: "aside", textContent: words }));
      }
    });
  }

  /** A call of a tool: one line, which changes with its state. Result opens. */
  tool(call, { name, given, state, result, failed }) {
    if (!this.#tools.has(call)) {
      const { entry, said } = this.#entry("Tool", "tool");
      this.#tools.set(call, { entry, said });
    }
    const { entry, said } = this.#tools.get(call);
    this.#keepEnd(() => {
      entry.querySelector("details")?.remove();
      said.replaceChildren(
        element("b", { textContent: name }),
        given ? ` (${given})` : "",
        element("span", { className: "quiet", textContent: `: ${state}` }),
      );
      if (result)
        entry.append(
          element(
            "details",
            { className: "aside", open: failed },
            element("summary", { textContent: "Result" }),
            element("p", { textContent: result, dir: "auto" }),
          ),
        );
    });
  }

  /** What stands here is complete: another connection may give its ids to something else. */
  forgetIds() {
    this.#turns.clear();
    this.#replies.clear();
    this.#tools.clear();
    this.#recalled = [];
  }

  /** A line about the conversation itself. */
  remark(text) {
    this.#begin();
    const words = element("p", { className: "aside", textContent: text });
    this.#keepEnd(() => this.#log.append(element("div", { className: "entry" }, words)));
  }
}

/** How many letters of `text` were heard: `heard` is its beginning, perhaps with other white space at the end. */
function common(text, heard) {
  const spoken = heard.trimEnd();
  let i = 0;
  while (i < spoken.length && spoken[i] === text[i]) i += 1;
  return i;
}

function memories(items) {
  const list = element("ul", { className: "memories" });
  for (const { text, at, speaker, why } of items) {
    list.append(
      element(
        "li",
        {},
        element("p", {}, element("q", { textContent: text })),
        element("p", { textContent: `${speakerName(speaker)}, ${day(at)} · found by ${why}` }),
      ),
    );
  }
  const count = items.length === 1 ? "one thing" : `${items.length} things`;
  const details = element(
    "details",
    { className: "aside" },
    element("summary", { textContent: `Remembered ${count}` }),
    list,
  );
  details.addEventListener("toggle", () => details.open && details.scrollIntoView({ block: "nearest" }));
  return details;
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });

function day(at) {
  const date = new Date(at);
  return Number.isNaN(date.valueOf()) ? at : DAY.format(date);
}
