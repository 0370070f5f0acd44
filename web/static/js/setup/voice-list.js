// The voices of the running engine, as a list to choose from.

/** Show them in `select`, and the one in force as chosen, even if the engine does not list it. */
export function showVoices(select, voices, chosen) {
  const options = [new Option("Default voice", "", false, chosen === "")];
  for (const { name, label } of voices) options.push(new Option(label, name, false, name === chosen));
  if (!options.some((option) => option.selected)) options.push(new Option(chosen, chosen, false, true));
  select.replaceChildren(...options);
}
