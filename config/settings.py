"""The user's settings, as one typed tree. This is data; nothing here loads an engine or touches a device."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

DEFAULT_PERSONA = (
    "You are Parley, a warm and curious companion who is talking aloud with one person. "
    "Answer in one to three short spoken sentences, in plain words, without lists, headings, code or emoji. "
    "Ask back when it is natural. When you do not know, say so."
)


class _Tree(BaseModel):
    """Refuses unknown names, so that a misspelt setting is never silently ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class AudioSettings(_Tree):
    place: Literal["browser", "soundcard"] = Field(
        "browser", description="where Parley listens and speaks: at the browser's headset or this computer's sound card"
    )
    input: str | None = Field(None, description="name of the sound card's microphone; null is the system's default")
    output: str | None = Field(None, description="name of the sound card's output; null is the system's default")


class EarsSettings(_Tree):
    engine: str = Field("pocketsphinx", description="what understands you")
    model: str = Field(
        "", description="the engine's model: a name, a hub id or a folder; empty means the engine's default"
    )
    language: str = Field("en", description="language code (ISO 639-1), or 'auto' if the engine can detect it")
    sensitivity: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        0.5, description="probability above which Silero counts sound as speech"
    )


class TurnSettings(_Tree):
    meaning: bool = Field(True, description="judge by voice and words whether you have finished (smart-turn)")
    shortest_ms: Annotated[int, Field(ge=100, le=2000)] = Field(
        100, description="silence that ends a turn when you have clearly finished"
    )
    longest_ms: Annotated[int, Field(ge=300, le=6000)] = Field(
        1600, description="silence that ends a turn when you do not seem to have finished"
    )
    silence_ms: Annotated[int, Field(ge=100, le=5000)] = Field(
        500, description="silence that ends a turn when meaning is off"
    )
    speculations: Annotated[int, Field(ge=0, le=10)] = Field(
        3, description="how many replies may be prepared before a turn has ended"
    )
    pre_roll_ms: Annotated[int, Field(ge=0, le=2000)] = Field(
        400,
        description="how much sound from before the first detected speech belongs to a turn, so that no word is "
        "clipped",
    )
    max_speech_s: Annotated[float, Field(ge=5, le=600)] = Field(
        60.0, description="longer turns without a pause are answered in parts"
    )


class Persona(_Tree):
    """A persona that the user has written, under a name."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    text: Annotated[str, Field(max_length=8000)]


class MindSettings(_Tree):
    engine: str = Field("builtin", description="what answers you")
    model: str = Field("", description="as for the ears")
    url: str = Field("", description="address of a server with OpenAI's chat API, ending in /v1")
    api_key: SecretStr = Field(SecretStr(""), description="the server's key")
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.7, description="how much replies vary; 0 always takes the likeliest word"
    )
    max_tokens: Annotated[int, Field(ge=16, le=4096)] = Field(300, description="maximum length of a reply, in tokens")
    persona: Annotated[str, Field(max_length=8000)] = Field(DEFAULT_PERSONA, description="who you are talking to")
    personas: Annotated[list[Persona], Field(max_length=50)] = Field(
        default_factory=list, description="personas that the user has saved"
    )

    @field_serializer("api_key", when_used="json")
    def _write_key(self, key: SecretStr) -> str:
        return key.get_secret_value()


class Reference(_Tree):
    """A recording of the voice to imitate, and the words spoken in it."""

    recording: Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*\.(wav|flac|mp3)$")] = Field(
        description="file name inside the data folder's voices/"
    )
    text: Annotated[str, Field(max_length=2000)] = ""


class VoiceSettings(_Tree):
    engine: str = Field("espeak", description="what speaks to you")
    model: str = Field("", description="as for the ears")
    name: str = Field("", description="the engine's voice, e.g. eSpeak's 'en-gb'; empty means the engine's default")
    words_per_minute: Annotated[int, Field(ge=80, le=450)] = Field(175, description="how fast it speaks")
    pitch: Annotated[int, Field(ge=0, le=99)] = Field(50, description="eSpeak's pitch")
    volume: Annotated[float, Field(ge=0.0, le=1.0)] = Field(1.0, description="loudness; 1 is the maximum")
    references: Annotated[list[Reference], Field(max_length=5)] = Field(
        default_factory=list, description="recordings of the voice that CSM-1B imitates"
    )
    precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = Field(
        "auto", description="precision of CSM-1B's weights; fewer bits are faster and sound slightly less clean"
    )
    adapter: Annotated[str, Field(max_length=500)] = Field(
        "", description="folder of a voice that CSM was taught (csm-train); empty means none"
    )


PERSON = r"^\w(?:[\w '’-]{0,62}\w)?$"
"""A person's name: letters of any script, with spaces, hyphens and apostrophes between them."""


