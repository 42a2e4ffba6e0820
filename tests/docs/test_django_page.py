"""The Django part of docs/guides/frameworks.md, in a small Django application. Skipped where Django is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, read_page

pytest.importorskip("django")

_MODELS = """
from django.db import models

class Order(models.Model):
    order_id = models.CharField(max_length=100)
    token_id = models.CharField(max_length=100)
    stock_recorded = models.BooleanField(default=False)

class Line(models.Model):
    order = models.ForeignKey(Order, related_name="lines", on_delete=models.CASCADE)
    line_id = models.CharField(max_length=100)
    sku = models.CharField(max_length=100)
    quantity = models.IntegerField()
"""
_SHOP = """
import json
import sys
import django
from django.conf import settings

databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}}
settings.configure(
    INSTALLED_APPS=["orders"], DATABASES=databases, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField"
)
django.setup()
from django.db import connection
from orders.models import Line, Order
from orders.stock import record_what_is_missing, sell
from stocksync.testing import harness

with harness(database_url=f"sqlite:///{sys.argv[1]}") as stock_sync:
    with connection.schema_editor() as editor:
        editor.create_model(Order)
        editor.create_model(Line)
    sell(Order(order_id="order-1", token_id="seller-1"))
    recorded = [list(Order.objects.values_list("stock_recorded", flat=True)), len(stock_sync.operations())]
    Order.objects.update(stock_recorded=False)
    record_what_is_missing()
    again = [list(Order.objects.values_list("stock_recorded", flat=True)), len(stock_sync.operations())]
    delivered = stock_sync.deliver_now()["succeeded"]
    Line.objects.update(sku="RADIO")  # not what was recorded under this line id: refused
    Order.objects.update(stock_recorded=False)
    other = Order.objects.create(order_id="order-2", token_id="seller-1")
    other.lines.create(line_id="order-2-1", sku="ALARM-CLOCK", quantity=1)
    record_what_is_missing()
    refused = dict(Order.objects.values_list("order_id", "stock_recorded"))
    print(json.dumps([recorded, again, delivered, refused]))
"""


def sold(folder: Path) -> Any:
    """What the application prints of an order that is sold, and recorded once more."""
    name = "docs/guides/frameworks.md"
    page = read_page(name, (ROOT / name).read_text(encoding="utf-8"))
    (stock,) = [block.text for block in page.blocks if block.file == "orders/stock.py"]
    lines = 'order.lines.create(line_id="order-1-1", sku="ALARM-CLOCK", quantity=2)'
    (folder / "orders").mkdir()
    for file, text in {
        "__init__.py": "",
        "models.py": _MODELS,
        "stock.py": stock.replace("# … your own code: lines, stock …", lines),
    }.items():
        (folder / "orders" / file).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _SHOP, str(folder / "shop.sqlite3")],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_order_is_recorded_after_the_commit_and_once_however_often_it_is_repeated(tmp_path: Path) -> None:
    recorded, again, delivered, refused = sold(tmp_path)

    assert recorded == [[True], 1]
    assert again == [[True], 1]
    assert delivered == 1
    assert refused == {
        "order-1": False,
        "order-2": True,
    }  # one that can't be recorded does not stop the others
