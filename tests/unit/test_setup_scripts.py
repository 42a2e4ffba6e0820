"""bin/setup, bin/demo, bin/test and .ci/run, on copies of the project where Python's pip is a stand-in."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.checkouts import PROJECT, SCRIPTS, Checkout, write_program


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_executable_and_has_no_fault_of_syntax(script: str) -> None:
    assert os.access(PROJECT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", PROJECT / script], check=False).returncode == 0


def test_the_first_run_installs_and_the_second_finds_nothing_to_do(checkout: Checkout) -> None:
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert "making .venv with Python 3." in first.stdout
    assert "installing what requirements.txt names" in first.stdout

    second = checkout.setup()
    assert second.returncode == 0
    assert second.stdout == "setup: .venv is up to date, nothing to install\nsetup: Redis from here\n"
    assert len(checkout.pip_calls()) == 1


def test_what_is_for_tests_is_installed_once_and_holds_the_rest_too(checkout: Checkout) -> None:
    for arguments in (("--dev",), ("--dev",), ()):
        assert checkout.setup(*arguments).returncode == 0

    [call] = checkout.pip_calls()
    assert call.endswith("-r requirements-dev.txt")


def test_the_newest_of_each_range_goes_into_an_environment_of_its_own_every_time(checkout: Checkout) -> None:
    for _ in range(2):
        assert checkout.setup("--newest").returncode == 0

    assert len(checkout.pip_calls()) == 2
    assert not (checkout.root / ".venv").exists()
    ranges = (checkout.root / ".venv-newest" / "ranges.txt").read_text().splitlines()
    assert {re.split(r"[\[<>=;]", line)[0] for line in ranges} >= {"peewee", "flask", "apprise", "pytest"}
    assert not [line for line in ranges if line.startswith("stocksync")]


def test_the_servers_for_the_tests_are_asked_for_with_those_packages(checkout: Checkout) -> None:
    assert checkout.setup().stdout.endswith("setup: Redis from here\n")
    assert checkout.setup("--dev").stdout.endswith("setup: Redis from here --dev\n")


def test_a_changed_requirement_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.setup()
    with (checkout.root / "requirements.txt").open("a") as file:
        file.write("six\n")

    again = checkout.setup()

    assert again.returncode == 0
    assert "making .venv" not in again.stdout
    assert len(checkout.pip_calls()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda venv: (venv / "bin" / "python").unlink(),
        lambda venv: shutil.rmtree(next(venv.glob("lib/python3*/site-packages/pip"))),
        lambda venv: shutil.rmtree(venv / "bin"),
        lambda venv: (venv / "bin" / "pip").write_text("#!/where/it/was/before/.venv/bin/python"),
    ],
    ids=["no python", "no pip", "half made", "moved from elsewhere"],
)
def test_a_broken_environment_is_made_anew(checkout: Checkout, damage: Any) -> None:
    checkout.setup()
    damage(checkout.root / ".venv")

    again = checkout.setup()

    assert again.returncode == 0, again.stderr
    assert "making it anew" in again.stdout
    assert len(checkout.pip_calls()) == 2
    assert "nothing to install" in checkout.setup().stdout


def test_a_run_that_failed_is_not_taken_for_a_finished_one(checkout: Checkout) -> None:
    (checkout.root / "pip.fails").touch()
    assert checkout.setup().returncode == 1
    (checkout.root / "pip.fails").unlink()

    assert checkout.setup().returncode == 0
    assert len(checkout.pip_calls()) == 2


def test_going_back_to_the_former_requirements_after_a_failed_run_installs_them_again(
    checkout: Checkout,
) -> None:
    checkout.setup("--dev")
    former = (checkout.root / "requirements.txt").read_text()
    (checkout.root / "requirements.txt").write_text("six\n")
    (checkout.root / "pip.fails").touch()
    assert checkout.setup().returncode == 1
    (checkout.root / "requirements.txt").write_text(former)
    (checkout.root / "pip.fails").unlink()

    assert "installing what requirements-dev.txt names" in checkout.setup("--dev").stdout


def test_a_failing_pip_is_reported_in_a_few_lines(checkout: Checkout) -> None:
    (checkout.root / "pip.fails").touch()

    failed = checkout.setup()

    assert failed.returncode == 1
    assert "No matching distribution found for click" in failed.stderr
    assert "pip could not install what requirements.txt names" in failed.stderr
    assert len(failed.stderr.splitlines()) < 12
    assert "line 0 of pip" in (checkout.root / ".venv" / "pip.log").read_text()


def test_of_two_runs_at_once_one_installs(checkout: Checkout) -> None:
    if not shutil.which("flock"):
        pytest.skip("this machine has no flock, so runs at once are not kept apart")
    (checkout.root / "pip.slow").touch()

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: checkout.setup(), range(2)))

    assert [run.returncode for run in runs] == [0, 0]
    assert sorted("waiting for it" in run.stdout for run in runs) == [False, True]
    assert len(checkout.pip_calls()) == 1


def test_without_python_it_says_what_to_install(bare_checkout: Checkout) -> None:
    failed = bare_checkout.setup()

    assert failed.returncode == 1
    assert "no Python 3.11 or newer found" in failed.stderr
    assert "apt-get install python3" in failed.stderr


def test_a_python_that_is_too_old_or_only_a_failing_shim_is_passed_over(checkout: Checkout) -> None:
    write_program(checkout.path / "python3.12", "#!/bin/sh\nexit 127\n")
    write_program(checkout.path / "python3", "#!/bin/sh\nexit 1\n")

    assert f"({checkout.path}/python3.11)" in checkout.setup().stdout


def test_a_python_without_ensurepip_leads_to_the_package_that_has_it(bare_checkout: Checkout) -> None:
    # What Debian's python3 does without python3-venv.
    script = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexit 0\n'
    write_program(bare_checkout.path / "python3", script)

    failed = bare_checkout.setup()

    assert failed.returncode == 1
    assert "apt-get install python3-venv" in failed.stderr


def test_machines_are_made_by_root_alone_and_others_are_told(bare_checkout: Checkout) -> None:
    bare_checkout.replace("bin/id", "echo 1000")
    (bare_checkout.path / "id").unlink()
    (bare_checkout.path / "id").symlink_to(bare_checkout.root / "bin" / "id")

    refused = bare_checkout.run("bin/check-machines")

    assert refused.returncode == 2
    assert "only root can make machines" in refused.stderr


def test_a_read_only_folder_is_named(bare_checkout: Checkout) -> None:
    bare_checkout.root.chmod(0o555)
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        # Permissions do not bind root, so it is run by somebody whom they do.
        nobody = pwd.getpwnam("nobody")
        options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    failed = bare_checkout.run("bin/setup", **options)
    bare_checkout.root.chmod(0o755)

    assert failed.returncode == 1
    assert f"{bare_checkout.root} is read-only" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_something_else_in_the_place_of_the_environment_is_left_alone(checkout: Checkout) -> None:
    (checkout.root / ".venv").write_text("mine")

    failed = checkout.setup()

    assert failed.returncode == 1
    assert "in the way" in failed.stderr
    assert (checkout.root / ".venv").read_text() == "mine"


def test_an_unknown_argument_is_bad_usage(bare_checkout: Checkout) -> None:
    failed = bare_checkout.setup("--everything")

    assert failed.returncode == 2
    assert "usage: bin/setup [--dev | --newest]" in failed.stderr


def test_the_demos_output_is_not_mixed_with_that_of_the_setup(bare_checkout: Checkout) -> None:
    bare_checkout.replace("bin/setup", "echo installing")
    bare_checkout.replace(".venv/bin/python", 'echo "$*"')

    demo = bare_checkout.run("bin/demo", "--exit")

    assert demo.stdout == "-m stocksync demo --exit\n"
    assert demo.stderr == "installing\n"


@pytest.mark.parametrize(
    ("option", "setup", "environment"), [((), "--dev", ".venv"), (("--newest",), "--newest", ".venv-newest")]
)
def test_the_tests_are_run_with_the_given_arguments_in_the_environment_that_was_set_up(
    bare_checkout: Checkout, option: tuple[str, ...], setup: str, environment: str
) -> None:
    bare_checkout.replace("bin/setup", 'echo "setup $*"')
    bare_checkout.replace(f"{environment}/bin/python", 'echo "$*"')

    tests = bare_checkout.run("bin/test", *option, "-k", "one thing")

    assert tests.stdout.splitlines() == [f"setup {setup}", "-m pytest -q -k one thing"]


def test_ci_passes_when_every_check_does(bare_checkout: Checkout) -> None:
    assert ci_with_failing(bare_checkout, "nothing").returncode == 0


@pytest.mark.parametrize("failing", ["ruff check", "ruff format", "mypy", "bin.audit", "bin.docs", "pytest"])
def test_ci_fails_with_any_check_and_runs_the_others_all_the_same(
    bare_checkout: Checkout, failing: str
) -> None:
    ci = ci_with_failing(bare_checkout, failing)

    assert ci.returncode == 1
    assert "-m ruff check ." in ci.stdout
    assert "-m ruff format --check ." in ci.stdout
    assert "-m mypy" in ci.stdout
    assert "-m pytest" in ci.stdout
    assert "== failed:" in ci.stdout


def ci_with_failing(checkout: Checkout, part: str) -> subprocess.CompletedProcess[str]:
    checkout.replace("bin/setup", "exit 0")
    checkout.replace(".venv/bin/python", f'echo "$*"; case "$*" in *"{part}"*) exit 1 ;; esac')
    return checkout.run(".ci/run")
