"""Runs a small language model by transformers in a worker process, for users without a server.

The reply is generated token by token here, and not by transformers' generate(): generation can stop between two tokens
if the listener has gone, several conversations take turns, and what was read is kept for the next turn (contexts.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pipeline.engine import EngineError, Progress, Report
from pipeline.llm import Prompt, PromptTooLong, Truncated
from pipeline.llm.chat import ChatMessage, fitted, in_words
from pipeline.llm.checkpoint import folder_of, load
from pipeline.llm.contexts import Contexts
from pipeline.llm.placed import PlacedMind
from pipeline.llm.reasoning import Reasoning, is_mark, open_mark
from pipeline.llm.tool_use import offered, specified, told
from pipeline.workers.place import MakePlace, Wanted
from pipeline.workers.worker import Worker

CONVERSATIONS = 8
"""Replies that may be generated at a time, each in its own thread; they take turns at every token."""

CONTEXT = 8192
"""Tokens of prompt and reply together, if the model has as many."""

CHUNK = 256
"""Tokens of the prompt that are prefilled at a time; after each chunk the listener may have gone."""

QUIETLY = {"enable_thinking": False, "thinking": False}
"""Arguments that tell chat templates to switch reasoning off: Qwen's and DeepSeek's names for it."""


class Mind:
    """The model itself, for a worker process."""

    def __init__(self, report: Report, model: str, context: int, device: str | None) -> None:
        import torch

        self._name = model
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = folder_of(model, report)
        report(Progress(f"loading {model}"))
        self._tokenizer, self._model = load(folder, model, self._device)
        self._template = Template(self._tokenizer, model)
        config = self._model.config.get_text_config()
        self._context = min(context, getattr(config, "max_position_embeddings", None) or context)
        self._generation = self._model.generation_config
        self._ends = _ends(self._generation.eos_token_id, self._tokenizer.eos_token_id)
        vocabulary = self._tokenizer.get_vocab()
        self._marks = {number: token for token, number in vocabulary.items() if is_mark(token)}
        self._contexts = Contexts(config)
        self._count = lru_cache(maxsize=4096)(lambda text: len(self._ids(text)))
        self._one_step = threading.Lock()
        report(Progress("warming up"))
        next(token for token in self._generated(self._ids("Hello."), 0.0, 1) if token is not None)

    def knows_tools(self) -> bool:
        return self._template.knows_tools

    def parameters(self) -> int:
        return sum(each.numel() for each in self._model.parameters())

    def reply(self, prompt: Prompt) -> Iterator[str | Truncated]:
        """Yield pieces of text, some of them empty; after each one the generator may be closed."""
        from tokenizers.decoders import DecodeStream

        text = self._rendered(prompt)
        reasoning = Reasoning(open_mark(text))
        characters = DecodeStream(skip_special_tokens=True)
        said, token = False, None
        for token in self._generated(self._ids(text), prompt.temperature, prompt.max_tokens):
            piece = ""
            if token is not None and token not in self._ends:
                # marks matter here even if the tokenizer calls them special tokens, and would skip them
                shown = self._marks.get(token) or characters.step(self._tokenizer.backend_tokenizer, token)
                piece = reasoning.feed(shown or "")
            said = said or bool(piece)
            yield piece
        rest = reasoning.finish()
        if not said and not rest and reasoning.inside:
            raise EngineError(f"{self._name} spent its whole reply on reasoning: choose a model that does not reason.")
        yield rest
        if token not in self._ends:
            yield Truncated()

    def _rendered(self, prompt: Prompt) -> str:
        """Return the prompt in the model's own form, cut to the tokens that fit. Raises EngineError."""
        if prompt.tools and not self._template.knows_tools:
            prompt = told(prompt)
        tools = specified(offered(prompt)) if prompt.tool_choice != "none" else []
        whole = lambda messages: len(self._ids(self._template.render(messages, tools)))  # noqa: E731
        return self._template.render(fitted(prompt, self._context, self._name, self._count, whole), tools)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _generated(self, prompt: list[int], temperature: float, most: int) -> Iterator[int | None]:
        """Yield the reply's tokens, including the one that ends it; None after each part of the prompt."""
        choose = Sampler(self._generation, temperature)
        context = self._contexts.begin(prompt)
        ahead = prompt[len(context.tokens) :]
        while len(ahead) > CHUNK:
            self._step(context, ahead[:CHUNK])
            ahead = ahead[CHUNK:]
            yield None
        for _ in range(most):
            token = choose(context.tokens, self._step(context, ahead))
            yield token
            if token in self._ends:
                return
            ahead = [token]

    def _step(self, context: Any, tokens: list[int]) -> Any:
        """Read these tokens; return the logits [1, vocabulary] of the next one, float32. Raises EngineError."""
        import torch

        with self._one_step, torch.inference_mode():
            ids = torch.tensor([tokens], device=self._device)
            try:
                out = self._model(input_ids=ids, past_key_values=context.cache, use_cache=True, logits_to_keep=1)
            except torch.OutOfMemoryError as error:
                self._contexts.forget()
                raise EngineError(f"{self._name} ran out of memory: choose a smaller model.") from error
            context.read(tokens)
            return out.logits[:, -1].float()


