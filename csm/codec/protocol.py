"""What the speech model needs from an audio codec: sound to codes and back, whole or a frame at a time.

`csm.codec.mimi.Mimi` is this library's codec; `csm.codec.moshi.MoshiCodec` is kyutai's own implementation with the same
interface. Sound is mono float32 at 24 kHz; a frame is 80 ms of it (1920 samples), encoded as 32 codes.
"""

from typing import Protocol

from torch import Tensor

SAMPLE_RATE = 24_000  # Hz
FRAME_SIZE = 1_920  # samples, 80 ms


class StreamingDecoder(Protocol):
    """Codes to sound, frame by frame, for `batch` independent streams ("slots") that advance together."""

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """Decode the next n frames, int64 [batch, codebooks, n], to float32 [batch, n * frame_size].

        If `out` is given, the samples are written there and nothing is allocated.
        """
        ...

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them."""
        ...


class StreamingEncoder(Protocol):
    """Sound to codes while it arrives, for `batch` independent streams that advance together."""

    def step(self, audio: Tensor) -> Tensor:
        """Take the next samples, float32 [batch, n], any n; return the codes of the frames they complete, int64 [batch,
        codebooks, frames], possibly with no frames."""
        ...

    def flush(self) -> Tensor:
        """Return the codes of the partial last frame, filled with silence: [batch, codebooks, 0 or 1]."""
        ...

    def reset(self, slot: int | None = None) -> None:
        """Start afresh: one slot, leaving the others as they are, or all of them. Samples of an incomplete frame are
        dropped (if one slot is reset, they become silence)."""
        ...


class Codec(Protocol):
    """Sound to codes and back."""

    sample_rate: int
    frame_size: int
    codebooks: int

    def encode(self, audio: Tensor) -> Tensor:
        """float32 [batch, samples] to int64 [batch, codebooks, frames]; a partial last frame is filled with silence."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [batch, codebooks, frames] to float32 [batch, frames * frame_size]."""
        ...

    def decoder(self, batch: int = 1) -> StreamingDecoder:
        """Return a new stream of codes to sound."""
        ...

    def encoder(self, batch: int = 1) -> StreamingEncoder:
        """Return a new stream of sound to codes."""
        ...
