"""The alert rules and the board use only figures that /metrics has, with labels that it has, and say what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stocksync.store.states import STATUSES
from stocksync.testing import Harness
from stocksync.upkeep.alert_texts import KINDS
from stocksync.web import create_app
from tests.docs.pages import ROOT

RULES = ROOT / "deploy/prometheus/alerts.yml"
BOARD = ROOT / "deploy/grafana/stocksync.json"
VALUES = {"status": STATUSES, "kind": KINDS, "result": ("delivered", "failed", "deferred")}
# What Prometheus itself adds to every scrape.
_OF_PROMETHEUS = {"up": {"job", "instance"}}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """By the name of the rule, or the title of the panel and the letter of its query."""
    panels = json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
    return {rule["alert"]: rule["expr"] for rule in rules()} | {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel["targets"]
    }


@pytest.fixture
def exposed(stock_sync: Harness) -> dict[str, set[str]]:
    """By the name of a sample at /metrics: its labels. A shop with a seller and an open alert, so that every family has one."""
    stock_sync.runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 1, line_item_id="line-1")
    stock_sync.runtime.deliveries.pause("seller-1", "to have an alert")
    stock_sync.runtime.periodic.monitor()
    answer = create_app(stock_sync.runtime).test_client().get("/metrics", base_url="http://localhost")
    assert answer.status_code == 200
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples | _OF_PROMETHEUS


def used(expression: str) -> Iterator[tuple[str, str]]:
    """Every metric of an expression with what stands in its braces."""
    return (
        (found[1], found[2] or "")
        for found in re.finditer(r"\b(stocksync_\w+|up)\b(?:{([^}]*)})?", expression)
    )


@pytest.mark.parametrize("name", expressions())
def test_an_expression_uses_figures_and_labels_that_exist(name: str, exposed: dict[str, set[str]]) -> None:
    expression = expressions()[name]
    found = list(used(expression))
    assert found
    for metric, braces in found:
        assert metric in exposed
        for label, operator, value in re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', braces):
            assert label in exposed[metric]
            values = value.split("|") if operator == "=~" else [value]
            assert set(values) <= set(VALUES.get(label, values))
    grouped = {
        word.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for word in group.split(",")
    }
    assert grouped <= set.union(*(exposed[metric] for metric, _ in found))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert all(len(said[name].strip()) > 20 for name in ("summary", "description", "action"))
    page, anchor = said["runbook_url"].split("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_rule_counts_the_same_figure_of_two_processes_twice() -> None:
    """Every process answers with the figures of the database: their sum is wrong, their maximum right."""
    for expression in expressions().values():
        assert not re.search(r"sum(?: by \([^)]*\))? ?\(\s*(?:rate\(|increase\()?stocksync_", expression)


def test_every_figure_of_metrics_that_can_be_wrong_is_watched(exposed: dict[str, set[str]]) -> None:
    seen = {re.sub(r"_bucket$", "", metric) for text in expressions().values() for metric, _ in used(text)}
    offered = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exposed}
    assert offered - seen == set()


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: apt-get install prometheus")
    for command in (
        ["check", "rules", str(RULES)],
        ["test", "rules", str(ROOT / "tests/deployment/alerts_test.yml")],
    ):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