class MemorySettings(_Tree):
    enabled: bool = Field(True, description="remember what is said and recall it")
    owner: Annotated[str, Field(pattern=PERSON)] = Field("default", description="whose memory it is")
    budget_chars: Annotated[int, Field(ge=200, le=20_000)] = Field(
        2400, description="how much the mind is reminded of in each turn, in characters"
    )
    people: bool = Field(False, description="tell people apart by their voices, and remember who said what")
    guests: bool = Field(False, description="also keep what unknown voices say, if people are told apart")
    summaries: bool = Field(
        False, description="have the language model summarise each day while nobody talks, for the memory page"
    )
    embedding: Annotated[str, Field(max_length=200, pattern=r"^(?:[\w.-]+/[\w.-]+)?$")] = Field(
        "",
        description="embedding model from the hub, in sentence-transformers' format, such as "
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2; empty means all-MiniLM-L6-v2, for English",
    )
    chroma_host: str = Field("", description="host of a Chroma server; empty keeps the memory in the data folder")
    chroma_port: Annotated[int, Field(ge=1, le=65535)] = Field(8001, description="port of the Chroma server")


Permission = Literal["allow", "ask", "off"]
"""What a tool may do: run, run after the user's yes, or nothing."""
Permissions = Annotated[dict[Annotated[str, Field(max_length=200)], Permission], Field(max_length=500)]


class ToolServer(_Tree):
    """A tool server that speaks the Model Context Protocol: a command to run here, or an address."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
    command: Annotated[str, Field(max_length=1000)] = ""
    args: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=50)] = Field(default_factory=list)
    env: Annotated[dict[str, SecretStr], Field(max_length=50)] = Field(default_factory=dict)
    url: Annotated[str, Field(max_length=2000)] = ""
    key: SecretStr = SecretStr("")
    """Sent to the address as `Authorization: Bearer`."""
    enabled: bool = True
    permissions: Permissions = Field(default_factory=dict)
    """Permissions by tool, if they differ from what the tool declares."""

    @model_validator(mode="after")
    def _one_way(self) -> ToolServer:
        if bool(self.command.strip()) == bool(self.url):
            raise ValueError("give either a command or an address")
        if self.url and (urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname):
            raise ValueError("the address must begin with http:// or https://")
        return self

    @field_serializer("env", when_used="json")
    def _write_env(self, env: dict[str, SecretStr]) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in env.items()}

    @field_serializer("key", when_used="json")
    def _write_key(self, key: SecretStr) -> str:
        return key.get_secret_value()


class ToolSettings(_Tree):
    builtin: bool = Field(
        True, description="offer time and dates, timers and search to a language model that calls tools well"
    )
    permissions: Permissions = Field(
        default_factory=dict, description="permissions of the built-in tools that are not simply allowed, by name"
    )
    servers: Annotated[list[ToolServer], Field(max_length=20)] = Field(
        default_factory=list, description="MCP servers whose tools are also offered"
    )

    @field_validator("servers")
    @classmethod
    def _named_once(cls, servers: list[ToolServer]) -> list[ToolServer]:
        if len({each.name for each in servers}) < len(servers):
            raise ValueError("two servers have the same name")
        return servers


class ClusterSettings(_Tree):
    """Engines that run in a cluster instead of on this machine (docs/SCALING.md)."""

    url: Annotated[str, Field(max_length=500)] = Field(
        "", description="address of Ray Serve's proxy, like http://host:8000"
    )
    key: SecretStr = Field(SecretStr(""), description="the key that the engines there were deployed with")
    stages: Annotated[list[Literal["ears", "turns", "voice"]], Field(max_length=3)] = Field(
        default_factory=list, description="stages whose engines run there; the others run here"
    )

    @model_validator(mode="after")
    def _reachable(self) -> ClusterSettings:
        if self.stages and (urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname):
            raise ValueError("the address must begin with http:// or https://")
        return self

    @field_serializer("key", when_used="json")
    def _write_key(self, key: SecretStr) -> str:
        return key.get_secret_value()


class RecordingSettings(_Tree):
    enabled: bool = Field(False, description="record both sides of conversations in the data folder")


class ApiSettings(_Tree):
    """The audio API for other programs (docs/AUDIO_API.md)."""

    upload_mb: Annotated[int, Field(ge=1, le=4096)] = Field(
        25, description="largest recording that other programs may send, in MB"
    )
    longest_h: Annotated[float, Field(gt=0, le=24)] = Field(
        4.0, description="longest recording that is transcribed for other programs, in hours"
    )


class LogSettings(_Tree):
    words: bool = Field(False, description="write what was said into the logs")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")


class Settings(_Tree):
    profile: Literal["offline", "small", "cpu", "gpu"] = Field(
        "offline", description="the profile that was chosen last"
    )
    set_up: bool = Field(False, description="whether the setup page was completed once; until then, / redirects there")
    audio: AudioSettings = Field(default_factory=AudioSettings)
    ears: EarsSettings = Field(default_factory=EarsSettings)
    turns: TurnSettings = Field(default_factory=TurnSettings)
    mind: MindSettings = Field(default_factory=MindSettings)
    voice: VoiceSettings = Field(default_factory=VoiceSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    tools: ToolSettings = Field(default_factory=ToolSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    recording: RecordingSettings = Field(default_factory=RecordingSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    log: LogSettings = Field(default_factory=LogSettings)
