"""From folders of recordings to what can be learnt, with a Whisper that is told what to hear."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from csm.prompt import Prompter
from csm.training import sources
from csm.training.cutting import longest_silence, pauses, pieces, trimmed
from csm.training.dataset import Clip, DatasetError, judged, lessons, read_clips, read_codes
from csm.training.page import write_page
from csm.training.prepare import Limits, Prepared, prepare
from csm.training.sources import SourceError, recordings
from csm.training.transcribing import Heard
from csm.training.words import word_error_rate, words
from tests.csm.tiny import make_mimi, make_tokenizer, voice

RATE = 24_000
WORDS = "this is what is said in here"


def speech(*seconds: float, pause: float = 0.5, seed: int = 0) -> Tensor:
    """Voice of the given lengths, with pauses in between and silence around."""
    quiet = torch.zeros(round(pause * RATE))
    parts = [quiet]
    for index, length in enumerate(seconds):
        parts += [voice(length, seed=10 * seed + index), quiet]
    return torch.cat(parts)


def write(path: Path, sound: Tensor, text: str | None = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.reshape(-1, sound.shape[-1]).T.numpy(), rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text)
    return path


def clip(text: str = WORDS, source: str = "a.wav") -> Clip:
    return Clip("ab", text, 0, "", "train", 1.0, 1.0, 1.0, source, 0.0, "", 0, "")


def hearing(text: str = WORDS, confidence: float = 0.9) -> Callable[[Tensor], Heard]:
    return lambda samples: Heard(text, confidence)


def prepared(folder: Path, out: Path, **options: Any) -> Prepared:
    return prepare(recordings([folder]), out, make_mimi(), **{"transcribe": hearing(), **options})


class TestCutting:
    def test_ends_at_pauses_and_loses_nothing_said(self) -> None:
        sound = speech(4, 5, 6, 7, 3)
        cuts = pieces(sound, RATE)
        assert [round((last - first) / RATE, 1) for first, last in cuts] == pytest.approx([9.9, 6.4, 7.4, 3.4], abs=8)
        assert all(3 <= (last - first) / RATE <= 15.5 for first, last in cuts)
        loud = torch.ones(len(sound), dtype=torch.bool)
        for first, last in cuts:
            loud[first:last] = False
        assert not (sound[loud].abs() > 1e-3).any()
        for (_, end), (start, _) in pairwise(cuts):
            assert start - end > 0.05 * RATE

    def test_who_never_pauses_is_cut_where_it_is_too_long(self) -> None:
        lengths = [(last - first) / RATE for first, last in pieces(voice(70.0), RATE)]
        assert lengths[0] > 30 and sum(lengths) == pytest.approx(70, abs=0.5)

    @pytest.mark.parametrize("noise", [-80, -55, -45, -40])
    def test_a_room_that_is_not_silent_has_pauses_too(self, noise: float) -> None:
        """dB; the voice is at −14, and what people record at home lies 25 to 35 above the room."""
        sound = speech(4, 5, 6, 7, 3)
        cuts = pieces(sound + 10 ** (noise / 20) * torch.randn(sound.shape, generator=torch.Generator()), RATE)
        assert len(cuts) == len(pieces(sound, RATE)) == 4

    def test_silences(self) -> None:
        sound = speech(1, 1, pause=0.6)
        assert [round(first / RATE, 1) for first, _ in pauses(sound, RATE)] == [0.0, 1.6, 3.2]
        assert longest_silence(sound, RATE) == pytest.approx(0.6, abs=0.05)
        first, last = trimmed(sound, RATE)
        assert first / RATE == pytest.approx(0.4, abs=0.03) and last / RATE == pytest.approx(3.4, abs=0.05)
        assert trimmed(torch.zeros(RATE), RATE) == (0, 0)
        assert pieces(torch.zeros(RATE), RATE) == []


class TestWords:
    @pytest.mark.parametrize(
        ("said", "heard", "errors"),
        [
            ("The weather, today!", "the weather today", 0),
            ("Don’t go", "don't go", 0),
            ("one two three four", "one too three", 0.5),
            ("one", "one two three", 2),
            ("", "", 0),
            ("", "noise", 1),
            ("你好世界", "你好世間", 0.25),
        ],
    )
    def test_error_rate(self, said: str, heard: str, errors: float) -> None:
        assert word_error_rate(said, heard) == errors

    def test_chinese_is_counted_by_its_characters(self) -> None:
        assert words("我用 Parley 说话") == ["我", "用", "parley", "说", "话"]


class TestSources:
    def test_a_folder_with_and_without_texts(self, tmp_path: Path) -> None:
        write(tmp_path / "b" / "one.wav", voice(1), "Hello.")
        write(tmp_path / "a.flac", voice(1))
        (tmp_path / "notes.md").write_text("not a recording")
        found = list(recordings([tmp_path], speaker_folders=True))
        assert [(one.source, one.text, one.speaker) for one in found] == [
            ("a.flac", None, tmp_path.name),
            ("b/one.wav", "Hello.", "b"),
        ]
        assert next(found[0].parts()).rate == RATE

    def test_ljspeech(self, tmp_path: Path) -> None:
        write(tmp_path / "wavs" / "LJ001-0001.wav", voice(1))
        (tmp_path / "metadata.csv").write_text('LJ001-0001|Dr. "Who"|Doctor "Who"\n')
        (one,) = recordings([tmp_path])
        assert (one.source, one.text) == ("LJ001-0001", 'Doctor "Who"')
        (tmp_path / "metadata.csv").write_text("LJ001-0001\n")
        with pytest.raises(SourceError, match="Line 1"):
            list(recordings([tmp_path]))

    def test_jsonl_with_a_conversation(self, tmp_path: Path) -> None:
        write(tmp_path / "one.wav", voice(1))
        lines = [{"audio": "one.wav", "text": "Hi", "speaker": "Anna", "conversation": "c"}, {"audio": "one.wav"}]
        (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
        one, other = recordings([tmp_path / "list.jsonl"])
        assert (one.text, one.speaker, one.conversation) == ("Hi", "Anna", "c")
        assert (other.text, other.speaker) == (None, "")

    @pytest.mark.parametrize("line", ["{", "[]", '{"text": "no sound"}'])
    def test_a_line_that_is_none_is_told(self, line: str, tmp_path: Path) -> None:
        (tmp_path / "list.jsonl").write_text(f"\n{line}\n")
        with pytest.raises(SourceError, match="Line 2"):
            list(recordings([tmp_path / "list.jsonl"]))

    def test_a_list_names_no_file_outside_of_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "list.jsonl").write_text(json.dumps({"audio": "../../etc/passwd"}))
        with pytest.raises(SourceError, match="outside"):
            list(recordings([tmp_path / "list.jsonl"]))

    def test_shards_are_read_without_unpacking(self, tmp_path: Path) -> None:
        content = io.BytesIO()
        soundfile.write(content, voice(1).numpy(), RATE, format="FLAC")
        members = {"B1.json": json.dumps({"text": "Two.", "speaker": "S", "language": "en"}).encode(),
                   "B1.flac": content.getvalue(), "A1.flac": content.getvalue(),
                   "A1.json": json.dumps({"text": "One."}).encode(), "README": b""}  # fmt: skip
        with tarfile.open(tmp_path / "shard.tar", "w") as shard:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))
        one, other = recordings([tmp_path / "shard.tar"])
        assert [(one.text, one.speaker), (other.text, other.source)] == [("Two.", "S"), ("One.", "shard.tar/A1")]
        assert next(one.parts()).sound.shape == (1, RATE)
        assert [path.name for path in tmp_path.iterdir()] == ["shard.tar"]
        (tmp_path / "shard.tar").write_bytes(b"none at all")
        with pytest.raises(SourceError, match="not a shard"):
            list(recordings([tmp_path / "shard.tar"]))

    def test_parquet_without_pyarrow_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        (tmp_path / "data.parquet").write_bytes(b"PAR1")
        with pytest.raises(SourceError, match="pip install pyarrow"):
            list(recordings([tmp_path]))

    def test_what_is_none_of_these(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="nothing at"):
            list(recordings([tmp_path / "nowhere"]))
        (tmp_path / "film.mkv").write_bytes(b"")
        with pytest.raises(SourceError, match="none of these"):
            list(recordings([tmp_path / "film.mkv"]))


class TestPrepare:
    def test_raw_recordings_suffice(self, tmp_path: Path) -> None:
        for index in range(3):
            write(tmp_path / "in" / f"{index}.wav", speech(3, 4, 5, 6, seed=index), rate=RATE)
        done = prepared(tmp_path / "in", tmp_path / "out")
        assert len(done.kept) >= 6 and {clip.text for clip in done.kept} == {WORDS}
        held = {clip.source for clip in done.kept if clip.split == "held out"}
        assert len(held) == 1 and not held & {clip.source for clip in done.kept if clip.split == "train"}
        assert read_clips(tmp_path / "out") == done.clips
        for clip in done.kept:
            codes = read_codes(tmp_path / "out", clip)
            assert codes.shape == (-(-round(clip.seconds * RATE) // 1920), 8)
        assert "are suitable for training" in (tmp_path / "out" / "report.txt").read_text()

    @pytest.mark.parametrize(
        ("sound", "text", "options", "told"),
        [
            (voice(0.5), WORDS, {}, "too short: 0.5 s"),
            (torch.cat([voice(120.0)]), None, {}, "too long"),
            (voice(3.0).mul(9).clamp(-1, 1), WORDS, {}, "clipped"),
            (voice(3.0), "something else entirely was written", {}, "the text is not what is heard"),
            (voice(3.0), "no", {"check_texts": False}, "the text does not fit the sound"),
            (voice(3.0), "word " * 60, {"check_texts": False}, "the text does not fit the sound"),
            (voice(3.0), "...", {"check_texts": False}, "nothing is said"),
            (voice(3.0), None, {"transcribe": hearing(confidence=0.1)}, "Whisper is unsure"),
            (voice(3.0), None, {"transcribe": None}, "no text, and no Whisper"),
        ],
    )  # fmt: skip
    def test_what_is_unfit_is_dropped_and_reported(
        self, sound: Tensor, text: str | None, options: dict[str, Any], told: str, tmp_path: Path
    ) -> None:
        write(tmp_path / "in" / "bad.wav", sound, text)
        write(tmp_path / "in" / "good.wav", speech(4, seed=1), WORDS)
        options = {"transcribe": hearing(), **options}
        done = prepared(tmp_path / "in", tmp_path / "out", **options)
        assert {clip.source for clip in done.kept} <= {"good.wav", "bad.wav"}
        assert "good.wav" in {clip.source for clip in done.kept}
        dropped = [clip for clip in done.clips if clip.dropped]
        assert dropped and dropped[0].source == "bad.wav" and told in dropped[0].dropped
        assert told in (tmp_path / "out" / "report.txt").read_text()

    @pytest.mark.parametrize(
        ("sound", "told"),
        [
            (torch.zeros(3 * RATE), "there is no voice in it"),
            (torch.stack([voice(3.0, seed=1), torch.randn(3 * RATE) * 0.1]), "its two channels are two people"),
        ],
        ids=["silence", "two people in stereo"],
    )
    def test_what_is_no_clip_at_all(self, sound: Tensor, told: str, tmp_path: Path) -> None:
        write(tmp_path / "in" / "bad.wav", sound, WORDS)
        (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF")
        write(tmp_path / "in" / "good.wav", speech(4, seed=1), WORDS)
        done = prepared(tmp_path / "in", tmp_path / "out")
        assert [clip.source for clip in done.clips] == ["good.wav"]
        notes = "\n".join(done.notes)
        assert told in notes and "broken.wav" in notes and "too few clips" in notes

    def test_the_text_of_a_long_recording_is_not_that_of_its_clips(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "long.wav", speech(8, 9, 8, 9), "All that is said in half a minute and more.")
        for options in ({}, {"check_texts": False}):
            done = prepared(tmp_path / "in", tmp_path / f"out {len(options)}", **options)
            assert {clip.text for clip in done.clips} == {WORDS}
            assert "its text was not used" in "\n".join(done.notes)

    def test_a_long_recording_is_heard_in_parts_and_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A book of twenty hours would not fit into the memory."""
        sound = torch.cat((speech(4, 5, 6, 7, 3, 8), torch.zeros(25 * RATE), speech(5, 4, seed=1)))
        write(tmp_path / "in" / "book.wav", sound)
        whole = prepared(tmp_path / "in", tmp_path / "whole")
        monkeypatch.setattr(sources, "PART_S", 10)
        done = prepared(tmp_path / "in", tmp_path / "parts")
        left = sound.abs() > 1e-3
        for clip in done.kept:
            begin, end = round(clip.start * RATE), round((clip.start + clip.seconds) * RATE)
            found = torch.from_numpy(soundfile.read(tmp_path / "parts" / "clips" / f"{clip.id}.flac")[0])
            assert (found[: end - begin] - sound[begin:end][: len(found)])[: len(found)].abs().max() < 0.01
            left[max(0, begin - 240) : end + 240] = False
        assert not left.any() and len(done.kept) == len(done.clips) >= len(whole.kept)
        assert all(3 <= clip.seconds <= 15.5 for clip in done.kept)

    def test_another_voice_is_dropped(self, tmp_path: Path) -> None:
        for index in range(4):
            write(tmp_path / "in" / f"{index}.wav", speech(3, seed=index), WORDS)

        class Ear:
            def embed(self, samples: Tensor, rate: int) -> Tensor:
                stranger = abs(float(samples.abs().max()) - strange) < 1e-3
                return torch.tensor([0.0, 1.0]) if stranger else torch.tensor([1.0, 0.0])

        strange = float(soundfile.read(tmp_path / "in" / "2.wav")[0].max())
        write(tmp_path / "in" / "2.wav", speech(3, seed=2) * 0.5, WORDS)
        strange = float(np.abs(soundfile.read(tmp_path / "in" / "2.wav")[0]).max())
        done = prepared(tmp_path / "in", tmp_path / "out", encoder=Ear())
        assert [clip.source for clip in done.clips if "another voice" in clip.dropped] == ["2.wav"]

    def test_a_speakers_level_is_made_one(self, tmp_path: Path) -> None:
        for index in range(2):
            write(tmp_path / "in" / "quiet" / f"{index}.wav", 0.05 * speech(3, seed=index), WORDS)
            write(tmp_path / "in" / "loud" / f"{index}.wav", speech(3, seed=index), WORDS)
        done = prepare(
            recordings([tmp_path / "in"], speaker_folders=True), tmp_path / "out", make_mimi(), transcribe=hearing()
        )
        levels = []
        for clip in sorted(done.kept, key=lambda clip: clip.name):
            sound = soundfile.read(tmp_path / "out" / "clips" / f"{clip.id}.flac")[0] * clip.gain
            levels.append(20 * np.log10(np.sqrt((sound**2).mean())))
        assert max(levels) - min(levels) < 1.5 and abs(levels[0] + 23) < 1.5
        assert {(clip.name, clip.speaker) for clip in done.kept} == {("loud", 0), ("quiet", 1)}

    def test_a_second_run_finds_all_done_and_keeps_corrections(self, tmp_path: Path) -> None:
        for index in range(2):
            write(tmp_path / "in" / f"{index}.wav", speech(3, seed=index))
        out = tmp_path / "out"
        prepared(tmp_path / "in", out)
        table = (out / "clips.csv").read_text(encoding="utf-8-sig")
        (out / "clips.csv").write_text(table.replace(WORDS, "this is what is SAID in here", 1))

        def never(samples: Tensor) -> Heard:
            raise AssertionError("it was heard before")

        class NoCodec:
            def encode(self, audio: Tensor) -> Tensor:
                raise AssertionError("it was encoded before")

        again = prepare(recordings([tmp_path / "in"]), out, NoCodec(), transcribe=never)  # type: ignore[arg-type]
        assert sorted(clip.text for clip in again.kept) == ["this is what is SAID in here", WORDS]

    def test_a_long_recording_is_not_held_out_where_there_are_short_ones(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "long.wav", speech(6, 7, 6, 7, 6))
        for index in range(6):
            write(tmp_path / "in" / f"{index}.wav", speech(3, seed=index + 1), WORDS)
        done = prepared(tmp_path / "in", tmp_path / "out")
        held = sum(clip.seconds for clip in done.kept if clip.split != "train")
        assert 3 < held < 0.2 * sum(clip.seconds for clip in done.kept)
        assert all(clip.source != "long.wav" for clip in done.kept if clip.split != "train")

    def test_what_was_written_down_before_an_interruption_is_kept(self, tmp_path: Path) -> None:
        for index in range(3):
            write(tmp_path / "in" / f"{index}.wav", speech(3, seed=index))
        heard: list[int] = []

        def transcribe(samples: Tensor) -> Heard:
            if len(heard) == 2:
                raise KeyboardInterrupt
            heard.append(len(samples))
            return Heard(WORDS, 0.9)

        with pytest.raises(KeyboardInterrupt):
            prepared(tmp_path / "in", tmp_path / "out", transcribe=transcribe)
        heard.clear()
        assert len(prepared(tmp_path / "in", tmp_path / "out", transcribe=transcribe).kept) == 3
        assert len(heard) == 1

    def test_one_recording_holds_out_its_end(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "long.wav", speech(6, 7, 6, 7, 6, 7))
        done = prepared(tmp_path / "in", tmp_path / "out")
        held = [clip.start for clip in done.kept if clip.split != "train"]
        assert held and min(held) > max(clip.start for clip in done.kept if clip.split == "train")
        assert "its end is held out" in "\n".join(done.notes)

    def test_the_same_sound_twice_is_one_clip(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "one.wav", speech(3), WORDS)
        shutil.copy(tmp_path / "in" / "one.wav", tmp_path / "in" / "two.wav")
        (tmp_path / "in" / "two.txt").write_text(WORDS)
        done = prepared(tmp_path / "in", tmp_path / "out")
        assert len(done.clips) == 1 and "the same sound" in done.notes[0]

    def test_nothing_to_learn(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "bad.wav", voice(0.5), WORDS)
        with pytest.raises(DatasetError, match=r"None of it can be used for training.*too short"):
            prepared(tmp_path / "in", tmp_path / "out")

    def test_the_page_escapes_what_it_shows(self, tmp_path: Path) -> None:
        shown = write_page(tmp_path, [clip("</script><b>x", '"><img src=x>')]).read_text()
        assert "<b>x" not in shown and "<img" not in shown and shown.count("</script>") == 1


