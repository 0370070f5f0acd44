"""A language model by transformers, in its worker process, on tiny Llamas that say fixed or random tokens."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from safetensors.torch import load_file, save_file

from config.engines import CATALOGUE
from config.settings import MindSettings, Settings
from pipeline.engine import EngineError
from pipeline.engines.catalogue import create
from pipeline.llm import Message, Prompt, Truncated, checkpoint
from pipeline.llm.chat import ChatMessage
from pipeline.llm.checkpoint import check_room, dtype_for
from pipeline.llm.contexts import KEPT, Contexts
from pipeline.llm.transformers import CHUNK, Mind, Template, Transformers
from pipeline.tools.calls import ToolCall
from pipeline.workers.place import WorkerDied
from tests.support import hub
from tests.support.begun import IN_ONE_LOOP, started
from tests.support.no_minds import a_file, csm, empty, nothing, silent, whisper
from tests.support.tiny_models import CHAT_TEMPLATE, SAID, write_llama, write_whisper
from tests.support.workers import workers

NOW = datetime(2026, 3, 4, 15, 30)
SENTENCE = " " + " ".join(SAID)

REFUSES_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('None') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}<|assistant|>"
)
IGNORES_SYSTEM = (
    "{% for message in messages %}{% if message['role'] != 'system' %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "<|end|>{% endif %}{% endfor %}<|assistant|>"
)
OPENS_REASONING = CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>{% endif %}")
MAY_REASON = CHAT_TEMPLATE.replace(
    "<|assistant|>{% endif %}",
    "<|assistant|>{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}{% endif %}",
)


def prompt(*texts: str, persona: str = "You are kind.", temperature: float = 0.0, max_tokens: int = 30) -> Prompt:
    roles = ("user", "assistant")
    history = [Message(roles[place % 2], text) for place, text in enumerate(texts)]  # type: ignore[arg-type]
    return Prompt(persona, tuple(history), None, NOW, temperature, max_tokens)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it says is random and depends on every token that it read."""
    return write_llama(tmp_path_factory.mktemp("llama") / "babbler", ())


async def reply(engine: Transformers, *texts: str, max_tokens: int = len(SAID)) -> list[str]:
    pieces = [piece async for piece in engine.written(prompt(*texts or ("Hello.",), max_tokens=max_tokens))]
    return [piece for piece in pieces if isinstance(piece, str)]


