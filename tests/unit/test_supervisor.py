"""The supervisor: what it starts it names, restarts and ends; and the guards before a start."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from stocksync.sandbox.supervisor import CannotStart, Supervisor, free_port, read_procfile
from tests.servers import wait_until

PROJECT = Path(__file__).parents[2]


@dataclass
class Run:
    """A supervisor at work."""

    supervisor: Supervisor
    out: io.StringIO

    def shows(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until the output holds `pattern` that often; returns all that it matched."""
        return wait_until(
            lambda: found if len(found := re.findall(pattern, self.out.getvalue())) >= times else [],
            message=lambda: f"{times} times {pattern!r} in:\n{self.out.getvalue()}",
        )


@contextlib.contextmanager
def running(commands: Mapping[str, str], **options: Any) -> Iterator[Run]:
    out = io.StringIO()
    with Supervisor(commands, out=out, **options) as supervisor:
        yield Run(supervisor, out)


def is_running(pid: str | int) -> bool:
    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def python(program: str) -> str:
    return f"python -c '{program}'"


def test_every_line_carries_the_name_of_its_process() -> None:
    with running({"web": "echo one; echo two >&2; sleep 60", "worker": "echo три; sleep 60"}) as run:
        run.shows(r"(?m)^web    \| one$")
        run.shows(r"(?m)^web    \| two$")
        run.shows(r"(?m)^worker \| три$")


def test_a_last_line_without_an_end_is_shown_too() -> None:
    with running({"web": "printf unfinished"}) as run:
        run.shows(r"(?m)^web    \| unfinished$")


def test_a_process_that_ends_is_started_again_after_a_second_however_often() -> None:
    with running({"web": "sleep 600"}) as run:
        for death in (1, 2):
            os.kill(int(run.shows(r"web started, process (\d+)", times=death)[-1]), signal.SIGKILL)
            run.shows(r"web was ended by SIGKILL; starting it again in 1 s", times=death)
        run.shows(r"web started, process (\d+)", times=3)


def test_a_stop_ends_a_process_and_those_that_it_started() -> None:
    with running({"web": "sh -c 'sleep 600 & echo pid $!; wait'"}) as run:
        child = run.shows(r"pid (\d+)")[0]
        parent = run.shows(r"process (\d+)")[0]

    assert not is_running(child)
    assert not is_running(parent)


def test_a_process_that_stops_in_order_is_given_the_time_and_its_last_words_are_shown() -> None:
    with running(
        {"web": "sh -c 'trap \"sleep 0.5; echo bye; exit\" TERM; echo up; while :; do sleep 0.1; done'"}
    ) as run:
        run.shows(r"\| up")

    assert "web    | bye" in run.out.getvalue()
    assert "killing" not in run.out.getvalue()


def test_a_process_deaf_to_sigterm_is_killed_after_the_grace() -> None:
    deaf = python('import signal, time; signal.signal(15, signal.SIG_IGN); print("deaf"); time.sleep(600)')
    with running({"web": deaf}, stop_grace=0.3) as run:
        run.shows(r"\| deaf")
        pid = run.shows(r"process (\d+)")[0]

    assert "killing web" in run.out.getvalue()
    assert not is_running(pid)


def test_asked_again_while_it_stops_it_does_not_wait_for_the_grace() -> None:
    deaf = python('import signal, time; signal.signal(15, signal.SIG_IGN); print("deaf"); time.sleep(600)')
    with running({"web": deaf}, stop_grace=600) as run:
        run.shows(r"\| deaf")
        run.supervisor.request_stop()
        threading.Timer(0.5, run.supervisor.request_stop).start()

    assert "killing web" in run.out.getvalue()


def test_what_a_crashed_process_leaves_running_is_ended_before_it_starts_again() -> None:
    with running({"web": "sh -c 'sleep 600 & echo pid $!; exit 1'"}) as run:
        run.shows("starting it again")
        orphan = run.shows(r"pid (\d+)")[0]
        wait_until(lambda: not is_running(orphan))


def test_python_means_the_one_that_the_supervisor_runs_on() -> None:
    with running({"web": python("import sys; print(sys.prefix)")}) as run:
        run.shows(rf"(?m)\| {re.escape(sys.prefix)}$")


def test_variables_of_the_environment_and_of_the_line_reach_the_process() -> None:
    commands = {"web": "INNER=two sh -c 'echo $OUTER-$INNER ${PORT:-8000}; sleep 60'"}
    with running(commands, env={"OUTER": "one", "PATH": os.environ["PATH"]}) as run:
        run.shows(r"\| one-two 8000")


def test_a_single_command_has_no_shell_beside_it() -> None:
    with running({"web": "sleep 600"}) as run:
        pid = run.shows(r"process (\d+)")[0]
        wait_until(lambda: psutil.Process(int(pid)).name() == "sleep")


def test_when_nobody_reads_its_output_any_more_it_ends_everything() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Supervisor({"web": "sleep 600"}, out=Closed()) as supervisor:
        supervisor.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_with_exit_code_0(number: signal.Signals) -> None:
    with supervising_process("sleep 600") as (process, child):
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert not is_running(child)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death"
)
def test_a_supervisor_that_is_killed_leaves_no_process_behind() -> None:
    with supervising_process("sleep 600") as (process, child):
        process.kill()
        wait_until(lambda: not is_running(child))


@contextlib.contextmanager
def supervising_process(command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Python that supervises `command`, and the id of the process of that."""
    program = (
        "from stocksync.queue.shutdown import on_stop_signals\n"
        "from stocksync.sandbox.supervisor import Supervisor\n"
        f"supervisor = Supervisor({{'web': {command!r}}})\n"
        "on_stop_signals(supervisor.request_stop)\n"
        "with supervisor: supervisor.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        try:
            assert process.stdout is not None
            started = re.search(r"process (\d+)", process.stdout.readline())
            assert started is not None
            yield process, int(started[1])
        finally:
            if process.poll() is None:
                process.kill()


def test_the_projects_procfile_names_its_processes_and_the_release_is_left_out() -> None:
    assert list(read_procfile(PROJECT / "Procfile")) == ["web", "worker", "scheduler"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("web: a\n\n# b\nworker a\n", r"line 4 is not `name: command`: 'worker a'"),
        ("web:\n", "line 1 is not"),
        ("web: a\nweb: b\n", "line 2: there is a process web already"),
    ],
)
def test_a_procfile_with_a_fault_is_refused_by_its_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "Procfile").write_text(text)

    with pytest.raises(CannotStart, match=reason):
        read_procfile(tmp_path / "Procfile")


def test_a_taken_port_is_refused_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            CannotStart, match=f"port {port} on 127.0.0.1 is taken; choose another with --port"
        ):
            free_port("127.0.0.1", port)


def test_a_free_port_is_found_and_left_free() -> None:
    port = free_port("127.0.0.1")
    assert free_port("127.0.0.1", port) == port

    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_of_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"on 192\.0\.2\.1 can't be listened on"):
        free_port("192.0.2.1", 8000)
