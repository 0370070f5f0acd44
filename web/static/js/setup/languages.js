// The languages that Whisper was trained on, by name.

const CODES =
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id " +
  "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si " +
  "sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh";

/** Languages whose names a browser may not know. */
const NAMES = { ba: "Bashkir", bo: "Tibetan" };

/** Return the options of the language select, in alphabetical order; "auto" first. */
export function languageOptions() {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const known = CODES.split(" ").map((code) => new Option(NAMES[code] ?? names.of(code), code));
  known.sort((one, other) => one.text.localeCompare(other.text));
  return [new Option("Whichever I speak", "auto"), ...known];
}
