// One tool in a list: what it does, and what it may do. And the list of those that come with Parley.

import { byId, capital, element } from "../shared/dom.js";

const MAY = { allow: "Allowed", ask: "Ask first", off: "Off" };

/** `save` is called with the permission that was chosen. */
export function toolRow(owner, { name, title, description, permission, usual }, save) {
  const id = `may-${owner}-${name}`.replaceAll(/[^\w-]/g, "_");
  const select = element("select", { id });
  for (const choice of Object.keys(MAY)) select.append(new Option(MAY[choice], choice, false, choice === permission));
  select.addEventListener("change", () => save(select.value));
  const shown = capital((title ?? name).replaceAll("_", " "));
  const words = element("label", { for: id }, element("b", { textContent: shown, dir: "auto" }));
  if (description) words.append(" ", element("span", { className: "small quiet", textContent: description.slice(0, 160), dir: "auto" }));
  if (usual === "ask" && permission === "allow")
    words.append(" ", element("span", { className: "small warn", textContent: "It can change things, and Parley won’t ask you first." }));
  return element("li", {}, words, select);
}

export function showBuiltins(form, { usable, builtins }) {
  byId("tools-unusable").hidden = usable;
  const save = (tool) => (permission) => form.save("tools.permissions", { [tool.name]: permission });
  byId("builtin-tools").replaceChildren(...builtins.map((tool) => toolRow("builtin", tool, save(tool))));
}
