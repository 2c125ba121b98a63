"""优惠券：满减与折扣两种，一张券只能用一次。"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection


class CouponRejected(Exception):
    """不能使用；`reason` 直接显示给店员。"""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Coupon:
    code: str
    kind: str  # "minus" 满减，"percent" 折扣
    amount: int  # minus：减多少分；percent：减百分之几
    threshold_cents: int
    expires_at: datetime
    used: bool


def discount_for(coupon: Coupon, total_cents: int, now: datetime | None = None) -> int:
    """应减的金额（分），不会超过订单总额。"""
    now = now or datetime.now(UTC)
    if coupon.used:
        raise CouponRejected("优惠券已使用")
    if coupon.expires_at > now:
        raise CouponRejected("优惠券已过期")
    if total_cents < coupon.threshold_cents:
        raise CouponRejected(f"订单未满 {coupon.threshold_cents / 100:.2f} 元")
    if coupon.kind == "percent":
        return total_cents * min(coupon.amount, 100) // 100
    return min(coupon.amount, total_cents)


def find_coupon(conn: Connection, code: str) -> Coupon | None:
    row = conn.execute(
        "SELECT code, kind, amount, threshold_cents, expires_at, used FROM coupons WHERE code = %s FOR UPDATE",
        (code,),
    ).fetchone()
    return Coupon(**row) if row else None


def mark_used(conn: Connection, code: str) -> None:
    conn.execute("UPDATE coupons SET used = true WHERE code = %s", (code,))
