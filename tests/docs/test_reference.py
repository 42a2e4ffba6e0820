"""docs/reference/ and `.env.example` say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bin import reference_settings
from bin.reference import PROJECT, documents, outdated
from stocksync.config import StockSyncConfig, variable_of


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return documents()


def test_the_reference_is_up_to_date(made: dict[str, str]) -> None:
    assert outdated(made) == [], "run bin/reference and commit what it wrote"


def test_no_page_of_the_reference_is_left_over(made: dict[str, str]) -> None:
    there = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "docs" / "reference").iterdir()}
    assert there <= set(made)


def test_a_page_that_differs_and_one_that_is_missing_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "b.md").write_text("same")
    assert outdated({"a.md": "new", "b.md": "same", "c.md": "new"}, tmp_path) == ["a.md", "c.md"]


def test_a_setting_without_a_description_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_settings, "GROUPS", reference_settings.GROUPS[1:])
    with pytest.raises(SystemExit, match="database_url"):
        reference_settings.check_complete()


def test_the_example_of_the_environment_is_a_configuration_of_every_setting(made: dict[str, str]) -> None:
    lines = re.findall(r"(?m)^(?:# )?([A-Z][A-Z_]+)=(.*)$", made[".env.example"])
    names = [name for name, _ in lines]
    config = StockSyncConfig.load(dict(lines))

    assert sorted(names) == sorted(variable_of(field) for field in StockSyncConfig.model_fields)
    defaults = StockSyncConfig.load({})
    given = {"database_url", "redis_url", "microservice_base_url", "microservice_jwt_token"}
    assert config.model_dump(exclude=given) == defaults.model_dump(exclude=given)


def test_the_reference_has_every_command_error_metric_and_table(made: dict[str, str]) -> None:
    for page, heading in {
        "commands": "## operations retry",
        "errors": "## IdempotencyConflict",
        "metrics": "| `stocksync_requests_total` | counter | `result` |",
        "tables": "## pending_stock_operations",
        "http-api": "## `POST /api/v1/orders/process`",
    }.items():
        assert heading in made[f"docs/reference/{page}.md"]
