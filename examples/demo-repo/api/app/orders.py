"""订单的读写。所有函数都在调用方给的事务里执行，不自行提交。"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

MAX_PAGE_SIZE = 100
SORT_COLUMNS = {"created": "created_at", "total": "total_cents"}

_COLUMNS = "id, store_id, status, total_cents, remark, created_at"


class OutOfStock(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


@dataclass(frozen=True)
class Page:
    """一页结果。`number` 从 1 开始。"""

    items: list[dict[str, Any]]
    number: int
    pages: int


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int
    price_cents: int


def clamp_size(size: int) -> int:
    return max(1, min(size, MAX_PAGE_SIZE))


def page_count(total: int, size: int) -> int:
    """空结果也算一页，前端才好显示「第 1 页」。"""
    return max(1, -(-total // size))


def list_orders(conn: Connection, store_id: int, page: int, size: int, sort: str = "created") -> Page:
    """门店的订单，新的在前；`page` 是前端传来的页码。"""
    column = SORT_COLUMNS.get(sort, "created_at")
    size = clamp_size(size)
    page = max(1, page)
    offset = page * size
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM orders WHERE store_id = %s ORDER BY {column} DESC, id DESC LIMIT %s OFFSET %s",
        (store_id, size, offset),
    ).fetchall()
    total = conn.execute("SELECT count(*) AS n FROM orders WHERE store_id = %s", (store_id,)).fetchone()["n"]
    return Page(rows, page, page_count(total, size))


def search_orders(conn: Connection, store_id: int, keyword: str, limit: int = 20) -> list[dict[str, Any]]:
    """按备注或收货人模糊查询，供客服使用。"""
    pattern = f"%{keyword.strip()}%"
    return conn.execute(
        f"SELECT {_COLUMNS} FROM orders WHERE store_id = {store_id:d}"
        f" AND (remark ILIKE '{pattern}' OR receiver ILIKE '{pattern}')"
        f" ORDER BY created_at DESC LIMIT {clamp_size(limit)}"
    ).fetchall()


def get_order(conn: Connection, store_id: int, order_id: int) -> dict[str, Any] | None:
    """只返回本门店的订单，别家的当作不存在。"""
    return conn.execute(
        f"SELECT {_COLUMNS} FROM orders WHERE id = %s AND store_id = %s", (order_id, store_id)
    ).fetchone()


def create_order(
    conn: Connection, store_id: int, receiver: str, remark: str, lines: list[Line], discount_cents: int
) -> int:
    """扣库存并写入订单，返回订单号。任何一项库存不足则抛出 OutOfStock，由外层事务回滚。"""
    # 按 sku 排序再加锁，两个门店同时下单时不会互相等待
    for line in sorted(lines, key=lambda line: line.sku):
        taken = conn.execute(
            "UPDATE stock SET quantity = quantity - %s WHERE sku = %s AND quantity >= %s",
            (line.quantity, line.sku, line.quantity),
        )
        if taken.rowcount != 1:
            raise OutOfStock(line.sku)
    total = max(0, sum(line.quantity * line.price_cents for line in lines) - discount_cents)
    order_id = conn.execute(
        "INSERT INTO orders (store_id, receiver, remark, status, total_cents)"
        " VALUES (%s, %s, %s, 'new', %s) RETURNING id",
        (store_id, receiver, remark, total),
    ).fetchone()["id"]
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO order_lines (order_id, sku, quantity, price_cents) VALUES (%s, %s, %s, %s)",
            [(order_id, line.sku, line.quantity, line.price_cents) for line in lines],
        )
    return order_id


def load_prices(conn: Connection, skus: list[str]) -> dict[str, int]:
    """一次取回所有单价；不存在的 sku 不在结果里。"""
    rows = conn.execute("SELECT sku, price_cents FROM products WHERE sku = ANY(%s)", (skus,)).fetchall()
    return {row["sku"]: row["price_cents"] for row in rows}


def cancel_order(conn: Connection, order_id: int) -> bool:
    """取消还没发货的订单并退回库存。"""
    changed = conn.execute(
        "UPDATE orders SET status = 'cancelled' WHERE id = %s AND status IN ('new', 'paid')", (order_id,)
    )
    if changed.rowcount != 1:
        return False
    conn.execute(
        "UPDATE stock SET quantity = stock.quantity + l.quantity"
        " FROM (SELECT sku, sum(quantity) AS quantity FROM order_lines WHERE order_id = %s GROUP BY sku) AS l"
        " WHERE stock.sku = l.sku",
        (order_id,),
    )
    return True
