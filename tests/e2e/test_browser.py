"""The page in a real Chromium, with every process real: what an operator does when orders hang."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from stocksync.sandbox import Sandbox
from tests.conftest import _do_without
from tests.e2e.stage import DESKTOP, PHONE, SCREENS, Shop, Visitor, browsing, visiting
from tests.page_shop import PAUSED, filled, serving
from tests.servers import RedisServer, ServerMissing, wait_until
from tests.shop import SELLER, WAREHOUSE, form

SIZES = [pytest.param(DESKTOP, id="desktop"), pytest.param(PHONE, id="phone")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with browsing() as opened:
            yield opened
    except ServerMissing as missing:
        _do_without(missing)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(token="sandbox") as running:
        yield running


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, sandbox: Sandbox, browser: Browser
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("page")
    redis_server.start()
    redis_server.flush()
    with Shop(folder, f"sqlite:///{folder / 'shop.db'}", redis_server.url, sandbox) as opened:
        opened.runtime.inventory.set_on_hand({"A": 10_000, "B": 10_000}, WAREHOUSE)
        opened.open()
        yield opened
        opened.close()


@pytest.fixture(autouse=True)
def _well_again(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.set_faults(not_success_share=0.0)


@pytest.fixture(params=SIZES)
def anna(request: pytest.FixtureRequest, browser: Browser, shop: Shop) -> Iterator[Visitor]:
    """An operator who has logged in, at both widths."""
    with visiting(browser, shop.address, request.param) as visitor:
        visitor.log_in()
        yield visitor


def failed(shop: Shop, sandbox: Sandbox, *orders: str) -> list[UUID]:
    """Orders that were given up; the sandbox is well again afterwards."""
    sandbox.set_faults(not_success_share=1.0)
    operations = [
        shop.runtime.orders.process_order_stock_update(form(order), WAREHOUSE).operations[0]
        for order in orders
    ]
    wait_until(
        lambda: all(shop.runtime.queries.status_of(one) == "failed" for one in operations),
        timeout=60,
        message="all are given up",
    )
    sandbox.set_faults(not_success_share=0.0)
    return operations


def name_of(anna: Visitor, what: str) -> str:
    size = anna.page.viewport_size
    return f"{what}-{size['width'] if size else 0}"


def marked(page: Page) -> None:
    """Leave a mark that a reload would take away."""
    page.evaluate("document.documentElement.dataset.mark = 'kept'")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.dataset.mark === 'kept'"))


def test_a_failed_order_is_found_retried_and_seen_completed_without_reloading(
    anna: Visitor, shop: Shop, sandbox: Sandbox
) -> None:
    order = name_of(anna, "failed")
    (operation,) = failed(shop, sandbox, order)
    page = anna.page
    anna.go("/operations?status=failed")
    page.fill("#q", order)
    page.click("form.search button")
    expect(page.locator(f"#row-{operation}")).to_contain_text("not delivered")
    page.click(f"#op-{operation}")
    expect(page.locator("h1")).to_contain_text("not delivered")
    page.click('button.primary:has-text("Retry now")')
    expect(page.locator(".toast.good")).to_be_visible()
    marked(page)
    expect(page.locator("h1 .status")).to_have_text("delivered")
    assert is_marked(page)
    assert shop.runtime.queries.operation(operation)["log"][-1]["action"] == "completed"
    retried = next(
        e for e in shop.runtime.queries.operation(operation)["log"] if e["action"] == "manual_retry"
    )
    assert retried["details"]["actor"] == "anna"


def test_a_delivery_is_cancelled_and_its_stock_put_back(anna: Visitor, shop: Shop, sandbox: Sandbox) -> None:
    order = name_of(anna, "cancelled")
    (operation,) = failed(shop, sandbox, order)
    before = shop.runtime.inventory.on_hand("A", WAREHOUSE)
    page = anna.page
    anna.go(f"/operations/{operation}")
    page.click("#ask-cancel summary")
    dialog = page.locator("dialog[open]")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.click("#ask-cancel summary")
    dialog.locator("button.primary").click()  # without a reason the form does not go
    expect(dialog).to_be_visible()
    dialog.locator('input[value="put_back"]').check()
    dialog.locator('input[name="reason"]').fill("never left the shop")
    dialog.locator("button.primary").click()
    expect(page.locator("h1 .status")).to_have_text("cancelled")
    expect(page.locator(".story")).to_contain_text("never left the shop")
    assert shop.runtime.inventory.on_hand("A", WAREHOUSE) == before + 1


def test_five_hundred_that_match_are_retried_with_a_preview_and_a_report(
    anna: Visitor, shop: Shop, sandbox: Sandbox
) -> None:
    seller = name_of(anna, "bulk")
    sandbox.set_faults(not_success_share=1.0)
    with shop.runtime.database.transaction_scope():
        for number in range(500):
            shop.runtime.service.sync_stock_deduction(seller, f"{seller}-{number}", "B", 1)
    shop.runtime.sweep()
    counts = shop.runtime.operation_lists

    def of(status: str) -> int:
        from stocksync.store.operation_lists import Filter

        return counts.count(Filter(status=status, token_id=seller))[0]

    wait_until(lambda: of("failed") == 500, timeout=60, message=lambda: of("failed"))
    sandbox.set_faults(not_success_share=0.0)
    page = anna.page
    anna.go(f"/operations?status=failed&q={seller}")
    page.click('a:has-text("retry…")')
    expect(page.locator("main")).to_contain_text("500 operations will be sent again")
    page.click("main button.primary")
    expect(page.locator(".toast.good")).to_contain_text("500")
    assert f"q={seller}" in page.url
    anna.go(f"/operations?status=completed&q={seller}")
    expect(page.locator("#tab-completed b")).to_have_text("500", timeout=60_000)


def test_the_language_and_the_colours_stay_as_they_were_chosen(anna: Visitor) -> None:
    page = anna.page
    for language, words in (("ru", "Операции"), ("pl", "Operacje"), ("en", "Operations")):
        anna.go("/operations")
        page.click(".me summary")
        page.click(f'.me a[lang="{language}"]')
        anna.go("/operations")
        expect(page.locator("h1")).to_have_text(words)
        assert page.get_attribute("html", "lang") == language
    page.click(".me summary")
    page.click('.me a:has-text("dark")')
    anna.go("/stock")
    assert page.get_attribute("html", "data-theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60


def test_a_seller_is_paused_and_goes_on(anna: Visitor, shop: Shop) -> None:
    seller = name_of(anna, "seller")
    shop.runtime.service.sync_stock_deduction(seller, "o", "A", 1)
    page = anna.page
    anna.go("/lanes")
    row = page.locator("tr", has_text=seller)
    row.locator("summary").click()
    page.locator("dialog[open] input[name=reason]").fill("moving house")
    page.locator("dialog[open] button.primary").click()
    expect(row).to_contain_text("moving house")
    row.locator('button:has-text("Resume")').click()
    expect(row).to_contain_text("works")


def test_an_alert_is_seen_and_a_difference_is_left(anna: Visitor, shop: Shop, sandbox: Sandbox) -> None:
    order = name_of(anna, "foreign")
    shop.runtime.service.sync_stock_deduction(SELLER, "known", "A", 1)
    sandbox.set_orders([{"token_id": SELLER, "order_id": order, "is_stock_updated": True}])
    page = anna.page
    anna.go("/reconciliation")
    page.click('button:has-text("Compare now")')
    row = page.locator("tr", has_text=order).first
    expect(row).to_be_visible(timeout=20_000)
    row.locator('summary:has-text("Leave it")').click()
    page.locator("dialog[open] input[name=reason]").fill("sold in the shop")
    page.locator("dialog[open] button.primary").click()
    expect(page.locator(f'tr[id^="difference-"]:has-text("{order}")')).to_have_count(0)

    shop.runtime.lanes.pause(SELLER, "to be seen")
    shop.runtime.monitor()
    anna.go("/alerts")
    alert = page.locator("article.open", has_text="seller is paused").first
    alert.locator("button").click()
    expect(page.locator("article.alert:not(.over)", has_text="seller is paused").first).to_contain_text(
        "anna"
    )
    shop.runtime.lanes.resume(SELLER)
    shop.runtime.monitor()


def test_nothing_is_refreshed_while_rows_are_chosen(anna: Visitor, shop: Shop, sandbox: Sandbox) -> None:
    order = name_of(anna, "chosen")
    (operation,) = failed(shop, sandbox, order)
    page = anna.page
    anna.go(f"/operations?q={order}")
    page.locator(f"#row-{operation} input[type=checkbox]").check()
    expect(page.locator("#chosen")).to_have_text("1")
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.wait_for_timeout(6_000)
    assert asked == []
    expect(page.locator(f"#row-{operation} input[type=checkbox]")).to_be_checked()
    page.click("#unpick")
    with page.expect_request(lambda request: "/operations" in request.url):
        pass


def test_a_keyboard_is_enough(browser: Browser, shop: Shop, sandbox: Sandbox) -> None:
    (operation,) = failed(shop, sandbox, "by-keyboard")
    with visiting(browser, shop.address) as visitor:
        visitor.log_in()
        visitor.go(f"/operations/{operation}")
        page = visitor.page
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == "Retry now":
                break
        page.keyboard.press("Enter")
        expect(page.locator("h1 .status")).to_have_text("delivered")


def test_a_reader_sees_all_and_changes_nothing(browser: Browser, shop: Shop, sandbox: Sandbox) -> None:
    (operation,) = failed(shop, sandbox, "read-only")
    with visiting(browser, shop.address) as visitor:
        visitor.log_in("rita")
        for path in (f"/operations/{operation}", "/operations", "/lanes", "/alerts", "/reconciliation"):
            visitor.go(path)
            expect(visitor.page.locator("main form[method=post]")).to_have_count(0)


def pages(known: dict[str, UUID]) -> dict[str, str]:
    """Every page there is, by name."""
    return {
        "overview": "/",
        "operations": "/operations",
        "failed": "/operations?status=failed",
        "retry-all": "/operations/all/retry?status=failed",
        "operation": f"/operations/{known['failed']}",
        "in-doubt": f"/operations/{known['doubt']}",
        "order": f"/orders/{SELLER}/order-returned",
        "stock": "/stock",
        "sku": "/stock/sku?sku=KAWA-1KG",
        "reconciliation": "/reconciliation",
        "alerts": "/alerts",
        "lanes": "/lanes",
        "not-found": "/nothing-here",
        "docs": "/api/docs",
    }


@pytest.mark.timeout(240)
def test_every_page_is_drawn_and_has_no_serious_fault_of_access(browser: Browser, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    known = filled(url)
    assert PAUSED
    SCREENS.mkdir(parents=True, exist_ok=True)
    with Sandbox(token="sandbox") as sandbox, serving(url, sandbox) as address:
        for theme, size in (("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)):
            with visiting(browser, address, size, theme=theme, locale="ru-RU") as visitor:
                for name, path in pages(known).items():
                    visitor.go(path)
                    visitor.page.wait_for_load_state("networkidle")
                    shot = SCREENS / f"{name}-{theme}-{size[0]}.png"
                    visitor.page.screenshot(path=shot, full_page=True)
                    assert visitor.serious() == [], (name, theme, size)
                    width = visitor.page.evaluate("document.documentElement.scrollWidth")
                    assert width <= size[0], f"{name} is wider than the screen"
