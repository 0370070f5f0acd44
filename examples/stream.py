"""Write speech out while it is still being made: `python -m examples.stream [MODEL] [OUTPUT]`."""

from __future__ import annotations

import sys
import time

import soundfile

from csm import load_csm_1b


def main(model: str = "sesame/csm-1b", output: str = "stream.wav") -> None:
    generator = load_csm_1b(model=model)
    asked = time.monotonic()
    with soundfile.SoundFile(output, "w", generator.sample_rate, channels=1) as file:
        for chunk in generator.generate_stream("You hear this before it is finished.", speaker=0, context=[]):
            if not file.frames:
                print(f"The first sound came after {time.monotonic() - asked:.2f} s.")
            file.write(chunk.numpy())
        print(f"{file.frames / generator.sample_rate:.1f} s of speech written to {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
