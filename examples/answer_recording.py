"""Answer a recording as a conversation would: `python -m examples.answer_recording RECORDING [OUTPUT] [FOLDER]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from config import Settings
from config.settings import MemorySettings
from pipeline.conversation.conversation import Conversation
from pipeline.ends.file import hold, read_sound, write_sound
from pipeline.engines.running import Engines


async def answer(recording: Path, output: Path, folder: Path) -> None:
    settings = Settings(memory=MemorySettings(enabled=False))  # by default: the engines that need no download
    engines = Engines(settings, folder)
    try:
        await engines.start()
        async with Conversation(engines.stages(), settings, name="example") as conversation:
            held = await hold(conversation, [read_sound(recording)])
    finally:
        await engines.stop()
    for turn in held.records:
        print(f"You:    {turn.user}\nParley: {turn.heard}")
    write_sound(output, held.sound)


def main(recording: str, output: str = "answer.wav", folder: str = "example-data") -> None:
    asyncio.run(answer(Path(recording), Path(output), Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