class Template:
    """A model's own chat template. If it has no system role, the first user message begins with the system text."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        from jinja2 import TemplateError

        if not tokenizer.chat_template:
            raise EngineError(
                f"{name} has no chat template, so it is not made for conversation: choose an instruct model."
            )
        self._tokenizer = tokenizer
        self._knows_system = True
        self.knows_tools = "tools" in str(tokenizer.chat_template)
        probe: list[ChatMessage] = [{"role": "system", "content": "Persona."}, {"role": "user", "content": "Hello."}]
        try:
            self._knows_system = "Persona." in self.render(probe)
        except TemplateError:
            self._knows_system = False
        try:
            self.render(probe)
        except (TemplateError, TypeError) as error:
            raise EngineError(f"The chat template of {name} cannot be used ({error}): choose another model.") from error

    def render(self, messages: list[ChatMessage], tools: list[dict[str, Any]] | None = None) -> str:
        if not self._knows_system:
            system, first, *rest = messages
            messages = [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        if not self.knows_tools:
            messages = in_words(messages)
        text: str = self._tokenizer.apply_chat_template(
            messages, tools=tools or None, tokenize=False, add_generation_prompt=True, **QUIETLY
        )
        return text


def _ends(*ids: int | list[int] | None) -> frozenset[int]:
    """Return the tokens that end a reply, however a model's files list them."""
    listed = [each if isinstance(each, list) else [each] for each in ids]
    return frozenset(one for each in listed for one in each if one is not None)


class Sampler:
    """Chooses the next token as the model's generation_config specifies, at the user's temperature."""

    def __init__(self, config: Any, temperature: float) -> None:
        from transformers import (
            LogitsProcessorList,
            MinPLogitsWarper,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        self._likeliest = temperature == 0
        self._processors: Any = LogitsProcessorList()
        if config.repetition_penalty not in (None, 1.0):
            self._processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
        if self._likeliest:
            return
        self._processors.append(TemperatureLogitsWarper(float(temperature)))
        for value, off, make in (
            (config.top_k, 0, TopKLogitsWarper),
            (config.top_p, 1.0, TopPLogitsWarper),
            (config.min_p, 0.0, MinPLogitsWarper),
        ):
            if value not in (None, off):
                self._processors.append(make(value))

    def __call__(self, read: list[int], logits: Any) -> int:
        """Choose the token after those `read`; `logits` are [1, vocabulary]."""
        import torch

        with torch.inference_mode():
            scores = self._processors(torch.tensor([read], device=logits.device), logits)
            chosen = scores.argmax() if self._likeliest else torch.multinomial(scores.softmax(-1), 1)
            return int(chosen)


class Transformers(PlacedMind):
    """A language model by transformers in a worker process."""

    def __init__(
        self, model: str, *, context: int = CONTEXT, device: str | None = None, place: MakePlace = Worker
    ) -> None:
        """
        Args:
            model: a hub id or a folder, with weights as safetensors. Code that comes with it is never run.
            context: tokens of prompt and reply together, if the model has as many.
            device: "cuda", "cpu"; by default the GPU if there is one.
        """
        arguments = {"model": model, "context": context, "device": device}
        wanted = Wanted(
            "transformers", f"{__name__}:Mind", arguments, concurrency=CONVERSATIONS, errors=(PromptTooLong,)
        )
        super().__init__(place(wanted))
