"""Speak a sentence into a WAV file: `python -m examples.speak [MODEL] [OUTPUT]`."""

from __future__ import annotations

import sys

import soundfile

from csm import load_csm_1b


def main(model: str = "sesame/csm-1b", output: str = "hello.wav") -> None:
    generator = load_csm_1b(model=model)
    audio = generator.generate("Hello. I am glad you are here.", speaker=0, context=[], seed=1)
    soundfile.write(output, audio.numpy(), generator.sample_rate)
    print(f"{len(audio) / generator.sample_rate:.1f} s of speech written to {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
