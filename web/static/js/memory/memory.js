// The memory page: what is remembered, by day and conversation or found by a search; to correct, delete or export.

import { call } from "../shared/api.js";
import { byId, confirmDialog, element, icon, speakerName } from "../shared/dom.js";
import { roving } from "../shared/roving.js";
import { tell, tellKept, withdraw } from "../shared/notices.js";
import { updatePeople, watchPeople } from "./people.js";
import { showSummary, toggleSummaries, updateSummaries } from "./summaries.js";

const PAGE = 200;
const FOUND = 50; // search results at a time
const NAME = /^[\w-]{1,100}$/; // a conversation id of Parley's; an imported one can be anything
const COUNT_EVERY = 2000; // ms

const dayWords = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeZone: "UTC" });
const timeOf = (at) => at.slice(11, 16); // as the speaker's clock showed it
const dayOf = (at) => at.slice(0, 10);
const day = (date) => dayWords.format(new Date(`${date}T00:00:00Z`));
const count = (number, one, many) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

let conversations = [];
let exported = "";
let counting = null; // the timer of the next look at what is still being indexed
let shown = null; // {kind: "day" | "conversation" | "search", value}

/** Do something that may fail, and report a failure at the head of the page. */
async function attempt(action) {
  try {
    withdraw("memory");
    return await action();
  } catch (error) {
    tell(error.message, { key: "memory", severity: "error" });
    return undefined;
  }
}

// --- overview ------------------------------------------------------------------------------------------------------

async function refresh() {
  const overview = await call("GET", "/api/memory");
  conversations = overview.conversations;
  showSize(overview);
  updateSummaries(overview);
  await updatePeople();
  byId("pause").setAttribute("aria-pressed", String(overview.paused));
  byId("everything").disabled = overview.size.turns === 0;
  byId("export").disabled = overview.size.turns === 0;
  showDays();
  showSummary(shownDay());
}

/** Show the memory's size; the count of turns still to be indexed updates by itself. */
function showSize({ size: { turns, disk_bytes: bytes, waiting }, paused }) {
  clearTimeout(counting);
  const parts = [
    count(turns, "sentence", "sentences"),
    count(conversations.length, "conversation", "conversations"),
    `${size(bytes)} on this computer`,
  ];
  if (waiting) {
    parts.push(`${waiting.toLocaleString()} still to index`);
    counting = setTimeout(() => attempt(async () => showSize(await call("GET", "/api/memory"))), COUNT_EVERY);
  }
  byId("size").textContent = paused ? `Paused: nothing new is stored. ${parts.join(" · ")}` : parts.join(" · ");
}

function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function showDays() {
  const newest = conversations.toSorted((a, b) => b.first.localeCompare(a.first));
  const pinned = newest.filter((each) => each.pinned);
  const days = Map.groupBy(newest, ({ first }) => dayOf(first));
  const parts = [...days].map(([date, those]) => group(shelf("day", date, day(date), "of-day"), those));
  if (pinned.length) parts.unshift(group(element("p", { className: "of-day", textContent: "Pinned" }), pinned));
  byId("days").replaceChildren(...parts);
  markShown();
}

/** Mark what is shown, without rebuilding the list, so that a focused button keeps the focus. */
function markShown() {
  for (const button of byId("days").querySelectorAll("button")) {
    const { kind, value } = button.dataset;
    button.setAttribute("aria-current", String(shown?.kind === kind && shown.value === value));
  }
}

function group(head, those) {
  const rows = those.map(({ id, first, opening, name }) =>
    element("li", {}, shelf("conversation", id, `${timeOf(first)}  ${name || opening}`)),
  );
  return element("div", { className: "day" }, head, element("ul", {}, ...rows));
}

function shelf(kind, value, text, className = "") {
  const button = element("button", { type: "button", textContent: text, title: text, className });
  Object.assign(button.dataset, { kind, value });
  button.addEventListener("click", () => attempt(() => open({ kind, value })));
  return button;
}

// --- one page of turns ---------------------------------------------------------------------------------------------

async function open(what) {
  shown = what;
  byId("turns").replaceChildren();
  if (what.kind !== "search") byId("query").value = "";
  const conversation = what.kind === "conversation" ? conversations.find(({ id }) => id === what.value) : null;
  byId("page-title").textContent = title(what, conversation);
  byId("forget-page").hidden = what.kind === "search";
  byId("forget-page").querySelector("span").textContent =
    what.kind === "day" ? "Delete day" : "Delete";
  showConversation(what, conversation);
  showSummary(shownDay());
  markShown();
  await more();
}

const shownDay = () => (shown?.kind === "day" ? shown.value : null);

function title({ kind, value }, conversation) {
  if (kind === "day") return day(value);
  if (kind === "search") return `“${value}”`;
  if (!conversation) return "A conversation";
  return conversation.name || `${day(dayOf(conversation.first))}, ${timeOf(conversation.first)}`;
}

