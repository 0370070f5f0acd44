"""The public interface: `load_csm_1b()` returns a `Generator`, and a `Generator` speaks."""

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
    """Load the model from a local folder or from the Hugging Face hub, and return a generator for it.

    device: by default the GPU, if there is one: "cuda", or on a Mac with Apple silicon "mlx" (without MLX "mps", if it
    works correctly); otherwise the CPU. If "cuda" is requested but missing, csm warns and uses the CPU.
    dtype: by default bfloat16 on a GPU, and as stored in the checkpoint on a CPU.
    quantize: "int8" or "int4", weights only. On a CPU they are packed once and kept beside the checkpoint; with MLX
    they are packed while loading.
    codec: Mimi from a file, folder or hub id, or any `csm.codec.Codec`; by default the model's own, or otherwise
    kyutai/moshiko-pytorch-bf16.
    adapter: folder of a trained voice's adapter (docs/TRAINING.md), from csm, peft, Unsloth or csm-mlx. It is merged
    before the weights are packed. `Generator.use_adapter` changes it later.

    Raises CheckpointError, which says what was expected and found; OutOfMemory; DeviceMissing for "mlx" without MLX.
    """
    from .loading import load_generator

    return load_generator(device, model, dtype, quantize, codec, adapter)


def load_csm_1b_local(model_path: str | Path, device: str | torch.device | None = None, **options: object) -> Generator:
    """`load_csm_1b` from a folder, under the name that Sesame's code uses."""
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
    """Write speech to a WAV or FLAC file, and optionally play it, while it is being made.

    Return the speech: float32 [samples] at `generator.sample_rate`. If there is no device to play it on, warn and still
    write the file. Raises InvalidAudio if the file cannot be written, and CannotWrite if that fails later.
    """
    from .sound.audio_files import SpeechFile
    from .sound.playback import NoSoundDevice, Playback

    chunks = generator.generate_stream(text, speaker, context, max_audio_length_ms, temperature, topk, seed)
    spoken = [torch.zeros(0)]

    def speak(play: Callable[[Tensor], None] = lambda chunk: None) -> None:
        for chunk in chunks:
            play(chunk)
            file.write(chunk)
            spoken.append(chunk)

    with SpeechFile(Path(output_file), generator.sample_rate) as file:
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
