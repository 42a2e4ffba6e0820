"""A monolith that sells: its rows, its stock and what stocksync has to tell are one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, create_engine, update

from examples.monolith.models import AllegroOrder, CheckoutForm, Stock
from stocksync import Runtime, StockSyncError
from stocksync.contrib.sqlalchemy import with_session
from stocksync.runtime import current

WAREHOUSE = "Ирина"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    runtime = current()  # one for the process, by its environment; in a test, the one of the test
    runtime.require_schema()  # raises, and says what to do, when `migrate` was not run
    url = make_url(runtime.config.database)
    engine = create_engine(url if url.drivername == "sqlite" else url.set(drivername="postgresql+psycopg"))
    SQLModel.metadata.create_all(engine)
    app.state.runtime, app.state.engine = runtime, engine
    yield
    engine.dispose()
    runtime.close()


app = FastAPI(title="A monolith that sells", lifespan=lifespan)


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def session_of(request: Request) -> Iterator[Session]:
    with Session(request.app.state.engine) as session:
        yield session  # closed without a commit, it rolls back


OneRuntime = Annotated[Runtime, Depends(runtime_of)]
OneSession = Annotated[Session, Depends(session_of)]


@app.post("/api/v1/orders/process")
def process_order(form: CheckoutForm, session: OneSession, runtime: OneRuntime) -> dict[str, str]:
    if session.get(AllegroOrder, form.id):
        return {"order_id": form.id, "status": "already_updated"}
    order = AllegroOrder(id=form.id, token_id=form.token_id)
    session.add(order)
    session.flush()  # a second request with the same order waits here, and is then refused

    lines = [(line.offer.external.id, line) for line in form.line_items if line.offer.external]
    for sku, line in sorted(lines, key=itemgetter(0)):  # in one order, so that two sales never deadlock
        take_from_stock(session, sku, line.quantity)

    sync = with_session(session, runtime)
    for sku, line in lines:
        sync.service.sync_stock_deduction(
            order.token_id, order.id, sku, line.quantity, WAREHOUSE, line_item_id=line.id
        )
    order.is_stock_updated = True
    session.commit()  # all of it or nothing; the worker is woken after it
    return {"order_id": form.id, "status": "queued"}


def take_from_stock(session: Session, sku: str, quantity: int) -> None:
    shelf = (col(Stock.sku) == sku) & (col(Stock.warehouse) == WAREHOUSE)
    enough = shelf & (col(Stock.quantity) >= quantity)
    if session.exec(update(Stock).where(enough).values(quantity=Stock.quantity - quantity)).rowcount == 0:
        raise HTTPException(409, f"too little of {sku} in stock")


@app.get("/orders/{order_id}")
def show_order(order_id: str, session: OneSession) -> AllegroOrder:
    if order := session.get(AllegroOrder, order_id):
        return order
    raise HTTPException(404, f"order {order_id} is unknown")


@app.put("/stock/{sku}")
def count_stock(sku: str, quantity: int, session: OneSession) -> Stock:
    counted = session.merge(Stock(sku=sku, warehouse=WAREHOUSE, quantity=quantity))
    session.commit()
    session.refresh(counted)
    return counted


@app.get("/api/v1/stock-sync/status")
def stock_sync_status(runtime: OneRuntime) -> dict[str, Any]:
    stale_hours = runtime.config.monitoring_stale_operation_hours
    return runtime.queries.status(runtime.clock(), stale_hours)


@app.exception_handler(StockSyncError)
def refused(_: Request, error: StockSyncError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(IntegrityError)
def somebody_was_first(_: Request, __: IntegrityError) -> JSONResponse:
    return JSONResponse({"detail": "this order is being processed by another request"}, 409)
