"""The command csm-prepare: recordings in, a folder of training data out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .events import Tell
from .parser import Arguments, Parser, run

if TYPE_CHECKING:
    from ..training.dataset import Clip

__all__ = ["prepare_command"]


def prepare_command(arguments: Sequence[str] | None = None) -> int:
    """Turn recordings into training data for a voice."""
    parser = Parser(
        "csm-prepare",
        description="Cut recordings at pauses, transcribe them, drop unsuitable clips with a reason, and encode the "
        "rest. Run it again after correcting clips.csv or adding recordings: finished work is not "
        "repeated.",
    )
    add = parser.add_argument
    add(
        "given", nargs="+", type=Path, metavar="FOLDER|FILE", help="recordings, .jsonl, .parquet, .tar shards, LJSpeech"
    )
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder for the prepared data")
    add(
        "--model",
        default="sesame/csm-1b",
        help="the model whose codec is used: a folder, or a name on the Hugging Face hub",
    )
    add("--codec", help="the codec Mimi: a file, a folder or a name on the hub (default: the model's)")
    add("--device", help="device: cpu, cuda, … (default: the GPU if there is one)")
    add(
        "--whisper",
        default="base",
        metavar="NAME|FOLDER",
        help="the Whisper model that transcribes recordings without a text (default base)",
    )
    add("--no-whisper", action="store_true", help="drop recordings without a text, and trust the given texts")
    add("--trust-texts", action="store_true", help="do not compare the given texts with what Whisper hears")
    add("--language", metavar="CODE", help="language: en, de, zh, … (default: Whisper detects it)")
    add("--speaker-folders", action="store_true", help="use each folder's name as its speaker")
    add("--speaker-encoder", type=Path, metavar="FILE", help="Resemblyzer's weights (default: downloaded once, 17 MB)")
    add("--one-speaker-unchecked", action="store_true", help="do not check whether each clip is by its speaker")
    add(
        "--held-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the sound to hold out for evaluation (default 0.1)",
    )
    add("--json", action="store_true", help="print a line of JSON for each clip, for programs")
    add("--debug", action="store_true", help="show where an error came from")
    return run(parser, _prepare, arguments)


def _prepare(given: Arguments) -> int:
    from ..devices import pick_device
    from ..loading import load_codec, resolve
    from ..training.likeness import load_speaker_encoder
    from ..training.page import write_page
    from ..training.prepare import Limits, prepare
    from ..training.sources import recordings
    from ..training.transcribing import Whisper

    if not 0 <= given.held_out < 1:
        raise ValueError(f"--held-out is a share from 0 to below 1, not {given.held_out:g}.")
    tell = Tell(given.json)

    def clip_told(clip: Clip) -> None:
        line = f"{clip.source} at {clip.start:.1f} s: {clip.dropped or clip.text}"
        tell("clip", line, source=clip.source, dropped=bool(clip.dropped))

    codec = load_codec(given.codec, resolve(given.model) if given.codec is None else Path(), pick_device(given.device))
    prepared = prepare(
        recordings(given.given, speaker_folders=given.speaker_folders),
        given.out,
        codec,
        transcribe=None if given.no_whisper else Whisper(given.whisper, given.language),
        encoder=None if given.one_speaker_unchecked else load_speaker_encoder(given.speaker_encoder),
        limits=Limits(held_out=given.held_out),
        check_texts=not given.trust_texts,
        tell=clip_told,
    )
    write_page(given.out, prepared.clips)
    table, page = given.out / "clips.csv", given.out / "clips.html"
    if given.json:
        tell("prepared", prepared.report())
        return 0
    print(prepared.report())
    print(f"Correct the texts in {table}, or open {page} to listen to them as well; then run csm-train.")
    return 0


if __name__ == "__main__":
    raise SystemExit(prepare_command())
