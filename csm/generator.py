"""The public face: `load_csm_1b()` gives a `Generator`, and a `Generator` speaks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .codec.protocol import Codec
from .prompt import Segment
from .synthesis import Generator

__all__ = ["Generator", "Segment", "generate_streaming_audio", "load_csm_1b", "load_csm_1b_local"]


def load_csm_1b(
    device: str | torch.device | None = None,
    model: str | Path = "sesame/csm-1b",
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    *,
    codec: str | Path | Codec | None = None,
    adapter: str | Path | None = None,
) -> Generator:
    """A generator with the model from a local folder or from the Hugging Face hub.

    device: default the GPU if there is one: "cuda", or on a Mac with Apple silicon "mlx" (without MLX "mps", where it
        speaks right); else the CPU. Asked for "cuda" where there is none, it warns and takes the CPU.
    dtype: default bfloat16 on a GPU; on a CPU as the checkpoint is stored.
    quantize: "int8" or "int4", weights only; on a CPU packed once and kept beside the checkpoint, by MLX while loading.
    codec: Mimi from a file, folder or hub id, or any `csm.codec.Codec`; default the one that comes with the model, or
        else kyutai/moshiko-pytorch-bf16.
    adapter: the folder of adapter of a trained voice (docs/TRAINING.md), ours or one of peft, Unsloth or csm-mlx;
    merged
        before weights are packed. `Generator.use_adapter` changes it later.

    Raises CheckpointError saying what was expected and what was found; OutOfMemory;
    DeviceMissing for "mlx" without MLX.
    """
    from .loading import load_generator

    return load_generator(device, model, dtype, quantize, codec, adapter)


def load_csm_1b_local(model_path: str | Path, device: str | torch.device | None = None, **options: object) -> Generator:
    """`load_csm_1b` from a folder, under its established name."""
    return load_csm_1b(device, Path(model_path), **options)  # type: ignore[arg-type]


def generate_streaming_audio(
    generator: Generator,
    text: str,
    speaker: int,
    context: Sequence[Segment] | None,
    output_file: str | Path,
    max_audio_length_ms: float = 90_000,
    temperature: float = 0.9,
    topk: int = 50,
    play_audio: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Speaks into a WAV or FLAC file, and to the loudspeaker if asked to, while the sound is made.

    Returns the speech, too: float32 [samples] at `generator.sample_rate`. Where there is nothing to play on, a warning
    says so and the file is written all the same.
    """
    import soundfile

    from .sound.playback import NoSoundDevice, Playback

    chunks = generator.generate_stream(text, speaker, context, max_audio_length_ms, temperature, topk, seed)
    spoken = [torch.zeros(0)]

    def speak(play: Callable[[Tensor], None] = lambda chunk: None) -> None:
        for chunk in chunks:
            play(chunk)
            file.write(chunk.numpy())
            spoken.append(chunk)

    with soundfile.SoundFile(output_file, "w", generator.sample_rate, channels=1) as file:
        if not play_audio:
            speak()
        else:
            try:
                playback = Playback(generator.sample_rate)
            except NoSoundDevice as error:
                warnings.warn(f"{error}. The speech is only written to {output_file}.", stacklevel=2)
                speak()
            else:
                with playback:
                    speak(playback.play)
    return torch.cat(spoken)