def words(pieces: Iterable[str | ToolCall | Truncated]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def mind(model: Path, **settings: Any) -> Mind:
    """The model in this process."""
    wanted: dict[str, Any] = {"context": 4096, "device": "cpu", **settings}
    return Mind(lambda progress: None, str(model), **wanted)


class CountingMind(Mind):
    """Counts how often the model was asked for a token."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.steps = 0
        super().__init__(*args, **settings)

    def _step(self, context: Any, tokens: list[int]) -> Any:
        self.steps += 1
        return super()._step(context, tokens)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(llama: Path) -> AsyncIterator[Transformers]:
    async with started(Transformers(str(llama))) as engine:
        yield engine


@IN_ONE_LOOP
async def test_words_come_as_they_are_made_and_as_many_as_were_asked_for(engine: Transformers) -> None:
    assert await reply(engine) == [f" {word}" for word in SAID]
    assert engine.status.state == "ready" and engine.status.memory_bytes


def test_a_reply_that_nobody_wants_any_more_is_not_finished(llama: Path) -> None:
    """That a worker closes what its listener has left is in tests/pipeline/workers/test_worker.py."""
    counting = CountingMind(lambda progress: None, str(llama), context=4096, device="cpu")
    before = counting.steps
    pieces = counting.reply(prompt("Hello.", max_tokens=3000))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    assert counting.steps <= before + 3, "three thousand tokens early"


def test_a_long_prompt_is_left_in_the_middle(llama: Path) -> None:
    reading = mind(llama).reply(prompt("x" * 5 * CHUNK, persona="y"))
    assert next(reading) == "", "a part was read, and the listener may have gone"
    reading.close()  # type: ignore[attr-defined]  # a generator


@IN_ONE_LOOP
async def test_several_are_answered_at_once(engine: Transformers) -> None:
    async with aclosing(engine.written(prompt("One.", max_tokens=len(SAID)))) as one:
        first = await anext(one)
        assert "".join(await reply(engine, "Two.")) == SENTENCE, "while the first waits for its listener"
        assert words([first, *[piece async for piece in one]]) == SENTENCE


def test_no_half_characters(tmp_path: Path) -> None:
    """Tokens that are single bytes: é is two of them, and the face is four."""
    says = ["Ġcaf", "Ã", "©", "Ġ", "ð", "Ł", "ĺ", "Ģ", "Ġyes"]
    pieces = [
        piece
        for piece in mind(write_llama(tmp_path / "bytes", says)).reply(prompt("Hi.", max_tokens=9))
        if piece and isinstance(piece, str)
    ]
    assert "".join(pieces) == " café 😀 yes"
    assert "é" in pieces and "😀" in "".join(pieces) and not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_is_cut_off_at_the_end_is_left_out(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "bytes", ["Ġcaf", "Ã", "©"])
    assert words(mind(model).reply(prompt("Hi.", max_tokens=2))) == " caf"


@pytest.mark.parametrize("form", ["one", "list"])
def test_it_ends_where_the_models_own_files_say(tmp_path: Path, form: str) -> None:
    model = write_llama(tmp_path / "llama", then="<|user|>")
    ids = mind(model)._tokenizer.get_vocab()
    end = ids["<|user|>"]
    ends = end if form == "one" else [ids["<|begin|>"], end]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert words(mind(model).reply(prompt("Hi.", max_tokens=100))) == SENTENCE


def test_a_reply_ends_at_the_tokenizers_end_too(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama", then="<|end|>")
    assert words(mind(model).reply(prompt("Hi.", max_tokens=100))) == SENTENCE


# -- the same as transformers itself ----------------------------------------------------------------------------------


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32, so that two ways to compute the same can be compared."""
    monkeypatch.setattr(checkpoint, "dtype_for", lambda *_: torch.float32)


@pytest.mark.parametrize("sampling", [{}, {"repetition_penalty": 1.3}])
def test_the_tokens_are_those_of_transformers_generate(
    exact: None, tmp_path: Path, babbler: Path, sampling: dict[str, Any]
) -> None:
    model = mind(configured(tmp_path, babbler, sampling))
    ids = model._ids(model._rendered(prompt("How are you?")))
    ours = [token for token in model._generated(ids, 0.0, 30) if token is not None]
    theirs = model._model.generate(
        input_ids=torch.tensor([ids]), max_new_tokens=30, do_sample=False, eos_token_id=sorted(model._ends), **sampling
    )
    assert ours == theirs[0, len(ids) :].tolist()


def test_sampling_follows_the_models_own_configuration(tmp_path: Path, babbler: Path) -> None:
    for sampling, different in (({"do_sample": True, "top_k": 1}, False), ({}, True)):
        model = mind(configured(tmp_path / str(different), babbler, sampling))
        texts = {words(model.reply(prompt("How are you?", temperature=2.0))) for _ in range(3)}
        assert (len(texts) > 1) is different, "of one candidate the hottest sampling takes that one"


def configured(folder: Path, model: Path, generation: dict[str, Any]) -> Path:
    """A copy of a model with another generation_config.json."""
    copy = shutil.copytree(model, folder / "configured")
    (copy / "generation_config.json").write_text(json.dumps(generation))
    return copy


def test_what_was_read_is_not_read_again_and_changes_nothing(exact: None, babbler: Path) -> None:
    persona = "You are kind. " * 20
    talk = ["How are you?", "Fine.", "And now? " * 30, "Better.", "Why?"]
    model = mind(babbler)
    fresh = [mind(babbler) for _ in range(3)]
    for turn, other in zip((1, 3, 5), fresh, strict=True):
        read = spied(model)
        ids = model._ids(model._rendered(prompt(*talk[:turn], persona=persona)))
        again = [token for token in model._generated(ids, 0.0, 30) if token is not None]
        assert again == [token for token in other._generated(ids, 0.0, 30) if token is not None]
        if turn > 1:
            told_before = len(persona) + sum(map(len, talk[: turn - 3]))
            assert len(ids) - (sum(read) - len(again) + 1) > told_before, "a token is a byte here"


def spied(model: Mind) -> list[int]:
    """How many tokens the model is given, step by step, from now on."""
    read: list[int] = []
    inner = Mind._step

    def step(context: Any, tokens: list[int]) -> Any:
        read.append(len(tokens))
        return inner(model, context, tokens)

    model._step = step  # type: ignore[method-assign]
    return read


def test_a_reply_under_way_is_begun_from_and_not_disturbed(exact: None, babbler: Path) -> None:
    model, alone = mind(babbler), mind(babbler)
    ids = model._ids(model._rendered(prompt("Hello. " * 20)))
    other = [*ids[:-5], *ids[:5]]
    first = model._generated(ids, 0.0, 30)
    begun = [next(first) for _ in range(5)]
    read = spied(model)
    second = [token for token in model._generated(other, 0.0, 30) if token is not None]
    assert read[0] < len(other) / 2, "it began from what the first had read"
    assert second == [token for token in alone._generated(other, 0.0, 30) if token is not None]
    assert [*begun, *first] == list(mind(babbler)._generated(ids, 0.0, 30))


def test_only_so_many_contexts_are_kept(llama: Path) -> None:
    model = mind(llama)
    for n in range(3 * KEPT):
        list(model.reply(prompt(f"{n} " * 20, persona=str(n))))
    assert len(model._contexts._kept) == KEPT


def test_a_cache_that_cannot_be_cut_is_not_kept(llama: Path) -> None:
    from transformers import DynamicCache, MistralConfig

    config = MistralConfig(num_hidden_layers=2, sliding_window=8)
    contexts = Contexts(config)
    context = contexts.begin([1, 2, 3])
    assert isinstance(context.cache, DynamicCache)
    context.read([1, 2, 3])
    assert contexts.begin([1, 2, 3, 4]).tokens == []


# -- templates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, IGNORES_SYSTEM])
def test_a_template_without_a_system_role_gets_the_persona_from_the_user(tmp_path: Path, template: str) -> None:
    model = mind(write_llama(tmp_path / "llama", template=template))
    assert words(model.reply(prompt("Hello."))).startswith(SENTENCE)
    text = model._rendered(prompt("Hello."))
    assert text.startswith("<|user|>You are kind.\n\n") and text.count("You are kind.") == 1


def test_a_template_with_a_system_role_gets_it_there(llama: Path) -> None:
    assert "<|system|>You are kind.<|end|><|user|>" in mind(llama)._rendered(prompt("Hello."))


def test_a_template_is_told_not_to_reason(tmp_path: Path) -> None:
    model = mind(write_llama(tmp_path / "llama", special=["<think>", "</think>"], template=MAY_REASON))
    assert not model._rendered(prompt("Hi.")).endswith("<think>")


@pytest.mark.parametrize("special", [["<think>", "</think>"], []])
def test_reasoning_that_the_template_opens_is_not_spoken(tmp_path: Path, special: list[str]) -> None:
    """Whether its marks are special tokens of the tokenizer, words of it, or spelled."""
    says = ["Ġhm", "</think>", "Ġyes"]
    model = write_llama(tmp_path / "llama", says, special=special, then="<|end|>", template=OPENS_REASONING)
    if special:  # the prompt ends with the mark itself
        follow(model, "<think>", "Ġhm")
    else:
        follow(model, ">", "Ġhm")
    assert words(mind(model).reply(prompt("Hi."))) == " yes"


def test_reasoning_that_the_model_begins_is_not_spoken(tmp_path: Path) -> None:
    says = ["<think>", "Ġhm", "</think>", "Ġyes"]
    model = write_llama(tmp_path / "llama", says, special=["<think>", "</think>"], then="<|end|>")
    assert words(mind(model).reply(prompt("Hi."))) == " yes"


def test_a_reply_that_is_reasoning_only_says_so(tmp_path: Path) -> None:
    says = ["<think>", "Ġhm", "Ġwell"]
    model = write_llama(tmp_path / "llama", says, special=["<think>", "</think>"], then="Ġhm")
    with pytest.raises(EngineError, match="spent its whole reply on reasoning"):
        list(mind(model).reply(prompt("Hi.")))


def follow(model: Path, token: str, following: str) -> None:
    """Have one token follow another: as in the chain of tests/support/tiny_models.py."""
    file = model / "model.safetensors"
    ids = json.loads((model / "tokenizer.json").read_text())
    vocabulary = {**ids["model"]["vocab"], **{one["content"]: one["id"] for one in ids["added_tokens"]}}
    weights = load_file(file)
    weights["lm_head.weight"][vocabulary[following]] += weights["model.embed_tokens.weight"][vocabulary[token]]
    save_file(weights, file, {"format": "pt"})


# -- the context -------------------------------------------------------------------------------------------------------


def test_the_oldest_goes_when_the_context_is_full_by_the_count_of_its_own_tokens(llama: Path) -> None:
    model = mind(llama, context=1000)
    text = model._rendered(prompt(*(f"turn {n} {'ü' * 20}" for n in range(61)), max_tokens=100))
    assert "turn 60 " in text and "turn 0 " not in text
    assert 450 < len(model._ids(text)) <= 900
    assert text.startswith("<|begin|><|system|>You are kind.<|end|><|user|>")


def test_a_model_may_have_less_room_than_was_asked_for(llama: Path) -> None:
    assert mind(llama, context=1_000_000)._context == 4096


@IN_ONE_LOOP
async def test_what_cannot_be_read_at_once_is_said_so_and_the_next_is_answered(engine: Transformers) -> None:
    with pytest.raises(EngineError, match="say it in shorter parts"):
        await reply(engine, "x" * 5000)
    assert "".join(await reply(engine)) == SENTENCE


def test_replies_longer_than_the_context_are_refused(llama: Path) -> None:
    model = mind(llama, context=500)
    with pytest.raises(EngineError, match="ask for shorter replies"):
        next(model.reply(prompt("Hi.", max_tokens=500)))
    assert words(model.reply(prompt("Hi.", max_tokens=len(SAID)))) == SENTENCE


# -- what is no model --------------------------------------------------------------------------------------------------


def converted_whisper(folder: Path) -> str:
    return str(write_whisper(folder))


def broken_template(folder: Path) -> str:
    return str(write_llama(folder, template="{{ raise_exception('never') }}"))


def pickled(folder: Path) -> str:
    write_llama(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return str(folder)


def damaged(folder: Path) -> str:
    write_llama(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    return str(folder)


def incomplete(folder: Path) -> str:
    file = write_llama(folder) / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    return str(folder)


def with_code_of_its_own(folder: Path) -> str:
    config = json.loads((write_llama(folder) / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    return str(folder)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nothing, "is not a folder: choose a folder with a model"),
        (a_file, "is not a folder: choose a folder with a model"),
        (empty, "cannot be loaded as a language model"),
        (whisper, r"is a model of another kind \(whisper\)"),
        (converted_whisper, "cannot be loaded as a language model"),
        (csm, r"is a model of another kind \(csm\)"),
        (silent, "has no chat template, so it is not made for conversation"),
        (broken_template, r"The chat template of .* cannot be used \(never\)"),
        (pickled, "has no weights in safetensors"),
        (damaged, "cannot be loaded as a language model"),
        (incomplete, r"are incomplete \(model.layers.1.mlp.up_proj.weight is missing\)"),
        (with_code_of_its_own, "cannot be loaded as a language model"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(
    tmp_path: Path, model: Callable[[Path], str], sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence) as refused:
        mind(Path(model(tmp_path / "model")))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "model" / "ran").exists()


def test_too_little_memory_is_told_with_what_is_needed(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room("someone/llama", 3 * 10**9, 4 * 10**9, "cpu")
    with pytest.raises(
        EngineError, match=r"needs 3\.\d GB of memory, and 2\.\d GB are free on the graphics card: choose"
    ):
        check_room("someone/llama", 3 * 10**9, 25 * 10**8, "cuda")
    monkeypatch.setattr(checkpoint, "free_bytes", lambda device: 1000)
    with pytest.raises(EngineError, match="choose a smaller model"):
        mind(llama)


def test_memory_that_runs_out_on_the_way_is_told_and_what_was_kept_is_let_go(llama: Path) -> None:
    model = mind(llama)
    works, asked = model._model, []

    def fails(**details: Any) -> Any:
        asked.append(details)
        if len(asked) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return works(**details)

    model._model = fails
    with pytest.raises(EngineError, match="ran out of memory: choose a smaller model"):
        list(model.reply(prompt("Hello.")))
    assert not model._contexts._kept
    assert words(model.reply(prompt("Hello."))).startswith(SENTENCE)


@pytest.mark.parametrize("quick", [True, False])
def test_half_precision_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: quick)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert dtype_for("cpu") == (torch.bfloat16 if quick else torch.float32)


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    with hub.serve({"someone/llama": llama}) as serving:
        for name, value in {
            "HF_ENDPOINT": serving.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield serving


@pytest.mark.slow
async def test_a_model_comes_from_the_hub_once(served: hub.Hub) -> None:
    async with started(Transformers("someone/llama")) as engine:
        assert "".join(await reply(engine)) == SENTENCE
    assert "model.safetensors" in served.fetched
    served.fetched.clear()
    served.gated.add("someone/llama")  # what is here needs no licence, and nobody is asked
    async with started(Transformers("someone/llama")) as engine:
        assert "".join(await reply(engine)) == SENTENCE
    assert not served.fetched


async def refusal(model: str) -> str:
    engine = Transformers(model)
    with pytest.raises(EngineError) as refused:
        await engine.start(lambda progress: None)
    await engine.stop()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.slow
async def test_what_the_hub_refuses_is_told(served: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no model someone/else" in await refusal("someone/else")
    served.gated.add("someone/llama")
    served.tokens.add("right")
    assert "someone/llama has terms to accept" in await refusal("someone/llama")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "The token is wrong" in await refusal("someone/llama")
    monkeypatch.setenv("HF_TOKEN", "right")
    async with started(Transformers("someone/llama")) as engine:
        assert await reply(engine)


@pytest.mark.slow
async def test_a_hub_that_is_not_there(served: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "Check your internet connection" in await refusal("someone/llama")


# -- beside the others -------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_after_a_crash_it_answers_again(llama: Path) -> None:
    others = workers()
    async with started(Transformers(str(llama))) as engine:
        (process,) = workers(others)
        async with aclosing(engine.written(prompt("Hello."))) as said:
            await anext(said)
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                while True:
                    await anext(said)
        await engine._place.ready()
        assert "".join(await reply(engine)) == SENTENCE


def test_it_is_in_the_catalogue(tmp_path: Path) -> None:
    settings = Settings(mind=MindSettings(engine="transformers", model="someone/llama"))
    assert isinstance(create(CATALOGUE["mind", "transformers"], settings, tmp_path), Transformers)


def test_a_template_may_be_asked_for_itself(llama: Path) -> None:
    messages: list[ChatMessage] = [{"role": "system", "content": "A"}, {"role": "user", "content": "B"}]
    assert Template(mind(llama)._tokenizer, "x").render(messages).endswith("<|user|>B<|end|><|assistant|>")
