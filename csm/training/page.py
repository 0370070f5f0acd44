"""clips.html: a page beside clips.csv to hear each clip, correct its text, and save the corrected table. It is a
self-contained file: there is no server, and nothing leaves the computer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path

from ..writing import replacing
from .dataset import Clip

__all__ = ["write_page"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; media-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Correct the transcripts</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light
dark }}
li {{ display: grid; grid-template-columns: 16rem 1fr auto; gap: .75rem; align-items: center; padding: .4rem 0 }}
ol {{ padding: 0; list-style: none }} audio {{ width: 16rem; height: 2rem }}
input[type=text] {{ font: inherit; padding: .3rem .5rem; width: 100%; box-sizing: border-box }}
.dropped input[type=text] {{ text-decoration: line-through; opacity: .6 }}
small {{ grid-column: 2; opacity: .7 }} header {{ position: sticky; top: 0; background: Canvas; padding: .5rem 0 }}
button {{ font: inherit; padding: .4rem 1rem }} @media (max-width: 40rem) {{ li {{ grid-template-columns: 1fr }} small
{{ grid-column: 1 }} }}
</style>
<header><h1>Correct the transcripts</h1>
<p>Listen to each clip and write what is really said. Then save the table over clips.csv in this folder.
<button id="save">Save the table</button></p></header>
<ol>{rows}</ol>
<script>
const clips = {clips};
document.querySelectorAll("li").forEach((row, index) => {{
  row.querySelector("[type=text]").addEventListener("input", event => clips[index].text = event.target.value);
  row.querySelector("[type=checkbox]").addEventListener("change", event => {{
    clips[index].dropped = event.target.checked ? "" : clips[index].dropped || "by hand";
    row.classList.toggle("dropped", !event.target.checked);
  }});
}});
document.getElementById("save").addEventListener("click", () => {{
  const cell = value => `"${{String(value).replaceAll('"', '""')}}"`;
  const table = [Object.keys(clips[0]), ...clips.map(Object.values)].map(row => row.map(cell).join(",")).join("\\r\\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff" + table + "\\r\\n"], {{type: "text/csv"}}));
  link.download = "clips.csv";
  link.click();
}});
</script>
</html>
"""  # noqa: E501 - a page

ROW = (
    '<li class="{kind}"><audio controls preload="none" src="clips/{id}.flac"></audio>'
    '<input type="text" value="{text}" aria-label="What is said"><label><input type="checkbox"{kept}> learn it</label>'
    "<small>{note}</small></li>"
)


def write_page(folder: Path, clips: Iterable[Clip]) -> Path:
    """Write the page, replacing it completely. Everything that came from files is escaped. Raises CannotWrite."""
    clips = list(clips)
    rows = "\n".join(
        ROW.format(
            kind="dropped" if clip.dropped else "",
            id=escape(clip.id),
            text=escape(clip.text),
            kept="" if clip.dropped else " checked",
            note=escape(f"{clip.seconds:.1f} s, {clip.source}" + (f" · {clip.dropped}" if clip.dropped else "")),
        )
        for clip in clips
    )
    data = json.dumps([asdict(clip) for clip in clips]).replace("<", "\\u003c")
    path = folder / "clips.html"
    with replacing(path) as partial:
        partial.write_text(PAGE.format(rows=rows, clips=data), encoding="utf-8")
    return path
