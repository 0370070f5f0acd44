"""The commands that speak, and related ones: csm-generate, csm-dialogue, csm-voice, csm-verify."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CsmError, InvalidSpeaker, InvalidText
from .parser import Arguments, Parser, UsageError, run, shown

if TYPE_CHECKING:
    from ..generator import Generator
    from ..prompt import Segment
    from .speaking import Metrics, SpeechOutput
    from .voices import Voice

__all__ = [
    "dialogue_command",
    "generate_command",
    "generate_mlx_command",
    "serve_command",
    "verify_command",
    "voice_command",
]

NOT_MLXS = ("MLX_AUTOTUNE", "MLX_NUM_THREADS")
"""Variables that other programs are started with. MLX knows neither, and a GPU needs none."""


def generate_command(arguments: Sequence[str] | None = None) -> int:
    """Speak one text."""
    parser = Parser("csm-generate", description="Speak a text with CSM-1B.")
    _add_generating(parser)
    return run(parser, _generate, arguments)


def generate_mlx_command(arguments: Sequence[str] | None = None) -> int:
    """Speak one text with MLX, on the GPU of a Mac with Apple silicon; without MLX, do what csm-generate does."""
    from ..devices import MLX_MISSING, has_mlx
    from .speaking import say

    if not has_mlx():
        say(f"{MLX_MISSING}, so csm-generate is used instead.")
        return generate_command(arguments)
    for name in NOT_MLXS:
        if name in os.environ:
            say(f"{name} has no effect: MLX has no such setting, and the GPU needs none.")
    parser = Parser("csm-generate-mlx", description="Speak a text with CSM-1B through MLX, on the GPU of a Mac.")
    _add_generating(parser)
    parser.set_defaults(device="mlx")
    return run(parser, _generate, arguments)


def _add_generating(parser: Parser) -> None:
    parser.add_argument("--text", help="text to speak; without it, text is read from a pipe")
    parser.add_argument("--speaker", default="0", metavar="N", help="number of the speaker, 0 or higher (default 0)")
    parser.add_argument("--voice", metavar="NAME", help="a voice of csm-voice, or the folder of a voice")
    parser.add_argument(
        "--context-audio", nargs="+", default=[], metavar="FILE", help="recordings that come before the text"
    )
    parser.add_argument("--context-text", nargs="+", default=[], metavar="TEXT", help="what is said in each of them")
    parser.add_argument(
        "--context-speaker", nargs="+", default=[], metavar="N", help="who says it (default: the speaker of the text)"
    )
    _add_speaking(parser, "audio.wav")


def dialogue_command(arguments: Sequence[str] | None = None) -> int:
    """Speak a script of several characters; each line has the previous ones as context."""
    parser = Parser(
        "csm-dialogue",
        description='Speak a script: "Name = voice" for each character that has one, then lines "Name: words".',
    )
    parser.add_argument("script", help="file with the script, or - to read it from a pipe")
    parser.add_argument("--pause", type=float, default=0.3, metavar="SECONDS", help="pause between lines (default 0.3)")
    _add_speaking(parser, "dialogue.wav")
    return run(parser, _dialogue, arguments)


def voice_command(arguments: Sequence[str] | None = None) -> int:
    """Manage voices: a recording, its words, a note."""
    parser = Parser("csm-voice", description="Manage voices: folders with a recording, its transcript and a note.")
    _add_voices(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="add | list | play", parser_class=Parser)
    add = actions.add_parser("add", help="make a voice from a recording")
    add.add_argument("name", help="name of the voice")
    add.add_argument("recording", type=Path, help="a recording of the voice")
    add.add_argument("--text", required=True, help="what is said in the recording")
    add.add_argument("--note", default="", help="where it is from, and whether its owner has agreed")
    add.add_argument("--adapter", type=Path, metavar="FOLDER", help="adapter trained on this voice, kept with it")
    add.add_argument("--replace", action="store_true", help="replace the existing voice of that name")
    add.set_defaults(act=_add_voice)
    actions.add_parser("list", help="show the voices").set_defaults(act=_list_voices)
    play = actions.add_parser("play", help="play a voice")
    play.add_argument("name", help="name of the voice")
    play.set_defaults(act=_play_voice)
    return run(parser, lambda given: int(given.act(given)), arguments)


def verify_command(arguments: Sequence[str] | None = None) -> int:
    """Report whether CSM made a file. Exit status 0: it has the watermark; 1: it does not; 2: unknown."""
    parser = Parser("csm-verify", description="Look for CSM's watermark in a recording, and show what its tags say.")
    parser.add_argument("file", type=Path, help="the recording to check")
    return run(parser, _verify, arguments)


def serve_command(arguments: Sequence[str] | None = None) -> int:
    """Serve speech to programs over HTTP."""
    parser = Parser(
        "csm-serve", description="Speak for other programs: OpenAI's /v1/audio/speech, and /generate_audio, over HTTP."
    )
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default 127.0.0.1, this computer only; others need a key)",
    )
    add("--port", type=int, default=8002, help="port to listen on (default 8002)")
    add("--key", default=os.environ.get("CSM_KEY"), help="what clients must send as their API key (default $CSM_KEY)")
    add("--voice", metavar="NAME", help="the default voice, one of csm-voice")
    add("--slots", type=int, default=8, metavar="N", help="texts spoken at once (default 8)")
    _add_model(parser)
    add("--temperature", type=float, default=0.9, help="0 always takes the likeliest code (default 0.9)")
    add("--topk", type=int, default=50, help="how many of the likeliest codes to draw from (default 50)")
    add("--debug", action="store_true", help="show where an error came from")
    _add_voices(parser)
    return run(parser, _serve, arguments)


def _add_model(parser: Parser) -> None:
    add = parser.add_argument
    add("--model", default="sesame/csm-1b", help="a folder, or a name on the Hugging Face hub (default sesame/csm-1b)")
    add("--adapter", metavar="FOLDER", help="adapter of a trained voice (docs/TRAINING.md)")
    add("--codec", choices=("mimi", "moshi"), default="mimi", help="our own, or the package moshi (default mimi)")
    add("--device", help="device: cpu, cuda, mps or mlx (default: the GPU if there is one, through MLX on a Mac)")
    add("--quantize", choices=("int8", "int4"), help="use smaller weights: faster, slightly less exact")


def _add_speaking(parser: Parser, output: str) -> None:
    """Add the options that all speaking commands share."""
    _add_model(parser)
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path(output),
        metavar="FILE",
        help=f"file to write (wav, flac, ogg or mp3), or - for a pipe (default {output})",
    )
    add(
        "--max-audio-length-ms",
        type=float,
        default=90_000,
        metavar="MS",
        help="maximum length of the speech (default 90000)",
    )
    add("--temperature", type=float, default=0.9, help="0 always takes the likeliest code (default 0.9)")
    add("--topk", type=int, default=50, help="how many of the likeliest codes to draw from (default 50)")
    add("--seed", type=int, help="a number, to get the same speech every time")
    add("--stream", action="store_true", help="write the speech while it is made, without a watermark")
    add("--play", action="store_true", help="also play the speech while it is made")
    add("--no-watermark", action="store_true", help="do not add the watermark of synthetic speech")
    add("--debug", action="store_true", help="show times and memory, and where an error came from")
    _add_voices(parser)


def _add_voices(parser: Parser) -> None:
    parser.add_argument("--voices", type=Path, metavar="FOLDER", help="folder of the voices (default: $CSM_VOICES, …)")


def _generate(given: Arguments) -> int:
    from ..prompt import speakable
    from ..utterance import FRAMES_PER_SECOND, frames_likely

    text = _text(given.text, "--text")
    speaker = _speaker(given.speaker)
    context = _context(given, speaker)
    if given.voice:
        kept = _voice(given, given.voice)
        context.insert(0, kept.segment(speaker))
        given.adapter = given.adapter or kept.adapter
    likely = frames_likely(speakable(text)) / FRAMES_PER_SECOND
    generator, metrics = _load(given)
    metrics.asked = metrics.clock()
    chunks = generator.generate_stream(
        text, speaker, context, given.max_audio_length_ms, given.temperature, given.topk, given.seed
    )
    with _output_for(given, generator, metrics, likely) as voice:
        voice.say(chunks)
    return _end(given, metrics)


def _dialogue(given: Arguments) -> int:
    from ..prompt import speakable
    from ..session import Session
    from ..utterance import FRAMES_PER_SECOND, frames_likely
    from .script import Script

    if not 0 <= given.pause <= 60:
        raise UsageError(f"A pause must be 0 to 60 seconds, not {given.pause:g}.")
    script = Script.parse(_text(None if given.script == "-" else _read(Path(given.script)), "a script's file"))
    numbers = {character: number for number, character in enumerate(script.characters)}
    chosen = {character: _voice(given, name) for character, name in script.voices.items()}
    voices = [voice.segment(numbers[character]) for character, voice in chosen.items()]
    if learnt := [character for character, voice in chosen.items() if voice.adapter]:
        # One model speaks for all of them, with one adapter or none.
        names = ", ".join(learnt)
        warnings.warn(
            f"A dialogue does not use the adapters of {names}: give one adapter for all with --adapter.", stacklevel=2
        )
    likely = sum(frames_likely(speakable(line.text)) / FRAMES_PER_SECOND + given.pause for line in script.lines)
    generator, metrics = _load(given)
    metrics.asked = metrics.clock()
    session = Session(generator, voices)
    with _output_for(given, generator, metrics, likely) as voice:
        for index, line in enumerate(script.lines):
            if index:
                voice.pause(given.pause)
            seed = None if given.seed is None else given.seed + index
            try:
                voice.say(
                    session.speak(
                        *(line.text, numbers[line.character], given.max_audio_length_ms),
                        *(given.temperature, given.topk, seed),
                    )
                )
            except CsmError as error:
                raise UsageError(f"Line {line.number}, {line.character}: {error}") from error
    return _end(given, metrics)


def _add_voice(given: Arguments) -> int:
    from .voices import Voices, default_folder

    voice = Voices(given.voices or default_folder()).add(
        given.name, given.recording, given.text, given.note, replace=given.replace, adapter=given.adapter
    )
    print(f"{voice.name}: {voice.seconds:.1f} s, in {voice.folder}")
    return 0


def _list_voices(given: Arguments) -> int:
    from .voices import Voices, default_folder

    voices = Voices(given.voices or default_folder())
    for voice in voices.all():
        print(
            f"{voice.name}\t{voice.seconds:.1f} s\t{shown(voice.text)}"
            + (f"\t({shown(voice.note)})" if voice.note else "")
        )
    if not voices.all():
        print(
            f"There are no voices in {voices.folder} yet. Make one with csm-voice add NAME RECORDING --text WORDS",
            file=sys.stderr,
        )
    return 0


def _play_voice(given: Arguments) -> int:
    from ..sound.playback import Playback
    from ..sound.recording import SAMPLE_RATE, as_mono

    segment = _voice(given, given.name).segment(0)
    with Playback(SAMPLE_RATE) as playback:
        playback.play(as_mono(segment.audio, segment.sample_rate))
    return 0


def _verify(given: Arguments) -> int:
    from ..sound.audio_files import provenance_of, read_recording
    from ..sound.watermark import WatermarkMissing, load_watermark

    provenance = provenance_of(given.file)
    audio, rate = read_recording(given.file)
    for field, value in (("software", provenance.software), ("comment", provenance.comment)):
        print(f"{field + ':':<11}{shown(value or '-')}")
    try:
        watermark = load_watermark()
    except WatermarkMissing as missing:
        print(f"watermark: not looked for. {missing}")
        return 2
    mark = watermark.read(audio.mean(0), rate)
    print("watermark: " + (f"CSM-1B's, {mark.confidence:.0%} of its digits agree" if mark else "none found"))
    return 0 if mark else 1


def _serve(given: Arguments) -> int:
    from ..utterance import Sampling
    from .serve import SpeechServer
    from .speaking import say
    from .voices import Voices, default_folder

    if given.host not in ("127.0.0.1", "localhost", "::1") and len(given.key or "") < 16:
        raise UsageError("To listen beyond this computer, a key is needed: give --key with at least 16 characters.")
    if not 1 <= given.slots <= 64:
        raise UsageError(f"There may be 1 to 64 slots, not {given.slots}.")
    Sampling(given.temperature, given.topk, None)
    voices = Voices(given.voices or default_folder())
    if given.voice:
        kept = voices.get(given.voice)
        given.adapter = given.adapter or kept.adapter
    generator, _ = _load(given)
    try:
        server = SpeechServer(
            generator, voices, (given.host, given.port), slots=given.slots, key=given.key, voice=given.voice,
            temperature=given.temperature, topk=given.topk,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"It cannot listen on {given.host}:{given.port} ({error.strerror}).") from error
    say(f"Listening at http://{given.host}:{server.server_address[1]} (Ctrl-C ends it).")
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return 0


def _text(given: str | None, option: str) -> str:
    """Return the given text, or read it from the pipe."""
    if given is not None:
        return given
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"Give {option}, or text through a pipe.")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InvalidText(f"The pipe did not deliver text: {error}.") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidText(f"{path} is not text in UTF-8: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _speaker(written: str) -> int:
    if not written.isdecimal():
        raise InvalidSpeaker(f"A speaker must be a whole number, 0 or higher, not {written!r}.")
    return int(written)


def _voice(given: Arguments, name: str) -> Voice:
    """Find a voice by its name or by the path of its folder."""
    from .voices import Voice, Voices, default_folder

    if os.sep in name or Path(name).is_dir():
        return Voice.read(Path(name).expanduser())
    return Voices(given.voices or default_folder()).get(name)


def _context(given: Arguments, speaker: int) -> list[Segment]:
    from ..prompt import Segment
    from ..sound.audio_files import read_recording

    audio, text, speakers = given.context_audio, given.context_text, given.context_speaker
    if len(audio) != len(text):
        raise UsageError(f"Give as many --context-text as --context-audio; there are {len(text)} and {len(audio)}.")
    if speakers and len(speakers) != len(audio):
        raise UsageError(f"Give a --context-speaker for each of {len(audio)} recordings, or none; got {len(speakers)}.")
    numbers = [_speaker(number) for number in speakers] or [speaker] * len(audio)
    recordings = [read_recording(path) for path in audio]
    return [
        Segment(text=words, speaker=number, audio=samples, sample_rate=rate)
        for words, number, (samples, rate) in zip(text, numbers, recordings, strict=True)
    ]


def _load(given: Arguments) -> tuple[Generator, Metrics]:
    """Load the generator; the metrics hold how long it took."""
    import torch

    from ..generator import load_csm_1b
    from .speaking import Metrics

    try:
        torch.device("cpu" if given.device in (None, "auto", "mlx") else given.device)
    except RuntimeError as error:
        raise UsageError(f"There is no device {given.device!r}. Use cpu, cuda, mps or mlx.") from error
    metrics = Metrics()
    begun = metrics.clock()
    codec = None
    if given.codec == "moshi":
        from ..codec.moshi import find_original_file, load_moshi_codec
        from ..devices import pick_device
        from ..loading import resolve

        there = pick_device(None if given.device == "mlx" else given.device)
        codec = load_moshi_codec(find_original_file(resolve(given.model)), device=there)
    generator = load_csm_1b(given.device, given.model, None, given.quantize, codec=codec, adapter=given.adapter)
    metrics.loading = metrics.clock() - begun
    if getattr(given, "debug", False):
        metrics.watch(generator)
    return generator, metrics


def _output_for(given: Arguments, generator: Generator, metrics: Metrics, likely_seconds: float) -> SpeechOutput:
    from .speaking import SpeechOutput, find_watermark

    return SpeechOutput(
        output=given.output,
        sample_rate=generator.sample_rate,
        likely_seconds=likely_seconds,
        stream=given.stream,
        play=given.play,
        watermark=find_watermark(not given.no_watermark, given.stream),
        metrics=metrics,
    )


def _end(given: Arguments, metrics: Metrics) -> int:
    from ..sound.audio_files import PIPE
    from .speaking import say

    if given.output != PIPE:
        say(f"{metrics.speech:.1f} s of speech in {given.output}.")
    if given.debug:
        say("\n".join(metrics.lines()))
    return 0