class TestTable:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        for index in range(2):
            write(tmp_path / "in" / f"{index}.wav", speech(3, seed=index), WORDS)
        prepared(tmp_path / "in", tmp_path / "out")
        return tmp_path / "out"

    def test_another_program_may_have_saved_it(self, out: Path) -> None:
        """German Excel: semicolons, and commas in its numbers."""
        expected = read_clips(out)
        rows = list(csv.reader((out / "clips.csv").read_text(encoding="utf-8-sig").splitlines()))
        numbers = [rows[0].index(name) for name in ("seconds", "gain", "start", "confidence")]
        for row in rows[1:]:
            for column in numbers:
                row[column] = row[column].replace(".", ",")
        (out / "clips.csv").write_text("\n".join(";".join(row) for row in rows))
        assert read_clips(out) == expected

    def test_damage_is_told_by_its_line(self, out: Path) -> None:
        table = (out / "clips.csv").read_text(encoding="utf-8-sig")
        (out / "clips.csv").write_text(table.replace(",train,", ",train,x"))
        with pytest.raises(DatasetError, match=r"Line [23] of"):
            read_clips(out)
        (out / "clips.csv").write_text(table.replace("speaker", "who"))
        with pytest.raises(DatasetError, match="lacks the column speaker"):
            read_clips(out)
        (out / "clips.csv").unlink()
        with pytest.raises(DatasetError, match="make it with csm-prepare"):
            read_clips(out)