/** Show what can be done with one conversation. */
function showConversation({ kind, value }, conversation) {
  const id = encodeURIComponent(value);
  byId("conversation-acts").hidden = kind !== "conversation";
  byId("go-on").hidden = !NAME.test(value);
  byId("pin").setAttribute("aria-pressed", String(conversation?.pinned ?? false));
  byId("name-form").hidden = true;
  byId("go-on").href = `/talk?conversation=${id}`;
  byId("download").href = `/api/conversations/${id}/export`;
  byId("name").value = conversation?.name ?? "";
  byId("sound").hidden = !conversation?.recorded;
  byId("sound").pause();
  if (conversation?.recorded) byId("sound").src = `/api/conversations/${id}/sound`;
  else byId("sound").removeAttribute("src");
}

/** Open the conversation of a turn that was found, with that turn in view. */
async function openAt({ id, conversation }) {
  await open({ kind: "conversation", value: conversation });
  const find = () => [...byId("turns").children].find(({ dataset }) => dataset.id === id);
  while (!find() && !byId("earlier").hidden) await more();
  const row = find();
  row?.scrollIntoView({ block: "center" });
  row?.focus({ preventScroll: true });
}

/** Load the turns before the first one shown; for a search, the results after the last one. */
async function more() {
  const { kind, value } = shown;
  const [first] = byId("turns").children;
  const searching = kind === "search";
  const offset = byId("turns").children.length;
  const query = new URLSearchParams(searching ? { q: value, limit: FOUND, offset } : { [kind]: value, limit: PAGE });
  if (first && !searching) query.set("before", first.dataset.id);
  const found = await call("GET", `/api/memory/${searching ? "search" : "turns"}?${query}`);
  const rows = found.turns.map(row);
  if (searching) byId("turns").append(...rows);
  else byId("turns").prepend(...rows);
  byId("earlier").hidden = searching || rows.length < PAGE;
  byId("more").hidden = !found.more;
  byId("empty").hidden = byId("turns").children.length > 0;
  byId("empty").textContent = searching ? "Nothing found." : "Nothing is remembered here.";
}

function row(turn) {
  const companion = turn.speaker === "assistant";
  const said = element("p", { className: "said", dir: "auto", textContent: turn.text });
  const when = element("p", { className: "when figures", textContent: timeOf(turn.at) });
  if (shown.kind === "search") {
    const where = element("button", { type: "button", className: "link", textContent: `${day(dayOf(turn.at))}, ${timeOf(turn.at)}` });
    where.addEventListener("click", () => attempt(() => openAt(turn)));
    when.replaceChildren("Open conversation: ", where);
  }
  const edit = element(
    "button",
    { type: "button", className: "bare only-icon", "aria-label": `Correct: ${turn.text}`, title: "Correct" },
    icon("edit"),
  );
  const bin = element(
    "button",
    { type: "button", className: "bare only-icon", "aria-label": `Delete: ${turn.text}`, title: "Delete" },
    icon("bin"),
  );
  const node = element(
    "li",
    {
      className: `turn ${companion ? "companion" : "you"}`,
      "aria-label": `${speakerName(turn.speaker)}: ${turn.text}`,
    },
    element("p", { className: "who", textContent: speakerName(turn.speaker) }),
    said,
    when,
    element("div", { className: "acts" }, edit, bin),
  );
  node.dataset.id = turn.id;
  edit.addEventListener("click", () => correct(turn, said, edit));
  bin.addEventListener("click", () => forgetTurn(turn, node));
  return node;
}

/** Turn the text into a field; Save keeps the changes, Cancel and Escape restore the old text. */
function correct(turn, said, edit) {
  const name = { "aria-label": "Corrected words" };
  const field = element("textarea", { value: turn.text, dir: "auto", maxLength: 20_000, ...name });
  const error = element("p", { className: "field-error", role: "alert" });
  const save = element("button", { type: "submit", className: "primary", textContent: "Save" });
  const cancel = element("button", { type: "button", textContent: "Cancel" });
  const form = element("form", {}, field, error, element("div", {}, save, cancel));
  const close = () => {
    form.replaceWith(said);
    edit.focus();
  };
  cancel.addEventListener("click", close);
  form.addEventListener("keydown", ({ key }) => key === "Escape" && close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { text } = await call("PUT", `/api/memory/turns/${encodeURIComponent(turn.id)}`, { text: field.value });
      turn.text = text;
      said.textContent = text;
      close();
      await attempt(refresh);
    } catch (problem) {
      error.textContent = problem.message;
    }
  });
  said.replaceWith(form);
  field.focus();
}

// --- forgetting ----------------------------------------------------------------------------------------------------

