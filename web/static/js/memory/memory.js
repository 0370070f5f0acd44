// The memory page: what is remembered, by day and conversation or found by a search; to correct, delete, take away.

import { call } from "../shared/api.js";
import { byId, confirmDialog, element, icon, speakerName } from "../shared/dom.js";
import { tell, tellKept, withdraw } from "../shared/notices.js";

const PAGE = 200;

const dayWords = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeZone: "UTC" });
const timeOf = (at) => at.slice(11, 16); // as the speaker's clock showed it
const dayOf = (at) => at.slice(0, 10);
const day = (date) => dayWords.format(new Date(`${date}T00:00:00Z`));
const count = (number, one, many) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

let conversations = [];
let exported = "";
let shown = null; // {kind: "day" | "conversation" | "search", value}

/** Do something that may fail, and say so at the head of the page. */
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
  const { turns, disk_bytes: bytes, waiting } = overview.size;
  const parts = [
    count(turns, "sentence", "sentences"),
    count(conversations.length, "conversation", "conversations"),
    `${size(bytes)} on this computer`,
  ];
  if (waiting) parts.push(`${waiting} still being taken in`);
  byId("size").textContent = overview.paused
    ? `Paused: nothing new is remembered. ${parts.join(" · ")}`
    : parts.join(" · ");
  byId("pause").setAttribute("aria-pressed", String(overview.paused));
  byId("everything").disabled = turns === 0;
  byId("export").disabled = turns === 0;
  showDays();
}

function size(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function showDays() {
  const days = Map.groupBy(
    conversations.toSorted((a, b) => b.first.localeCompare(a.first)),
    ({ first }) => dayOf(first),
  );
  byId("days").replaceChildren(
    ...[...days].map(([date, those]) =>
      element(
        "div",
        { className: "day" },
        shelf("day", date, day(date), "of-day"),
        element(
          "ul",
          {},
          ...those.map(({ id, first, opening }) =>
            element("li", {}, shelf("conversation", id, `${timeOf(first)}  ${opening}`)),
          ),
        ),
      ),
    ),
  );
}

function shelf(kind, value, text, className = "") {
  const button = element("button", { type: "button", textContent: text, title: text, className });
  button.setAttribute("aria-current", String(shown?.kind === kind && shown.value === value));
  button.addEventListener("click", () => attempt(() => open({ kind, value })));
  return button;
}

// --- one page of turns ---------------------------------------------------------------------------------------------

async function open(what) {
  shown = what;
  byId("turns").replaceChildren();
  if (what.kind !== "search") byId("query").value = "";
  const titles = {
    day: () => day(what.value),
    conversation: () => {
      const { first } = conversations.find(({ id }) => id === what.value) ?? {};
      return first ? `${day(dayOf(first))}, ${timeOf(first)}` : "A conversation";
    },
    search: () => `“${what.value}”`,
  };
  byId("page-title").textContent = titles[what.kind]();
  byId("forget-page").hidden = what.kind === "search";
  byId("forget-page").querySelector("span").textContent =
    what.kind === "day" ? "Delete this day" : "Delete this conversation";
  showDays();
  await more();
}

/** The turns before the first one shown. */
async function more() {
  const { kind, value } = shown;
  const [first] = byId("turns").children;
  const query = new URLSearchParams(kind === "search" ? { q: value } : { [kind]: value, limit: PAGE });
  if (first && kind !== "search") query.set("before", first.dataset.id);
  const { turns } = await call("GET", `/api/memory/${kind === "search" ? "search" : "turns"}?${query}`);
  byId("turns").prepend(...turns.map(row));
  byId("earlier").hidden = kind === "search" || turns.length < PAGE;
  byId("empty").hidden = byId("turns").children.length > 0;
  byId("empty").textContent = kind === "search" ? "Nothing that was said fits this." : "Nothing is remembered here.";
}

function row(turn) {
  const companion = turn.speaker === "assistant";
  const said = element("p", { className: "said", dir: "auto", textContent: turn.text });
  const when = shown.kind === "search" ? `${day(dayOf(turn.at))}, ${timeOf(turn.at)}` : timeOf(turn.at);
  const edit = element(
    "button",
    { type: "button", className: "bare only-icon", "aria-label": "Correct", title: "Correct" },
    icon("edit"),
  );
  const bin = element(
    "button",
    { type: "button", className: "bare only-icon", "aria-label": "Delete", title: "Delete" },
    icon("bin"),
  );
  const node = element(
    "li",
    { className: `turn ${companion ? "companion" : "you"}` },
    element("p", { className: "who", textContent: speakerName(turn.speaker) }),
    said,
    element("p", { className: "when figures", textContent: when }),
    element("div", { className: "acts" }, edit, bin),
  );
  node.dataset.id = turn.id;
  edit.addEventListener("click", () => correct(turn, said, edit));
  bin.addEventListener("click", () => forgetTurn(turn, node));
  return node;
}

/** Turn the words into a field; Save keeps them, Cancel and Escape bring the old ones back. */
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
  const text = "It is really gone then: words, search and export. There is no way back.";
  if (!(await confirmDialog({ title, text, yes: "Delete" }))) return;
  await attempt(async () => {
    await call("DELETE", `/api/memory/${kind === "day" ? "days" : "conversations"}/${encodeURIComponent(value)}`);
    await refresh();
    await openNewest();
  });
});

byId("everything").addEventListener("click", async () => {
  const text = "Parley forgets all that was ever said. There is no way back; export first if you may want it again.";
  if (!(await confirmDialog({ title: "Delete everything?", text, yes: "Delete everything" }))) return;
  await attempt(async () => {
    await call("DELETE", "/api/memory", { everything: true });
    await refresh();
    await openNewest();
  });
});

// --- pausing, taking away, bringing back ---------------------------------------------------------------------------

byId("pause").addEventListener("click", () =>
  attempt(async () => {
    await call("POST", "/api/memory/pause", { paused: byId("pause").getAttribute("aria-pressed") !== "true" });
    await refresh();
  }),
);

byId("export").addEventListener("click", () =>
  attempt(async () => {
    const lines = await call("GET", "/api/memory/export");
    const today = new Date().toISOString().slice(0, 10);
    URL.revokeObjectURL(exported); // the last one: this one is still needed when the click has returned
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
        ? `${count(added, "sentence is", "sentences are")} new in the memory.`
        : "All of that was in the memory already.",
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

async function openNewest() {
  const [newest] = conversations.toSorted((a, b) => b.first.localeCompare(a.first));
  if (newest) {
    await open({ kind: "day", value: dayOf(newest.first) });
    return;
  }
  shown = null;
  byId("turns").replaceChildren();
  byId("page-title").textContent = "Nothing yet";
  byId("forget-page").hidden = true;
  byId("earlier").hidden = true;
  byId("empty").hidden = false;
  byId("empty").textContent = "What you and Parley say is kept here, on this computer, and nowhere else.";
}

await attempt(async () => {
  await tellKept();
  await refresh();
  await openNewest();
});