class TestLessons:
    def prompter(self, context: int = 512) -> Prompter:
        return Prompter(make_tokenizer(), make_mimi(), context, torch.device("cpu"))

    def test_a_target_hears_another_clip_of_the_same_voice_first(self, tmp_path: Path) -> None:
        for index in range(4):
            write(tmp_path / "in" / f"{index}.wav", speech(2.5, seed=index), f"{WORDS} {index}")
        prepared(tmp_path / "in", tmp_path / "out", limits=Limits(held_out=0.2))
        alone = lessons(tmp_path / "out", self.prompter(), 0.0)
        assert len(alone.lengths) == 3 and len(alone.held_out) == 1
        target = alone.train(0, torch.Generator().manual_seed(0))
        assert target.frames == int((target.rows[:, -1] < 0).sum())
        assert not target.rows[-1, :-1].any()
        with_reference = lessons(tmp_path / "out", self.prompter(), 1.0)
        longer = with_reference.train(0, torch.Generator().manual_seed(0))
        assert torch.equal(longer.rows[-len(target) :], target.rows) and longer.frames == target.frames
        first = longer.rows[: len(longer) - len(target)]
        assert not torch.equal(first, target.rows) and int((first[:, -1] < 0).sum()) > 20

    def test_a_turn_hears_those_before_it_and_only_it_is_learnt(self, tmp_path: Path) -> None:
        lines = []
        for index in range(3):
            write(tmp_path / "in" / f"{index}.wav", speech(2, seed=index))
            lines.append(json.dumps({"audio": f"{index}.wav", "text": WORDS, "speaker": "AB"[index % 2],
                                     "conversation": "c"}))  # fmt: skip
        (tmp_path / "in" / "talk.jsonl").write_text("\n".join(lines))
        prepare(
            recordings([tmp_path / "in" / "talk.jsonl"]), tmp_path / "out", make_mimi(), transcribe=hearing(),
            limits=Limits(held_out=0),
        )  # fmt: skip
        learnt = lessons(tmp_path / "out", self.prompter(), 0.0)
        last = learnt.train(2, torch.Generator())
        speakers = [row for row in last.rows[:, -1].tolist() if row in (ord("0") - 33, ord("1") - 33)]
        assert last.frames == learnt.train(2, torch.Generator()).frames < len(last) / 2
        assert int((last.rows[:, -1] < 0).sum()) > 2 * last.frames and speakers

    def test_of_a_hundred_hours_some_are_judged(self) -> None:
        clips = [replace(clip(), turn=number) for number in range(4_001)]
        chosen = [one.turn for one in judged(clips)]
        assert 50 <= len(chosen) <= 64 and chosen[0] == 0 and chosen[-1] > 3_900
        assert judged(clips[:64]) == clips[:64] and judged([]) == []

    def test_what_does_not_fit_is_told(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "1.wav", speech(4), WORDS)
        prepared(tmp_path / "in", tmp_path / "out")
        with pytest.raises(DatasetError, match=r"of the model's 60 rows\. Drop it"):
            lessons(tmp_path / "out", self.prompter(60), 0.0).train(0, torch.Generator())

    def test_codes_that_are_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "in" / "1.wav", speech(4), WORDS)
        done = prepared(tmp_path / "in", tmp_path / "out")
        with pytest.raises(DatasetError, match="run csm-prepare again"):
            read_codes(tmp_path / "out", replace(done.clips[0], gain=9.0))
