"""Finds which of vLLM's parsers reads the tool calls of a model; each model family writes them in its own form."""

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
"""Marks in chat templates, and the parser (vllm/tool_parsers) of the models that write them. The first mark found
counts, because newer forms contain the marks of older ones too."""
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
"""Parsers that fit each model type, as named in config.json."""
_ALWAYS = {"gpt_oss": "openai"}
"""Model types whose parser does not depend on the template."""


def tool_parser(folder: Path) -> str | None:
    """Return the parser for the model in a folder; None if its family is unknown, or its template has no tools."""
    kind = str(_read(folder / "config.json").get("model_type", ""))
    if kind in _ALWAYS:
        return _ALWAYS[kind]
    template = _template(folder)
    if "tools" not in template:
        return None
    parser = next((parser for mark, parser in _BY_MARK if mark in template), None)
    if kind == "llama" and parser is None and "ipython" in template:  # Llama 3.2, which writes bare JSON
        parser = "llama3_json"
    return parser if parser in _KINDS.get(kind, set()) else None


def _template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    told = _read(folder / "tokenizer_config.json").get("chat_template", "")
    if isinstance(told, list):  # several templates, by name
        told = next((each.get("template", "") for each in told if each.get("name") in ("tool_use", "default")), "")
    return told if isinstance(told, str) else ""


def _read(file: Path) -> dict[str, object]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
