"""What CONTRIBUTING.md tells a newcomer works as it is written, and the doors beside it lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType, SimpleNamespace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hatchling.build import build_sdist, build_wheel

import csm
import start
from config import Settings, engines, models
from config.places import ROOT
from pipeline.engine import EngineStatus
from pipeline.engines.catalogue import create
from pipeline.tools.calls import ToolCall
from pipeline.tools.owner import OwnerTools
from pipeline.tts import TextToSpeech
from start import environment
from tests import checks
from tests.web.conftest import served

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GITHUB = ROOT / ".github"


def chapter(title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    return str(text)


def code_of(title: str, language: str = "python") -> list[str]:
    return [dedent(code) for code in re.findall(rf"```{language}\n(.*?)```", chapter(title), re.DOTALL)]


def entry(code: str, module: ModuleType) -> Any:
    """What an entry of a table makes, in the module that has the table."""
    return eval(f"({code.strip().rstrip(',')})", vars(module))


async def test_the_voice_of_the_guide_beeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, in_catalogue, in_models = code_of("Add a voice engine")
    beeper = ModuleType("pipeline.tts.beeper")
    exec(compile(code, "beeper.py", "exec"), vars(beeper))
    monkeypatch.setitem(sys.modules, beeper.__name__, beeper)
    spec = entry(in_catalogue, engines)
    monkeypatch.setattr(engines, "CATALOGUE", {**engines.CATALOGUE, ("voice", "beeper"): spec})
    monkeypatch.setattr(models, "CATALOGUE", engines.CATALOGUE)
    assert entry(in_models, models).label == "Beeper"

    engine: Any = create(spec, Settings(), tmp_path)
    voice: TextToSpeech = engine
    assert voice.status == EngineStatus("beeper", "stopped")
    await voice.start(lambda progress: None)
    assert voice.status.state == "ready"
    speaker = voice.speaker()
    beeps = [spoken.samples async for spoken in speaker.speak("three short words")]
    await speaker.close()
    await voice.stop()
    assert len(beeps) == 3
    assert 0.1 < np.abs(np.concatenate(beeps)).max() <= 1


def test_the_model_of_the_guide_can_be_judged() -> None:
    (row,) = code_of("Add a model to an existing engine")
    model = entry(row, models)
    assert (model.stage, model.engine) == ("mind", "llama")
    assert engines.fetches(model.stage, model.engine, model.name), "its file is known"


def test_the_page_of_the_guide_is_shown(tmp_path: Path) -> None:
    """Its parts are put where the guide says, in a copy."""
    (template,) = code_of("Add a page", "html")
    route, navigation = code_of("Add a page")
    shutil.copytree(ROOT / "web" / "templates", tmp_path / "templates")
    (tmp_path / "templates" / "hello.html").write_text(template, encoding="utf-8")
    before, returned, after = (ROOT / "web" / "pages.py").read_text(encoding="utf-8").rpartition("    return router\n")
    code = (
        re.sub(r"^ALL = .*$", navigation.strip(), before, flags=re.MULTILINE) + indent(route, "    ") + returned + after
    )
    pages: dict[str, Any] = {"__name__": "pages", "__file__": str(tmp_path / "pages.py")}
    exec(compile(code, "pages.py", "exec"), pages)

    app = FastAPI()
    app.include_router(pages["pages"](SimpleNamespace(settings=Settings()), version="1", token_needed=False))
    shown = TestClient(app).get("/hello").text
    assert "<h1>Hello</h1>" in shown
    assert "<title>Hello – Parley</title>" in shown
    assert '<a href="/hello" aria-current="page">Hello</a>' in shown
    for file in set(re.findall(r"`web/static/(\S+hello\.\w+)`", GUIDE)):
        assert f'="/static/{file}"' in shown


async def test_the_built_in_tool_of_the_guide_is_called() -> None:
    code, _ = code_of("Add a tool")
    dice: dict[str, Any] = {}
    exec(compile(code, "dice.py", "exec"), dice)
    owner = OwnerTools(dice["dice_tools"](), Settings().tools)
    (tool,) = owner.tools()
    assert not owner.asks(tool.name)
    assert await owner.call(ToolCall("x", tool.name, "{}"), "a talk") in "123456"
    assert "import said_tools" in (ROOT / "pipeline/engines/own_tools.py").read_text(encoding="utf-8"), "its place"


async def test_the_tool_of_the_guide_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, code = code_of("Add a tool")
    light: dict[str, Any] = {"__name__": "light"}
    exec(compile(code, "light.py", "exec"), light)
    async with served(tmp_path) as server:
        server.engines.mind.calls = [[ToolCall("x", light["LIGHT"]["name"], '{"on": true}')]]
        server.engines.mind.text = "There you are."
        await light["ask"]("Please switch the light on.", f"{server.url}/v1")
    assert capsys.readouterr().out.splitlines() == ["There you are.", "The light is on.", "There you are."]
    asked, answered = server.engines.mind.prompts
    assert asked.tools[0].name == light["LIGHT"]["name"]
    assert answered.history[-1].text == "done"


def test_every_file_that_the_guide_names_is_there() -> None:
    made_by_the_reader = {"pipeline/tts/beeper.py", "pipeline/tools/builtin/dice.py", "web/templates/hello.html",
                          "web/static/css/hello.css", "web/static/js/hello/hello.js"}  # fmt: skip
    named = set(re.findall(r"`([\w.][\w./-]*/[\w.-]*)`", GUIDE)) | set(re.findall(r"\]\(([\w./-]+)\)", GUIDE))
    assert len(named) > 15
    for name in named - made_by_the_reader:
        assert (ROOT / name).exists(), name


def test_the_checks_of_a_commit_are_those_of_the_test_command() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    script, command, *arguments = shlex.split(hook["entry"])[1:]
    assert (script, command) == ("setup.py", "test")
    assert environment.HANDED_OVER[command][0] == checks.__name__
    assert checks.parser().parse_args(arguments).style


def test_style_alone_runs_no_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert [check.module for check in checks.STYLE] == ["ruff", "ruff", "mypy"]
    with pytest.raises(SystemExit):
        checks.main(["--style", "tests/rag"])
    assert "--style runs no tests" in capsys.readouterr().err


def test_the_workflow_runs_the_test_command_on_three_systems() -> None:
    job = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]["test"]
    systems = job["strategy"]["matrix"]["os"]
    assert {system.partition("-")[0] for system in systems} == {"ubuntu", "macos", "windows"}
    assert job["steps"][-1]["run"] == "python setup.py test"
    for version in job["strategy"]["matrix"]["python"]:
        assert start.OLDEST <= tuple(map(int, version.split("."))) <= start.NEWEST


@pytest.mark.parametrize("form", ["bug.yml", "idea.yml"])
def test_a_form_for_issues_is_whole(form: str) -> None:
    read = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / form).read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(read)
    identities = [field["id"] for field in read["body"]]
    assert len(identities) == len(set(identities))
    assert all(field["type"] in ("textarea", "input") and field["attributes"]["label"] for field in read["body"])


def test_the_distribution_is_the_library_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        folders = {name.partition("/")[0] for name in wheel.namelist()}
        assert folders == {"csm", f"parley_csm-{csm.__version__}.dist-info"}
        assert {"csm/py.typed", "csm/backends/cpu_kernel.cpp"} <= set(wheel.namelist())
    with tarfile.open(tmp_path / build_sdist(str(tmp_path))) as source:
        assert {name.split("/")[1] for name in source.getnames()} == {
            ".gitignore", "csm", "docs", "LICENSE", "pyproject.toml", "PKG-INFO"
        }  # fmt: skip


def test_the_version_is_told_alike() -> None:
    assert PROJECT["project"]["version"] == csm.__version__
    for command in PROJECT["project"]["scripts"].values():
        assert command.startswith("csm.")
