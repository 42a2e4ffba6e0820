"""The runner of the documents' blocks notices what is wrong, and says where."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.docs.pages import PageError, matches, read_page, unreadable
from tests.docs.player import Player
from tests.servers import wait_until


def play(text: str, folder: Path, seconds: float = 20, **environment: str) -> Path:
    """Run a page with this text; answers with the folder it was run in."""
    settings = {"DATABASE_URL": f"sqlite:///{folder / 'database.sqlite3'}", **environment}
    with Player(read_page("page.md", dedent(text)), folder / "page", settings) as player:
        player.play(seconds)
        return player.folder


def assert_refused(text: str, folder: Path, *words: str, seconds: float = 20) -> None:
    with pytest.raises(PageError) as refused:
        play(text, folder, seconds)
    for word in words:
        assert word in str(refused.value)


def test_shell_blocks_are_one_shell_in_one_folder(tmp_path: Path) -> None:
    folder = play(
        """\
        ```sh
        name=Ирина
        mkdir -p here && cd here
        ```
        and then
        ```sh
        echo "$name" >told
        ```
        """,
        tmp_path,
    )
    assert (folder / "here" / "told").read_text(encoding="utf-8") == "Ирина\n"


def test_python_blocks_are_one_python_beside_the_shell_with_a_migrated_database(tmp_path: Path) -> None:
    folder = play(
        """\
        ```python
        from stocksync import Runtime, StockSyncConfig
        sync = Runtime(StockSyncConfig.load())
        ```
        ```python
        open("told", "w").write(str(len(sync.queries.status(sync.clock(), 6)) > 0))
        ```
        ```sh
        grep True told
        ```
        """,
        tmp_path,
    )
    assert (folder / "told").read_text() == "True"


def test_a_file_of_the_page_is_saved_and_not_run(tmp_path: Path) -> None:
    folder = play(
        """\
        <!-- file: shop/sell.py -->
        ```python
        raise SystemExit("run")
        ```
        ```sh
        test -f shop/sell.py
        ! python shop/sell.py
        ```
        """,
        tmp_path,
    )
    assert (folder / "shop" / "sell.py").read_text() == 'raise SystemExit("run")\n'


def test_a_failing_shell_block_is_found_with_its_line_and_what_it_printed(tmp_path: Path) -> None:
    text = "# Page\n\n```sh\necho before\nfalse\necho after\n```\n"
    assert_refused(text, tmp_path, "page.md:4", "exit code 1", "before\n", "line 5: this failed: false")


def test_an_unset_variable_is_found(tmp_path: Path) -> None:
    assert_refused("```sh\necho $NO_SUCH_SETTING\n```\n", tmp_path, "page.md:2", "NO_SUCH_SETTING")


def test_a_failing_python_block_is_found_with_its_line(tmp_path: Path) -> None:
    text = "# Page\n\n```python\none = 1\none + 'two'\n```\n"
    assert_refused(text, tmp_path, "page.md:4", 'page.md", line 5', "TypeError")


def test_a_block_that_does_not_end_is_found(tmp_path: Path) -> None:
    assert_refused("```sh\necho waits\nsleep 60\n```\n", tmp_path, "within 1 s", "waits", seconds=1)


def test_what_is_printed_is_compared(tmp_path: Path) -> None:
    page = "```sh\necho taken 12\necho\necho done\n```\n\nIt prints\n\n<!-- prints -->\n```text\n{}\n```\n"
    play(page.format("taken …\n\ndone"), tmp_path / "right")
    assert_refused(page.format("taken 13\n…"), tmp_path / "wrong", "page.md:2", "taken 13", "taken 12")


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nb\nc\n", False),
        ("a … c", "a b c", True),
        ("a … c", "a b\nc", False),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nd", True),
        ("…", "", True),
        ("a  ", "a", True),
        ("1.5", "1x5", False),
    ],
)
def test_an_ellipsis_is_any_text(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_what_a_page_leaves_running_is_ended(tmp_path: Path) -> None:
    folder = play("```sh\n(sleep 300 & sleep 301) &\necho $! >id\n```\n", tmp_path)
    number = int((folder / "id").read_text())
    wait_until(lambda: not psutil.pid_exists(number), message="the page's process to be gone")


def test_a_network_command_is_noted_and_not_run(tmp_path: Path) -> None:
    text = "```sh\nsudo -u postgres rm -rf /nowhere\npip install 'stocksync[{}]'\n```\n"
    play(text.format("all,sqlalchemy"), tmp_path / "right")
    assert_refused(text.format("all,airship"), tmp_path / "wrong", "no extra airship")


@pytest.mark.parametrize(
    "command",
    [
        "docker build -f deploy/no.Dockerfile .",
        "sudo systemctl enable stocksync-no@1",
        "pip install -r no.txt",
    ],
)
def test_a_file_that_is_not_there_is_found(command: str, tmp_path: Path) -> None:
    assert_refused(f"```sh\n{command}\n```\n", tmp_path, "no")


def test_a_clone_is_a_checkout_that_is_set_up(tmp_path: Path) -> None:
    play(
        """\
        ```sh
        git clone https://example.com/shop/stocksync.git
        cd stocksync
        bin/setup --dev
        .venv/bin/python -m stocksync --help
        ```
        """,
        tmp_path,
    )


def test_a_page_may_be_read_in_a_checkout(tmp_path: Path) -> None:
    play("<!-- folder: checkout -->\n```sh\ntest -f pyproject.toml\n```\n", tmp_path)


def test_a_page_sees_no_setting_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_SYNC_LOG_LEVEL", "DEBUG")
    assert os.environ["STOCK_SYNC_LOG_LEVEL"]
    play('```sh\ntest -z "${STOCK_SYNC_LOG_LEVEL-}"\n```\n', tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```console\n$ ls\n```\n", "write sh"),
        ("```\ndrawing\n```\n", "write text"),
        ("```sh\nls\n", "not closed"),
        ("<!-- file: a.py -->\nwords\n", "a block must follow"),
        ("<!-- skip: -->\n```sh\nls\n```\n", "needs a reason"),
        ("<!-- prints -->\n```text\na\n```\n", "right after a block"),
        ("<!-- database: oracle -->\n", "sqlite, postgresql"),
    ],
)
def test_a_page_that_breaks_the_convention_is_refused(text: str, said: str) -> None:
    with pytest.raises(PageError, match=said):
        read_page("page.md", text)


def test_a_block_in_a_list_loses_its_indent() -> None:
    page = read_page("page.md", "1. do\n\n   ```sh\n   if true; then\n     ls\n   fi\n   ```\n")
    assert page.blocks[0].text == "if true; then\n  ls\nfi\n"


@pytest.mark.parametrize(
    ("language", "text", "faults"),
    [
        ("yaml", "a: [1", 1),
        ("yaml", "a: 1", 0),
        ("toml", "a = ", 1),
        ("json", "{", 1),
        ("ini", "[Service]\nEnvironment=A=1\nEnvironment=B=2", 0),
        ("ini", "[Service\n", 1),
    ],
)
def test_a_file_that_no_program_could_read_is_found(language: str, text: str, faults: int) -> None:
    page = read_page("page.md", f"```{language}\n{text}\n```\n")
    assert len(list(unreadable(page))) == faults
