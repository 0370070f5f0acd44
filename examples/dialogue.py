"""Let two speakers talk, each hearing what the other said: `python -m examples.dialogue [MODEL] [OUTPUT]`."""

from __future__ import annotations

import sys

import soundfile
import torch

from csm import Session, load_csm_1b

LINES = (
    (0, "Did you hear the owl?"),
    (1, "I did, all night."),
    (0, "So did I."),
)


def main(model: str = "sesame/csm-1b", output: str = "dialogue.wav") -> None:
    generator = load_csm_1b(model=model)
    session = Session(generator)
    spoken = [chunk for speaker, line in LINES for chunk in session.speak(line, speaker)]
    soundfile.write(output, torch.cat(spoken).numpy(), generator.sample_rate)
    print(f"{len(session.turns)} turns written to {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
