from datetime import UTC, datetime
from io import BytesIO

import pytest

from app.attachments import AttachmentError, AttachmentStore
from app.auth import InvalidToken, Principal, issue, verify
from app.coupons import Coupon, CouponRejected, discount_for
from app.orders import page_count

SECRET = b"0123456789abcdef" * 2
NOW = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(("total", "size", "pages"), [(0, 20, 1), (20, 20, 1), (21, 20, 2), (100, 7, 15)])
def test_page_count(total: int, size: int, pages: int) -> None:
    assert page_count(total, size) == pages


def test_token_round_trip() -> None:
    user = Principal(7, 3, "clerk")
    assert verify(issue(user, SECRET, now=0), SECRET, now=10) == user


@pytest.mark.parametrize("token", ["", "a.b", "中文.签名"])
def test_token_rejected(token: str) -> None:
    with pytest.raises(InvalidToken):
        verify(token, SECRET)


def test_token_expires() -> None:
    token = issue(Principal(7, 3, "clerk"), SECRET, now=0)
    with pytest.raises(InvalidToken):
        verify(token, SECRET, now=9 * 3600)


def test_used_coupon_is_rejected() -> None:
    coupon = Coupon("A1", "minus", 500, 1000, NOW, used=True)
    with pytest.raises(CouponRejected, match="已使用"):
        discount_for(coupon, 2000, NOW)


def test_attachment_size_limit(tmp_path) -> None:
    store = AttachmentStore(tmp_path, max_bytes=10)
    name = store.save(1, "签收.JPG", BytesIO(b"x" * 10))
    assert store.names(1) == [name]
    with pytest.raises(AttachmentError):
        store.save(1, "big.jpg", BytesIO(b"x" * 11))
    assert store.names(1) == [name]
