"""The result of a training: an adapter of A and B matrices, with a note of whose voice it is and that they agreed."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoint.adapters import Adapter, LowRank
from ..errors import CsmError
from ..model import Csm
from .lora import lora_modules

__all__ = ["CONSENT_WORDS", "Consent", "ConsentMissing", "adapter_of"]

CONSENT_WORDS = (
    "A voice belongs to a person. Teach only your own, or that of someone who has agreed to it, and state who that "
    "is. Do not use it to impersonate or deceive anyone, or for anything unlawful or harmful."
)
"""Shown before a voice is trained; after Sesame's terms for CSM (github.com/SesameAILabs/csm, README)."""


class ConsentMissing(CsmError):
    """Nobody has stated whose voice it is, and that they agreed."""


@dataclass(frozen=True)
class Consent:
    """Who agreed to the training of this voice, as stated by whoever trains it. It is stored with the adapter."""

    speaker: str

    def __post_init__(self) -> None:
        if not self.speaker.strip():
            raise ConsentMissing(f"{CONSENT_WORDS} Give the name with --consent NAME.")

    @property
    def words(self) -> str:
        """The statement that is stored with the trained weights."""
        return f"{self.speaker.strip()} agreed to the training of this voice. {CONSENT_WORDS}"

    def described(self) -> dict[str, str]:
        """The entry for adapter_config.json."""
        return {"csm_consent": self.words}


def adapter_of(model: Csm, consent: Consent | None = None) -> Adapter:
    """Copy the current A and B into an adapter; training can continue."""
    matrices = {}
    for name, lora in lora_modules(model):
        matrices[name] = LowRank(lora.a.detach().clone(), lora.b.detach().clone(), lora.scale)
    head = model.audio_head
    whole = {"audio_head": head.detach().clone()} if head.requires_grad else {}
    return Adapter(matrices, whole, consent.described() if consent else {})
