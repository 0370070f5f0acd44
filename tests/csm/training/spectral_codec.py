"""A codec that is learnt in a second, from the voices that it shall speak: Mimi takes GPUs and weeks.

A frame of 80 ms is eight spectra, each of 40 ms of sound. They are written as codes by residual vector quantisation, as
Mimi's latents are: the nearest entry of the first codebook, then in each further one the nearest to what is left. Sound
is made of the spectra by finding phases that fit what has sounded already (Beauregard, Zhu & Wyse 2005, "An efficient
algorithm for real-time spectrogram inversion"). It speaks the voices that it has learnt, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csm.codec.protocol import StreamingEncoder

HOPS, HOP, WINDOW = 8, 240, 960
"""Spectra a frame, and samples at 24 kHz."""
PHASE_ROUNDS, FIT_ROUNDS = 6, 8
LOUD = 30.0
"""Spectra are learnt as log(1 + LOUD · magnitude): what is soft is heard, too."""


class SpectralCodec:
    """Implements `csm.codec.Codec`, but for a stream of sound to codes."""

    sample_rate, frame_size = 24_000, HOPS * HOP

    def __init__(self, entries: Tensor) -> None:
        """entries: float32 [codebooks, codes, HOPS · (WINDOW / 2 + 1)]."""
        self.entries, self.codebooks = entries, len(entries)

    @classmethod
    def learnt(cls, recordings: Sequence[Tensor], codebooks: int, codes: int) -> SpectralCodec:
        """recordings: float32 [samples]. Raises ValueError where they hold fewer frames than a codebook has codes."""
        left = torch.cat([_frames(recording) for recording in recordings])
        if len(left) < codes:
            raise ValueError(f"{len(left)} frames are too few for {codes} codes.")
        draw = torch.Generator().manual_seed(0)
        books = []
        for _ in range(codebooks):
            book = left[torch.randperm(len(left), generator=draw)[:codes]].clone()
            for _ in range(FIT_ROUNDS):
                nearest = torch.cdist(left, book).argmin(dim=1)
                counts = torch.bincount(nearest, minlength=codes)[:, None]
                sums = torch.zeros_like(book).index_add_(0, nearest, left)
                book = torch.where(counts > 0, sums / counts.clamp(min=1), book)
            left = left - book[torch.cdist(left, book).argmin(dim=1)]
            books.append(book)
        return cls(torch.stack(books))

    def encode(self, audio: Tensor) -> Tensor:
        found = []
        for samples in audio:
            left, codes = _frames(samples), []
            for book in self.entries:
                codes.append(torch.cdist(left, book).argmin(dim=1))
                left = left - book[codes[-1]]
            found.append(torch.stack(codes))
        return torch.stack(found)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(len(codes)).step(codes)

    def decoder(self, batch: int = 1) -> _Decoder:
        return _Decoder(self.entries, batch)

    def encoder(self, batch: int = 1) -> StreamingEncoder:
        raise NotImplementedError("Recordings are encoded whole.")


class _Decoder:
    def __init__(self, entries: Tensor, batch: int) -> None:
        self._entries, self._books = entries, torch.arange(len(entries))[:, None]
        self._tails = torch.zeros(batch, WINDOW - HOP)

    def step(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        spoken = torch.stack([self._speak(slot, one) for slot, one in enumerate(codes)])
        return spoken if out is None else out.copy_(spoken)

    def reset(self, slot: int | None = None) -> None:
        self._tails[slice(None) if slot is None else slot] = 0

    def _speak(self, slot: int, codes: Tensor) -> Tensor:
        spectra = self._entries[self._books, codes].sum(dim=0).reshape(-1, WINDOW // 2 + 1)
        sound, tail, window = [], self._tails[slot], torch.hann_window(WINDOW)
        for magnitude in (spectra.clamp(min=0).exp() - 1) / LOUD:
            known = torch.cat((tail, torch.zeros(HOP)))
            whole = known
            for _ in range(PHASE_ROUNDS):
                phase = torch.fft.rfft(whole * window).angle()
                # Squared windows at a quarter of their length add up to 1.5.
                whole = known + torch.fft.irfft(torch.polar(magnitude, phase)) * window / 1.5
            sound.append(whole[:HOP])
            tail = whole[HOP:]
        self._tails[slot] = tail
        return torch.cat(sound)


def _frames(samples: Tensor) -> Tensor:
    """[samples] to [frames, HOPS · (WINDOW / 2 + 1)], each spectrum of what came before its hop's end."""
    count = -(-len(samples) // (HOPS * HOP))
    filled = torch.nn.functional.pad(samples, (WINDOW - HOP, count * HOPS * HOP - len(samples)))
    magnitudes = torch.fft.rfft(filled.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)).abs()
    spectra: Tensor = (1 + LOUD * magnitudes).log()
    return spectra.reshape(count, -1)
