// The page that teaches CSM a voice: which voice is selected, and its status, polled while a process works. Each part
// of the page has its own file.

import { call } from "../shared/api.js";
import { byId, confirmDialog, element, icon } from "../shared/dom.js";
import { tell, withdraw } from "../shared/notices.js";
import { languageOptions } from "../setup/languages.js";
import { Clips } from "./clips.js";
import { Recordings } from "./recordings.js";
import { Training } from "./training.js";
import { showWork } from "./work.js";

const LOOK = 1000; // ms between two updates while something works

/** What the parts share. Event: `change`, when `lesson` or `overview` is new. */
class Page extends EventTarget {
  overview = null;
  lesson = null;
  #timer = null;

  /** Load everything again. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.overview = await call("GET", "/api/teaching");
      const { voices } = this.overview;
      const id = decodeURIComponent(location.hash.slice(1)) || (voices.length ? voices[0].id : "");
      const known = id !== NEW && voices.some((voice) => voice.id === id && !voice.trouble);
      this.lesson = known ? await call("GET", path(id)) : null;
      withdraw("lost");
    } catch (error) {
      tell(error.message, { key: "lost", severity: "error" });
    }
    this.dispatchEvent(new Event("change"));
    if (!this.overview || this.overview.work?.under_way) this.#timer = setTimeout(() => this.refresh(), LOOK);
  }

  /** Call the API for this voice, then refresh; `place` shows any error. Resolves to whether the call succeeded. */
  async act(place, method, rest, body) {
    byId(place).textContent = "";
    try {
      await call(method, `${path(this.lesson.id)}${rest}`, body);
      return true;
    } catch (error) {
      byId(place).textContent = error.message;
      return false;
    } finally {
      await this.refresh();
    }
  }

  /** Whether a process is working on this voice. */
  get busy() {
    const work = this.overview?.work;
    return Boolean(work?.under_way && work.lesson === this.lesson?.id);
  }
}

const NEW = "new";
const path = (id) => `/api/teaching/${encodeURIComponent(id)}`;
const page = new Page();
new Recordings(page);
new Clips(page);
new Training(page);

page.addEventListener("change", () => {
  const { overview, lesson } = page;
  if (!overview) return;
  byId("consent-words").textContent = overview.consent;
  byId("consent").hidden = lesson !== null;
  byId("lesson").hidden = lesson === null;
  byId("lessons").hidden = overview.voices.length === 0;
  showLessons(overview.voices, lesson?.id ?? NEW);
  for (const { id, trouble } of overview.voices) if (trouble) tell(trouble, { key: `trouble-${id}`, severity: "error" });
  if (overview.needs.model) tell(overview.needs.model, { key: "model", severity: "warning", link: { href: "/setup#machine", text: "Open Setup." } });
  else withdraw("model");
  showWork(page);
  if (lesson) byId("delete-line").textContent = `From ${lesson.person}. A voice already in use stays.`;
  byId("remove").disabled = page.busy;
});

function showLessons(voices, current) {
  const links = [...voices, { id: NEW, person: "Another voice" }].map(({ id, person }) => {
    const link = element("a", { href: `#${encodeURIComponent(id)}`, textContent: person });
    if (id === current) link.setAttribute("aria-current", "page");
    return id === NEW ? element("span", { className: "another" }, icon("edit"), link) : link;
  });
  const focused = byId("lessons").contains(document.activeElement) ? document.activeElement.hash : null;
  byId("lessons").replaceChildren(...links);
  if (focused !== null) links.map((link) => link.querySelector?.("a") ?? link).find((link) => link.hash === focused)?.focus();
}

addEventListener("hashchange", () => page.refresh());

const [, ...languages] = languageOptions();
byId("language").replaceChildren(new Option("Detect it", ""), ...languages);
byId("consent-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("begin-error").textContent = "";
  const body = { person: byId("person").value, agreed: byId("agreed").checked, language: byId("language").value };
  try {
    const { id } = await call("POST", "/api/teaching", body);
    byId("consent-form").reset();
    location.hash = encodeURIComponent(id);
  } catch (error) {
    byId("begin-error").textContent = error.message;
  }
});

byId("remove").addEventListener("click", async () => {
  const { id, person } = page.lesson;
  const text = "This permanently deletes the recordings, transcripts and training. A voice made from them stays.";
  if (!(await confirmDialog({ title: `Delete everything taught from ${person}?`, text, yes: "Delete" }))) return;
  try {
    await call("DELETE", path(id));
    history.replaceState(null, "", "#");
  } catch (error) {
    byId("delete-error").textContent = error.message;
  }
  await page.refresh();
});

await page.refresh();
