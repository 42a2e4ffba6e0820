"""The page in a real Chromium, with every process real: what an operator does when orders hang."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from stocksync.sandbox import Sandbox
from tests.conftest import _do_without
from tests.e2e.stage import DESKTOP, PHONE, SCREENS, Shop, Visitor, browsing, visiting
from tests.page_shop import PAUSED, filled, serving
from tests.server_programs import ServerMissing
from tests.servers import RedisServer, wait_until
from tests.shop import SELLER, WAREHOUSE, form

# A page polls every five seconds.
expect.set_options(timeout=20_000)
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


def test_enter_in_a_dialog_acts_on_the_chosen_and_on_nothing_else(
    anna: Visitor, shop: Shop, sandbox: Sandbox
) -> None:
    order = name_of(anna, "entered")
    first, second = failed(shop, sandbox, f"{order}-1", f"{order}-2")
    page = anna.page
    anna.go("/operations?status=failed")  # the newest first
    box = page.locator(f"#row-{first} input[type=checkbox]")
    box.check()
    box.press("Enter")  # nothing happens
    page.locator("#ask-bulk summary").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("h2")).to_contain_text("1")
    dialog.locator('input[name="reason"]').fill("a mistake")
    dialog.locator('input[name="reason"]').press("Enter")
    expect(page.locator(".toast.good")).to_be_visible()

    status = {id: shop.runtime.queries.operation(id)["status"] for id in (first, second)}
    assert status == {first: "cancelled", second: "failed"}


def test_a_row_s_own_dialog_leaves_the_chosen_rows_as_they_were(
    anna: Visitor, shop: Shop, sandbox: Sandbox
) -> None:
    order = name_of(anna, "kept")
    chosen, other = failed(shop, sandbox, f"{order}-1", f"{order}-2")
    page = anna.page
    anna.go("/operations?status=failed")
    page.locator(f"#row-{chosen} input[type=checkbox]").check()
    page.click(f"#cancel-{other}")
    page.keyboard.press("Escape")

    expect(page.locator(f"#row-{chosen} input[type=checkbox]")).to_be_checked()
    expect(page.locator(f"#row-{other} input[type=checkbox]")).not_to_be_checked()


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
        "docs": "/docs",
    }


@pytest.mark.timeout(240)
def test_every_page_is_drawn_and_has_no_serious_fault_of_access(browser: Browser, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    known = filled(url)
    assert PAUSED
    SCREENS.mkdir(parents=True, exist_ok=True)
    with Sandbox(token="sandbox") as sandbox, serving(url, sandbox) as address:
        for theme, size in (("light", DESKTOP), ("dark", PHONE)):
            with visiting(browser, address, size, theme=theme, locale="ru-RU") as visitor:
                for name, path in pages(known).items():
                    visitor.go(path)
                    shot = SCREENS / f"{name}-{theme}-{size[0]}.png"
                    visitor.page.screenshot(path=shot, full_page=True)
                    assert visitor.serious() == [], (name, theme, size)
                    width = visitor.page.evaluate("document.documentElement.scrollWidth")
                    assert width <= size[0], f"{name} is wider than the screen"


def test_the_story_of_an_order_is_copied_as_text_and_a_selection_stays(browser: Browser, shop: Shop) -> None:
    shop.runtime.orders.process_order_stock_update(form("told"), WAREHOUSE)
    with visiting(browser, shop.address) as visitor:
        visitor.log_in()
        visitor.go(f"/orders/{SELLER}/told")
        page = visitor.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        expect(page.locator("#story")).to_contain_text("was told on")
        page.click("#copy")
        expect(page.locator("#copy")).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "Order told of seller" in copied
        assert copied.index("Taken out of stock on") < copied.index("was told on")
        assert "GMT" in copied  # an e-mail goes to other zones too

        page.evaluate("getSelection().selectAllChildren(document.querySelector('#story ol'))")
        page.wait_for_timeout(6_000)  # a page polls every five seconds
        assert "Taken out of stock" in page.evaluate("getSelection().toString()")


def test_a_column_is_sorted_by_keyboard_and_keeps_the_focus_while_the_page_refreshes(
    browser: Browser, shop: Shop
) -> None:
    with visiting(browser, shop.address) as visitor:
        visitor.log_in()
        visitor.go("/operations")
        page = visitor.page
        page.focus("#sort-sku")
        page.keyboard.press("Enter")
        page.wait_for_url("**/operations?sort=sku")
        expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
        page.focus("#sort-sku")
        with page.expect_response(lambda response: "sort=sku" in response.url):
            pass
        page.wait_for_timeout(300)
        assert page.evaluate("document.activeElement.id") == "sort-sku"
        page.keyboard.press("Enter")
        page.wait_for_url("**/operations?sort=-sku")


def test_the_charts_say_their_totals_before_one_points_at_them(browser: Browser, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    filled(url)
    with serving(url) as address, visiting(browser, address) as visitor:
        visitor.go("/")
        page = visitor.page
        legend = page.locator(".u-legend").first
        expect(legend).to_contain_text("24 hours")
        assert not any("–" in said for said in page.locator(".u-legend").all_inner_texts())
        expect(legend.locator(".u-value").nth(1)).to_have_text("16")
        page.hover(".u-over >> nth=0")
        expect(legend).not_to_contain_text("24 hours")
