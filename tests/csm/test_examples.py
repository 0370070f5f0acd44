"""The examples of the READMEs that users come from, run on a tiny checkpoint of random weights.

Only the model's source is changed. `torchaudio`, which they use to read and write files, is the stand-in of this
folder, and the loudspeaker is one that counts.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch

from csm import Segment, from_conversation, load_csm_1b
from csm.chat_format import from_conversations
from csm.errors import InvalidAudio, InvalidSpeaker, InvalidText
from tests.csm import torchaudio_stand_in
from tests.csm.tiny import voice, write_checkpoint

DOCUMENT = Path(__file__).with_name("examples.txt").read_text(encoding="utf-8")
CHAPTERS = {
    title.strip(): re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    for title, chapter in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
}
RECORDINGS = ["reference.wav", *(f"utterance_{number}.wav" for number in range(4))]


class CountingStream:
    """A loudspeaker that counts what it is given."""

    played: ClassVar[list[int]] = []

    def __init__(self, samplerate: int, channels: int, dtype: str) -> None:
        assert (samplerate, channels, dtype) == (24_000, 1, "float32")

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def write(self, samples: np.ndarray) -> None:
        assert samples.shape[1] == 1
        self.played.append(len(samples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("csm"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the recordings the examples name, at a rate of their own."""
    monkeypatch.chdir(tmp_path)
    torchaudio_stand_in.install(monkeypatch)
    monkeypatch.setattr(CountingStream, "played", [])
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(OutputStream=CountingStream))
    for number, name in enumerate(RECORDINGS):
        soundfile.write(name, voice(0.8, 16_000, seed=number).numpy(), 16_000)
    return tmp_path


def run(blocks: list[str], folder: Path, **given: Any) -> dict[str, Any]:
    """Runs blocks one after the other in one namespace, which it gives back."""
    names = given | {"MODEL": folder}
    for block in blocks:
        code, changed = re.subn(r"load_csm_1b\(([^()]+)\)", r"load_csm_1b(\1, model=MODEL)", block)
        assert changed or "load_csm_1b(" not in block
        exec(compile(code, "example", "exec"), names)
    return names


def test_every_document_has_its_examples() -> None:
    assert {title: len(blocks) for title, blocks in CHAPTERS.items()} == {
        "davidbrowne17/csm-streaming": 6,
        "A fork of SesameAILabs/csm that trains on Chinese": 2,
        "ericflo/csm": 2,
        "rohankatakam/csm_cerebrium": 2,
    }


