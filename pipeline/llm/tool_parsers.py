"""Which of vLLM's parsers reads the calls that a model writes: each family has a form of its own."""

from __future__ import annotations

import json
from pathlib import Path

_BY_MARK = (
    ("<|python_tag|>", "llama3_json"),
    ("<|tool▁calls▁begin|>", "deepseek_v3"),
    ("<start_function_call>", "functiongemma"),
    ("<function=", "qwen3_coder"),
    ("[TOOL_CALLS]", "mistral"),
    ("<tool_call>", "hermes"),
)
"""A mark in a chat template, and the parser (vllm/tool_parsers) of the models that write it. The first one that
is there counts: newer forms hold the older ones' marks too."""
_KINDS = {
    "llama": {"llama3_json"},
    "mistral": {"mistral"},
    "mistral3": {"mistral"},
    "qwen2": {"hermes"},
    "qwen3": {"hermes", "qwen3_coder"},
    "qwen3_moe": {"hermes", "qwen3_coder"},
    "qwen3_next": {"hermes", "qwen3_coder"},
    "qwen3_5": {"qwen3_coder"},
    "qwen3_5_moe": {"qwen3_coder"},
    "deepseek_v3": {"deepseek_v3"},
    "gemma3_text": {"functiongemma"},
}
"""Parsers that fit a kind of model, as its config.json calls it."""
_ALWAYS = {"gpt_oss": "openai"}
"""Kinds whose form needs no template."""


def tool_parser(folder: Path) -> str | None:
    """None where the model's family is not known, or its template knows no tools: reads what is in its folder."""
    kind = str(_read(folder / "config.json").get("model_type", ""))
    if kind in _ALWAYS:
        return _ALWAYS[kind]
    template = _template(folder)
    if "tools" not in template:
        return None
    parser = next((parser for mark, parser in _BY_MARK if mark in template), None)
    if kind == "llama" and parser is None and "ipython" in template:  # Llama 3.2's, which writes bare JSON
        parser = "llama3_json"
    return parser if parser in _KINDS.get(kind, set()) else None


def _template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    told = _read(folder / "tokenizer_config.json").get("chat_template", "")
    if isinstance(told, list):  # several, by name
        told = next((each.get("template", "") for each in told if each.get("name") in ("tool_use", "default")), "")
    return told if isinstance(told, str) else ""


def _read(file: Path) -> dict[str, object]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