async function forgetTurn(turn, node) {
  const yes = await confirmDialog({
    title: "Delete this sentence?",
    text: `“${turn.text.slice(0, 200)}”`,
    yes: "Delete",
  });
  if (!yes) return;
  await attempt(async () => {
    await call("DELETE", `/api/memory/turns/${encodeURIComponent(turn.id)}`);
    const next = node.nextElementSibling ?? node.previousElementSibling;
    node.remove();
    (next?.querySelector("button") ?? byId("page-title")).focus();
    byId("empty").hidden = byId("turns").children.length > 0;
    await refresh();
  });
}

byId("forget-page").addEventListener("click", async () => {
  const { kind, value } = shown;
  const title = kind === "day" ? `Delete ${day(value)}?` : "Delete this conversation?";
  const text = "This permanently deletes it, with its recordings. You can’t undo this.";
  if (!(await confirmDialog({ title, text, yes: "Delete" }))) return;
  await attempt(async () => {
    await call("DELETE", `/api/memory/${kind === "day" ? "days" : "conversations"}/${encodeURIComponent(value)}`);
    await refresh();
    await openNewest();
  });
});

byId("everything").addEventListener("click", async () => {
  const text =
    "This permanently deletes everything Parley remembers, with all recordings, the voices that it knows people by, and " +
    "what was said in the logs. " +
    "Export it first if you might want it again.";
  if (!(await confirmDialog({ title: "Delete everything?", text, yes: "Delete everything" }))) return;
  await attempt(async () => {
    await call("DELETE", "/api/memory", { everything: true });
    await refresh();
    await openNewest();
  });
});

// --- pausing, exporting, importing ---------------------------------------------------------------------------------

byId("pause").addEventListener("click", () =>
  attempt(async () => {
    await call("POST", "/api/memory/pause", { paused: byId("pause").getAttribute("aria-pressed") !== "true" });
    await refresh();
  }),
);

byId("summarise").addEventListener("click", () => attempt(() => toggleSummaries(refresh)));

byId("export").addEventListener("click", () =>
  attempt(async () => {
    const lines = await call("GET", "/api/memory/export");
    const today = new Date().toISOString().slice(0, 10);
    URL.revokeObjectURL(exported); // the previous one: this one is still needed after the click returns
    exported = URL.createObjectURL(lines);
    element("a", { href: exported, download: `parley-memory-${today}.jsonl` }).click();
  }),
);

byId("import").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", () =>
  attempt(async () => {
    const [file] = byId("file").files;
    if (!file) return;
    byId("file").value = "";
    const { added } = await call("POST", "/api/memory/import", file);
    tell(
      added
        ? `Imported ${count(added, "sentence", "sentences")}.`
        : "Everything in this file was already in memory.",
      {
        key: "imported",
      },
    );
    await refresh();
    await openNewest();
  }),
);

// --- searching -----------------------------------------------------------------------------------------------------

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = byId("query").value.trim();
  attempt(() => (query ? open({ kind: "search", value: query }) : openNewest()));
});
byId("query").addEventListener("search", () => {
  if (!byId("query").value) attempt(openNewest);
});
byId("earlier").addEventListener("click", () => attempt(more));
byId("more").addEventListener("click", () => attempt(more));
roving(byId("turns"), ".turn");
roving(byId("days"), "button");

async function change(conversation, what) {
  await call("PUT", `/api/conversations/${encodeURIComponent(conversation)}`, what);
  await refresh();
}

byId("pin").addEventListener("click", () =>
  attempt(async () => {
    const pinned = byId("pin").getAttribute("aria-pressed") !== "true";
    await change(shown.value, { pinned });
    byId("pin").setAttribute("aria-pressed", String(pinned));
  }),
);
byId("rename").addEventListener("click", () => {
  byId("name-form").hidden = !byId("name-form").hidden;
  byId("name").focus();
});
byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const { value } = shown;
    await change(value, { name: byId("name").value.trim() });
    const conversation = conversations.find(({ id }) => id === value);
    byId("page-title").textContent = title(shown, conversation);
    byId("name-form").hidden = true;
    byId("rename").focus();
  });
});

async function openNewest() {
  const [newest] = conversations.toSorted((a, b) => b.first.localeCompare(a.first));
  if (newest) {
    await open({ kind: "day", value: dayOf(newest.first) });
    return;
  }
  shown = null;
  byId("turns").replaceChildren();
  byId("page-title").textContent = "Nothing yet";
  for (const id of ["forget-page", "earlier", "more", "conversation-acts", "name-form", "sound", "summary"]) byId(id).hidden = true;
  byId("empty").hidden = false;
  byId("empty").textContent = "What you and Parley say is stored here, on this computer and nowhere else.";
}

watchPeople();
await attempt(async () => {
  await tellKept();
  await refresh();
  await openNewest();
});
