"""What pocketsphinx hears in a reply: proof that it was speech, and said what was meant."""

from __future__ import annotations

import numpy as np
import soxr

from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples


def transcribed(sound: Samples) -> str:
    """The words in 24 kHz sound, lower case; empty when none were heard."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=EAR_RATE, loglevel="FATAL")
    decoder.start_utt()
    ear = soxr.resample(sound, MOUTH_RATE, EAR_RATE)
    decoder.process_raw((np.clip(ear, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    best = decoder.hyp()
    return best.hypstr if best is not None else ""
