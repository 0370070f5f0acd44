"""Which models are offered the owner's tools; and vLLM is told how one writes its calls, where that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.engines.lease import LeasedMind
from pipeline.llm import UsesTools
from pipeline.llm.builtin import BuiltinReplies
from pipeline.llm.llama import Llama
from pipeline.llm.small import SMALL
from pipeline.llm.tool_parsers import tool_parser

HERMES = "{% if tools %}<tools>{{ tools }}</tools> <tool_call>{% endif %}"


@pytest.mark.parametrize(
    ("kind", "template", "parser"),
    [
        ("qwen2", HERMES, "hermes"),
        ("qwen3", HERMES, "hermes"),
        ("qwen3_moe", HERMES + "<function=example>", "qwen3_coder"),
        ("llama", "{{ tools }} <|python_tag|>", "llama3_json"),
        ("llama", "{{ tools }} Environment: ipython", "llama3_json"),
        ("llama", HERMES, None),  # a fine-tuned one that writes in a form of its own
        ("llama", "<|start_header_id|>", None),
        ("mistral", "{{ tools }} [TOOL_CALLS]", "mistral"),
        ("deepseek_v3", "{{ tools }} <|tool▁calls▁begin|>", "deepseek_v3"),
        ("gpt_oss", "", "openai"),
        ("unheard_of", HERMES, None),
        ("qwen2", "no such form", None),
    ],
)
def test_the_parser_goes_by_family_and_template(tmp_path: Path, kind: str, template: str, parser: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert tool_parser(tmp_path) == parser
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert tool_parser(tmp_path) == parser


def test_a_folder_without_its_files_has_none(tmp_path: Path) -> None:
    assert tool_parser(tmp_path) is None
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    assert tool_parser(tmp_path) is None


@pytest.mark.parametrize(
    ("parameters", "knows", "uses"), [(SMALL, True, True), (SMALL - 1, True, False), (SMALL, False, False)]
)
def test_small_models_and_those_whose_template_knows_no_tools_are_offered_none(
    parameters: int, knows: bool, uses: bool
) -> None:
    mind = Llama("any.gguf")
    assert not mind.uses_tools  # before it has started
    mind._parameters, mind._knows_tools = parameters, knows
    assert isinstance(mind, UsesTools)
    assert mind.uses_tools is LeasedMind(mind).uses_tools is uses


def test_the_built_in_replies_are_offered_none() -> None:
    assert not LeasedMind(BuiltinReplies()).uses_tools