@pytest.mark.filterwarnings("ignore:There is no CUDA GPU here")
@pytest.mark.parametrize("number", range(6))
def test_csm_streaming(number: int, folder: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = CHAPTERS["davidbrowne17/csm-streaming"][number]
    names = run([block], folder)
    if output := re.search(r'output_file="(.*?)"', block):
        spoken, rate = soundfile.read(workplace / output[1])
        assert rate == 24_000
        assert len(spoken) > 1920
        assert sum(CountingStream.played) == (len(spoken) if "play_audio=True" in block else 0)
    elif "generate_stream" in block:
        assert "Received chunk of size: torch.Size([1920])" in capsys.readouterr().out
    else:
        assert len(names["audio"]) == len(soundfile.read(workplace / "audio.wav")[0]) == 125 * 1920


@pytest.mark.filterwarnings("ignore:There is no CUDA GPU here")
def test_the_fork_that_speaks_chinese(folder: Path, workplace: Path) -> None:
    # The document's second block uses Segment without importing it.
    names = run(CHAPTERS["A fork of SesameAILabs/csm that trains on Chinese"], folder, Segment=Segment)
    assert len(names["segments"]) == 1
    assert len(soundfile.read(workplace / "audio.wav")[0]) == len(names["audio"]) > 1920


@pytest.mark.filterwarnings("ignore:There is no CUDA GPU here")
def test_ericflo(folder: Path, workplace: Path) -> None:
    # The recordings of the second block are left to the reader.
    names = run(CHAPTERS["ericflo/csm"], folder, previous_audio_1=voice(0.5), previous_audio_2=voice(0.5, seed=1))
    assert len(names["response_audio"]) > 1920
    assert len(soundfile.read(workplace / "output.wav")[0]) == len(names["audio"])


@pytest.mark.filterwarnings("ignore:There is no CUDA GPU here")
def test_cerebrium(folder: Path, workplace: Path) -> None:
    names = run(CHAPTERS["rohankatakam/csm_cerebrium"], folder)
    assert [segment.speaker for segment in names["segments"]] == [0, 1, 0, 0]
    assert len(soundfile.read(workplace / "audio.wav")[0]) == len(names["audio"]) > 1920


def test_without_a_loudspeaker_the_file_is_written(
    folder: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generator import generate_streaming_audio

    def no_device(**_: object) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(OutputStream=no_device))
    with pytest.warns(UserWarning, match="No sound device to play on: PortAudio library not found"):
        generate_streaming_audio(load_csm_1b("cpu", folder), "Hello.", 0, [], "out.wav", 400, play_audio=True)
    assert len(soundfile.read("out.wav")[0]) == 5 * 1920


# transformers' form of a conversation, with its data set of four turns as arrays at 24 kHz.


def dataset() -> list[dict[str, Any]]:
    return [
        {"text": f"Turn {number}.", "audio": {"array": voice(0.5, seed=number).numpy()}, "speaker_id": number % 2}
        for number in range(5)
    ]


def test_a_conversation_of_transformers(folder: Path) -> None:
    ds = dataset()
    conversation = []
    for text, audio, speaker_id in ((turn["text"], turn["audio"], turn["speaker_id"]) for turn in ds[:4]):
        content: list[dict[str, Any]] = [{"type": "text", "text": text}, {"type": "audio", "path": audio["array"]}]
        conversation.append({"role": f"{speaker_id}", "content": content})
    conversation.append({"role": f"{ds[4]['speaker_id']}", "content": [{"type": "text", "text": ds[4]["text"]}]})
    generator = load_csm_1b("cpu", folder)
    spoken = generator.generate(**from_conversation(conversation), seed=1)
    context = [Segment(turn["text"], turn["speaker_id"], torch.from_numpy(turn["audio"]["array"])) for turn in ds[:4]]
    assert torch.equal(spoken, generator.generate("Turn 4.", 0, context, seed=1))


def test_conversations_of_transformers_in_a_batch(folder: Path) -> None:
    ds = dataset()
    conversation = [
        [
            {
                "role": f"{ds[0]['speaker_id']}",
                "content": [
                    {"type": "text", "text": ds[0]["text"]},
                    {"type": "audio", "path": ds[0]["audio"]["array"]},
                ],
            },
            {"role": f"{ds[1]['speaker_id']}", "content": [{"type": "text", "text": ds[1]["text"]}]},
        ],
        [{"role": f"{ds[0]['speaker_id']}", "content": [{"type": "text", "text": ds[0]["text"]}]}],
    ]
    generator = load_csm_1b("cpu", folder)
    spoken = generator.generate_batch(**from_conversations(conversation), seed=1)
    torch.testing.assert_close(spoken[1], generator.generate("Turn 0.", 0, [], seed=2), atol=1e-5, rtol=0)
    assert len(spoken) == 2


def test_a_conversation_with_files_and_plain_text(workplace: Path) -> None:
    request = from_conversation(
        [
            {"role": "0", "content": [{"type": "text", "text": "Hi."}, {"type": "audio", "path": "reference.wav"}]},
            {"role": 1, "content": "And to you."},
        ]
    )
    assert request["context"][0].sample_rate == 16_000
    assert (request["text"], request["speaker"]) == ("And to you.", 1)


@pytest.mark.parametrize(
    ("turn", "error", "message"),
    [
        ({"role": "assistant", "content": "Hi."}, InvalidSpeaker, "A role is a speaker's number"),
        ({"content": "Hi."}, InvalidSpeaker, "not None"),
        ({"role": "0", "content": [{"type": "audio", "path": "missing.wav"}]}, InvalidAudio, "missing.wav is not"),
        ({"role": "0", "content": [{"type": "audio", "audio": np.ones(9)}]}, InvalidText, "already has audio"),
        ({"role": "0", "content": [{"type": "audio", "audio": np.ones(9)}] * 2}, InvalidAudio, "one recording, not 2"),
    ],
)
def test_a_turn_that_is_none(turn: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_conversation([turn])


def test_a_conversation_without_turns() -> None:
    with pytest.raises(InvalidText, match="The conversation is empty"):
        from_conversation([])
