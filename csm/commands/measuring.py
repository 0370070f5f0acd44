"""The command csm-measure: does a trained voice sound more like the speaker?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .parser import Arguments, Parser, run

if TYPE_CHECKING:
    from ..training.measure import Figures

__all__ = ["measure_command"]


def measure_command(arguments: Sequence[str] | None = None) -> int:
    """Compare a trained voice with the base model and the real recordings."""
    parser = Parser(
        "csm-measure",
        description="Measure a trained voice on a prepared folder: its similarity to the speaker (with the ceiling, "
        "real against real, and the floors, the base model and another speaker), held-out loss, words, "
        "ends and silences.",
    )
    add = parser.add_argument
    add("data", type=Path, help="the prepared folder")
    add(
        "--adapter",
        type=Path,
        metavar="FOLDER",
        help="the trained adapter; without it, only the base model is measured",
    )
    add("--model", default="sesame/csm-1b", help="a folder, or a name on the Hugging Face hub (default sesame/csm-1b)")
    add("--device", help="device: cpu, cuda, … (default: the GPU if there is one)")
    add("--speaker", type=int, default=0, metavar="N", help="number of the speaker (default 0)")
    add("--sentence", action="append", metavar="TEXT", help="a sentence to say; may be repeated")
    add("--no-reference", action="store_true", help="do not give the model a recording of the speaker first")
    add("--speaker-encoder", type=Path, metavar="FILE", help="Resemblyzer's weights (default: downloaded once, 17 MB)")
    add("--whisper", metavar="NAME|FOLDER", help="measure the word error rate with this Whisper")
    add("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    add("--debug", action="store_true", help="show where an error came from")
    return run(parser, _measure, arguments)


def _measure(given: Arguments) -> int:
    from ..devices import pick_device
    from ..generator import load_csm_1b
    from ..training.dataset import lessons, read_clips
    from ..training.held_out import held_out_loss
    from ..training.likeness import load_speaker_encoder
    from ..training.measure import SENTENCES, Speaker, judge, speak
    from ..training.transcribing import Whisper

    encoder = load_speaker_encoder(given.speaker_encoder)
    speaker = Speaker(given.data, given.speaker, encoder)
    others = {clip.speaker for clip in read_clips(given.data) if not clip.dropped} - {given.speaker}
    ceiling = speaker.ceiling()
    print(f"ceiling, real to real     {'-' if ceiling is None else f'{ceiling:.3f}'}")
    for number in sorted(others):
        floor = speaker.likeness_of(Speaker(given.data, number, encoder))
        print(f"floor, speaker {number} to {given.speaker}    {floor:.3f}")
    transcribe = Whisper(given.whisper) if given.whisper else None
    generator = load_csm_1b(pick_device(given.device), given.model)
    reference = None if given.no_reference else speaker.reference()
    held_out = lessons(given.data, generator.prompter, 0.0).held_out
    measured: list[tuple[str, Callable[[], None]]] = [("base model", lambda: None)]
    if given.adapter is not None:  # so that a wrong one is reported now, not after minutes with the base model
        measured.append(("learnt", generator.prepared_adapter(given.adapter)))
    for name, put in measured:
        put()
        spoken = speak(generator, given.sentence or SENTENCES, given.speaker, reference, given.seed)
        losses = held_out_loss(generator.csm, held_out)
        told = f"{losses.code0:.3f} + {losses.depth:.3f}" if losses else "-"
        print(
            f"{name}\n{_lines(judge(spoken, speaker, transcribe))}\n  held-out loss           {told} (code 0 + others)"
        )
    return 0


def _lines(figures: Figures) -> str:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return "\n".join(
        (
            f"  likeness                {shown(figures.likeness, '.3f')}",
            f"  ends by itself          {figures.ended:.0%} of {figures.count}",
            f"  longest silence         {figures.silence:.2f} s",
            f"  word error rate         {shown(figures.errors, '.0%')}",
            f"  seconds a character     {figures.pace:.3f}",
        )
    )
