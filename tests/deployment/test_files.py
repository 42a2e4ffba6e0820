"""What stands ready for Docker, platforms and systemd names only files, commands and settings that exist."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

import stocksync.cli  # noqa: F401 (registers every command)
from stocksync.cli.frame import cli
from stocksync.config import StockSyncConfig, variable_of
from tests.docs.pages import ROOT, read_page

SETTINGS = {variable_of(field) for field in StockSyncConfig.model_fields}
OURS = re.compile(r"STOCK_SYNC_|ALLEGRO_MICROSERVICE_|DATABASE_URL|REDIS_URL")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
APP = json.loads((ROOT / "app.json").read_text(encoding="utf-8"))
UNITS = ROOT / "deploy/systemd"
SERVICES = {name: one for name, one in COMPOSE["services"].items() if one["image"] == "stocksync"}


def is_setting(name: str) -> bool:
    return name.removesuffix("_FILE") in SETTINGS


def dockerfile() -> list[list[str]]:
    """Its instructions, each as its words."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]


def copied() -> list[tuple[str, str]]:
    """What the Dockerfile copies out of the project, and where to."""
    words = [shlex.split(rest) for name, rest in dockerfile() if name == "COPY"]
    return [(source, target) for source, target in (one for one in words if len(one) == 2)]


# The image


def test_the_image_holds_all_that_the_processes_import(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    for source, target in copied():
        place = tmp_path / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, symlinks=True)
        else:
            shutil.copy(ROOT / source, place)
    app = tmp_path / "app"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(app), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url}
    program = (
        "import stocksync, stocksync.sandbox.demo, stocksync.queue.scheduler, jobs.worker, jobs.scheduler\n"
        "from stocksync.web import create_app\n"
        f"assert stocksync.__file__.startswith({str(app)!r})\n"
        "client = create_app().test_client()\n"
        "assert client.get('/healthz').status_code == 200\n"
        "assert client.get('/static/page.css').status_code == 200\n"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True, timeout=60)


def test_what_the_image_copies_is_let_through_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    for source, _ in copied():
        assert any(source == one or source.startswith(f"{one}/") for one in allowed)
    assert not [
        secret for secret in (".env", ".stocksync", ".git") for one in allowed if fnmatch(secret, one)
    ]


def test_the_image_runs_as_nobody_that_is_root_and_installs_the_lock_with_its_hashes() -> None:
    instructions = dockerfile()
    last_stage = instructions[max(n for n, one in enumerate(instructions) if one[0] == "FROM") :]
    assert [rest for name, rest in last_stage if name == "USER"] == ["10001:10001"]
    assert any(name == "HEALTHCHECK" for name, _ in last_stage)
    assert any("--require-hashes" in rest for name, rest in instructions if name == "RUN")
    set_there = re.findall(r"(\w+)=", " ".join(rest for name, rest in last_stage if name == "ENV"))
    assert all(is_setting(name) for name in set_there if OURS.match(name))


# Compose


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_of_ours_after_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["command"][0] in cli.commands
    assert all(is_setting(variable) for variable in service["environment"])
    assert set(service["depends_on"]) <= set(COMPOSE["services"])
    for needed, how in service["depends_on"].items():
        ends = how["condition"] == "service_completed_successfully"
        assert ends or "test" in COMPOSE["services"][needed]["healthcheck"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_compose_runs_every_process_of_the_procfile() -> None:
    processes = {line.split(":")[0] for line in procfile()}
    assert {service["command"][0] for service in SERVICES.values()} == processes - {"release"} | {"migrate"}


def test_compose_opens_the_page_at_this_machine_alone_and_nothing_else() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("process", ["worker", "scheduler"])
def test_the_health_check_of_a_process_looks_whether_it_lives(
    process: str, sqlite_url: str, redis_url: str
) -> None:
    command = SERVICES[process]["healthcheck"]["test"][1:]
    environment = os.environ | {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command[1:]], env=environment, check=False, timeout=60)
    assert done.returncode == 1  # nothing lives


# Platforms


def procfile() -> list[str]:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_app_json_names_settings_and_processes_that_exist() -> None:
    assert [name for name in APP["env"] if not is_setting(name)] == []
    assert all(one["description"].strip() for one in APP["env"].values())
    assert set(APP["formation"]) == {line.split(":")[0] for line in procfile()} - {"release"}
    for script in APP["scripts"].values():
        assert script.split()[:3] == ["python", "-m", "stocksync"]
        assert script.split()[3] in cli.commands


def test_the_values_of_app_json_make_a_configuration() -> None:
    values = {name: one["value"] for name, one in APP["env"].items() if "value" in one}
    config = StockSyncConfig.load(values | {"DATABASE_URL": "postgres://h/d", "DYNO": "web.1"})
    settings = {name for name in values if name.startswith("STOCK_SYNC_")}
    assert settings <= {variable_of(field) for field in config.model_fields_set}


# systemd


def unit(path: Path) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(path.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("path", sorted(UNITS.glob("*.service")), ids=lambda path: path.name)
def test_a_unit_runs_a_command_of_ours(path: Path) -> None:
    read = unit(path)
    program, command, *_ = shlex.split(read["Service"]["ExecStart"])
    assert program == "/opt/stocksync/venv/bin/stocksync"
    assert command in cli.commands
    assert read["Install"]["WantedBy"] == "stocksync.target"
    # Wrong settings end with 2, and do not go away by themselves.
    assert read["Service"]["RestartPreventExitStatus"] == "2"


def test_a_unit_has_no_rights_of_its_own_beside_the_hardening() -> None:
    hardening = unit(UNITS / "stocksync-.service.d/hardening.conf")
    assert hardening["Service"]["User"] == "stocksync"
    for path in UNITS.glob("*.service"):
        assert not set(unit(path)["Service"]) & set(hardening["Service"])


@pytest.mark.parametrize("name", ["web", "worker@1", "scheduler", "migrate"])
def test_systemd_finds_a_unit_as_protected_as_the_page_says(name: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze: apt-get install systemd")
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    command = [
        program,
        "security",
        "--offline=true",
        "--no-pager",
        f"--root={tmp_path}",
        f"stocksync-{name}.service",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd can't analyze offline")
    score = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    page = (ROOT / "docs/operations/one-server.md").read_text(encoding="utf-8")
    said = re.search(r"exposure level of \*\*([\d.]+)\*\*", page)
    assert score, done.stdout + done.stderr
    assert said
    assert float(score[1]) <= float(said[1])


# The pages


@pytest.mark.parametrize("page", sorted((ROOT / "docs/operations").glob("*.md")), ids=lambda page: page.name)
def test_a_page_names_settings_that_exist(page: Path) -> None:
    named = re.findall(r"\b(?:STOCK_SYNC|ALLEGRO_MICROSERVICE)_[A-Z_]+\b", page.read_text(encoding="utf-8"))
    assert [name for name in named if not is_setting(name)] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/operations").glob("*.md")), ids=lambda page: page.name)
def test_a_page_names_commands_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    said: list[Any] = re.findall(r"`stocksync ([a-z]+)(?: ([a-z]+))?", text)
    for block in read_page(page.name, text).blocks:
        if block.language == "sh":
            said += re.findall(
                r"(?m)(?:^ *|sudo |exec -?T? ?web |\| )stocksync ([a-z]+)(?: ([a-z]+))?", block.text
            )
    for name, sub in said:
        assert name in cli.commands
        below = getattr(cli.commands[name], "commands", None)
        assert not below or not sub or sub in below
