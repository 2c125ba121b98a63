"""HTTP 接口。业务规则在各模块里，这里只做参数检查、鉴权和错误转换。"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app import coupons, orders
from app.attachments import AttachmentError, AttachmentStore
from app.auth import InvalidToken, Principal, verify
from app.config import load_config
from app.db import Database

config = load_config()
database = Database(config)
attachments = AttachmentStore(config.attachment_dir, config.max_attachment_bytes)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    database.open()
    yield
    database.close()


app = FastAPI(title="cangku", lifespan=lifespan)


class LineIn(BaseModel):
    sku: str = Field(min_length=1, max_length=40)
    quantity: int = Field(ge=1, le=10_000)


class OrderIn(BaseModel):
    receiver: str = Field(min_length=1, max_length=80)
    remark: str = Field(default="", max_length=500)
    lines: list[LineIn] = Field(min_length=1, max_length=200)
    coupon: str | None = Field(default=None, max_length=40)


def current_user(authorization: Annotated[str, Header()] = "") -> Principal:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "请先登录")
    try:
        return verify(token, config.token_secret)
    except InvalidToken as exc:
        raise HTTPException(401, f"登录已失效：{exc}") from exc


def require_admin(user: Annotated[Principal, Depends(current_user)]) -> Principal:
    if not user.is_admin:
        raise HTTPException(403, "需要管理员权限")
    return user


User = Annotated[Principal, Depends(current_user)]
Admin = Annotated[Principal, Depends(require_admin)]


@app.get("/orders")
def list_orders(user: User, page: int = 1, size: int = 20, sort: str = "created") -> dict[str, Any]:
    with database.transaction() as conn:
        result = orders.list_orders(conn, user.store_id, page, size, sort)
    return {"items": result.items, "page": result.number, "pages": result.pages}


@app.get("/orders/search")
def search_orders(user: User, q: Annotated[str, Query(min_length=1, max_length=50)]) -> dict[str, Any]:
    with database.transaction() as conn:
        return {"items": orders.search_orders(conn, user.store_id, q)}


@app.get("/orders/{order_id}")
def show_order(user: User, order_id: int) -> dict[str, Any]:
    with database.transaction() as conn:
        order = orders.get_order(conn, user.store_id, order_id)
    if order is None:
        raise HTTPException(404, "订单不存在")
    return {**order, "attachments": attachments.names(order_id)}


@app.post("/orders", status_code=201)
def create_order(user: User, body: OrderIn) -> dict[str, int]:
    try:
        with database.transaction() as conn:
            prices = orders.load_prices(conn, [line.sku for line in body.lines])
            missing = sorted({line.sku for line in body.lines} - prices.keys())
            if missing:
                raise HTTPException(422, f"商品不存在：{'、'.join(missing)}")
            lines = [orders.Line(line.sku, line.quantity, prices[line.sku]) for line in body.lines]
            discount = 0
            if body.coupon:
                coupon = coupons.find_coupon(conn, body.coupon)
                if coupon is None:
                    raise HTTPException(422, "优惠券不存在")
                total = sum(line.quantity * line.price_cents for line in lines)
                discount = coupons.discount_for(coupon, total)
                coupons.mark_used(conn, coupon.code)
            order_id = orders.create_order(conn, user.store_id, body.receiver, body.remark, lines, discount)
    except orders.OutOfStock as exc:
        raise HTTPException(409, f"库存不足：{exc.sku}") from exc
    except coupons.CouponRejected as exc:
        raise HTTPException(422, exc.reason) from exc
    return {"id": order_id}


@app.get("/stock/{sku}")
def stock(user: User, sku: str) -> dict[str, int]:
    with database.transaction() as conn:
        row = conn.execute("SELECT quantity FROM stock WHERE sku = %s", (sku,)).fetchone()
    return {"quantity": row["quantity"] if row else 0}


@app.post("/orders/{order_id}/attachments", status_code=201)
def upload(user: User, order_id: int, file: UploadFile) -> dict[str, str]:
    _own_order(user, order_id)
    try:
        return {"name": attachments.save(order_id, file.filename or "", file.file)}
    except AttachmentError as exc:
        raise HTTPException(422, str(exc)) from exc


@app.get("/orders/{order_id}/attachments")
def download(user: User, order_id: int, name: str) -> FileResponse:
    _own_order(user, order_id)
    try:
        return FileResponse(attachments.open(order_id, name))
    except FileNotFoundError as exc:
        raise HTTPException(404, "附件不存在") from exc


@app.get("/admin/stores/{store_id}/orders")
def admin_orders(_: Admin, store_id: int, page: int = 1) -> dict[str, Any]:
    with database.transaction() as conn:
        result = orders.list_orders(conn, store_id, page, orders.MAX_PAGE_SIZE)
    return {"items": result.items, "page": result.number, "pages": result.pages}


@app.post("/admin/orders/{order_id}/cancel")
def admin_cancel(_: User, order_id: int) -> dict[str, bool]:
    """客服代客取消，可取消任何门店的订单。"""
    with database.transaction() as conn:
        return {"cancelled": orders.cancel_order(conn, order_id)}


def _own_order(user: Principal, order_id: int) -> None:
    with database.transaction() as conn:
        if orders.get_order(conn, user.store_id, order_id) is None:
            raise HTTPException(404, "订单不存在")
