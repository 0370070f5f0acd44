// Better engines for this computer, stage by stage: each has a button that downloads what is missing and uses it, and
// one button does so for all.

import { size } from "./download.js";
import { byId, element } from "../shared/dom.js";
import { RUNS, STAGES } from "./models.js";

export class RealEngines {
  #form;
  #models;
  #download;
  #going = ""; // the stage that is being changed
  #said = false; // once a button was pressed, the result is shown too
  #refused = {}; // by stage why the change was refused

  constructor(form, models, engines, download) {
    this.#form = form;
    this.#models = models;
    this.#download = download;
    models.addEventListener("told", () => this.#show());
    download.addEventListener("busy", () => models.told && this.#show());
    engines.addEventListener("reloading", ({ detail }) => this.#going && this.#say(detail));
    form.addEventListener("refused", ({ detail }) => this.#going && (this.#refused[this.#going] = detail.message));
    byId("use-real").addEventListener("click", () => this.#use(this.#coming));
  }

  get #choices() {
    return Object.values(this.#models.told.proposal.choices);
  }

  /** The choices that can be applied now. */
  get #coming() {
    return this.#choices.filter((choice) => !choice.missing && this.#better(choice));
  }

  #now(stage) {
    return this.#models.told.models.find((row) => row.stage === stage && this.#models.inUse(row));
  }

  /** Whether it is better than what is in use. A choice beyond a first start's engines is left alone. */
  #better(choice) {
    const more = choice.download_bytes > 0 || choice.missing;
    return !this.#models.inUse(choice) && more && this.#now(choice.stage)?.starter;
  }

  #show() {
    const { proposal } = this.#models.told;
    const { settings, defaults } = this.#form;
    const plain = Object.keys(STAGES).some((stage) => settings[stage].engine === defaults[stage].engine);
    const better = this.#choices.filter((choice) => this.#better(choice));
    byId("real").hidden = settings.set_up && !plain && !better.length && !this.#said;
    byId("swaps").replaceChildren(...this.#choices.map((choice) => this.#row(choice)));
    byId("real-why").textContent = `${proposal.why}\n${better.length ? this.#price(proposal, better) : BEST}`;
    byId("use-real").hidden = this.#coming.length < 2;
    byId("use-real").disabled = this.#busy || (proposal.download_bytes > 0 && !proposal.room);
  }

  get #busy() {
    return this.#download.busy || this.#going !== "";
  }

  /** Show the download size, such that it adds up with the rows. */
  #price({ room, room_why: why }, better) {
    const sum = (rows) => rows.filter(({ here }) => !here).reduce((all, row) => all + row.download_bytes, 0);
    const now = sum(better.filter(({ missing }) => !missing));
    const later = better.filter(({ missing, download_bytes: bytes, here }) => missing && bytes && !here);
    if (now && !room) return why;
    const words = now ? `${size(now)} to download` : "Nothing to download";
    if (!later.length) return `${words}.`;
    return `${words} now, and ${size(sum(later))} for ${later.map(({ label }) => label).join(", ")} after that.`;
  }

  #row(choice) {
    const { stage } = choice;
    const now = this.#now(stage);
    const error = element("span", { className: "field-error", textContent: this.#refused[stage] ?? "" });
    const title = element("h3", { textContent: STAGES[stage] });
    const present = side("Now", now?.label ?? this.#form.settings[stage].engine, now?.line ?? "");
    if (!this.#better(choice)) {
      const words = this.#models.inUse(choice) ? "This suits your computer best." : "";
      return element("li", {}, title, present, element("p", { className: "small quiet", textContent: words }), error);
    }
    const missing = choice.missing && element("a", { href: "#mind", textContent: choice.missing });
    return element("li", {}, title, present, side("Better", choice.label, terms(choice), missing, this.#button(choice), error));
  }

  #button(choice) {
    if (choice.missing) return null;
    const text = choice.download_bytes && !choice.here ? `Download ${size(choice.download_bytes)}` : "Use it";
    const button = element("button", { type: "button", "aria-label": `${text}: ${choice.label}`, textContent: text });
    button.disabled = this.#busy || !choice.room;
    button.addEventListener("click", () => this.#use([choice]));
    return button;
  }

  async #use(wanted) {
    const lacking = wanted.filter(({ download_bytes: bytes, here }) => bytes && !here);
    this.#refused = {};
    this.#say("");
    if (lacking.length && !(await this.#models.fetch(lacking, byId("real-download")))) return;
    for (const choice of wanted) {
      this.#going = choice.stage;
      this.#show();
      this.#say(`${STAGES[choice.stage]}: loading ${choice.label}…`);
      await this.#models.use(choice);
    }
    this.#going = "";
    this.#show();
    await this.#tell(wanted);
  }

  async #tell(wanted) {
    const others = wanted.filter((choice) => !this.#models.inUse(choice)).map(({ label }) => label);
    if (others.length) return this.#say(`${others.join(" and ")} couldn’t be used; you still have what you had before.`);
    const all = this.#choices.every((choice) => this.#models.inUse(choice));
    if (all) await this.#form.save("profile", this.#models.told.proposal.profile);
    this.#say(wanted.length === 1 ? `You’re now using ${wanted[0].label}.` : "You’re now using all of them.");
  }

  #say(text) {
    this.#said = true;
    byId("real-line").textContent = text;
  }
}

const BEST = "You’re using what suits this computer best.";

function terms({ runs, why, line }) {
  return `${line} ${RUNS[runs]}. ${why}`;
}

function side(prefix, label, line, ...more) {
  return element(
    "div",
    {},
    element("p", { className: "small quiet", textContent: prefix }),
    element("b", { textContent: label }),
    element("p", { className: "small quiet", textContent: line }),
    ...more,
  );
}
