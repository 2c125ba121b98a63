"""登录令牌：`载荷.签名`，HMAC-SHA256，无状态。"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

TOKEN_TTL = 8 * 3600


class InvalidToken(Exception):
    """令牌格式不对、签名不符或已过期。"""


@dataclass(frozen=True)
class Principal:
    user_id: int
    store_id: int
    role: str

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


def issue(principal: Principal, secret: bytes, now: float | None = None) -> str:
    payload = {
        "uid": principal.user_id,
        "sid": principal.store_id,
        "role": principal.role,
        "exp": int((time.time() if now is None else now) + TOKEN_TTL),
    }
    body = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode())
    return f"{body.decode()}.{_sign(body, secret)}"


def verify(token: str, secret: bytes, now: float | None = None) -> Principal:
    body, _, signature = token.partition(".")
    expected = _sign(body.encode(), secret)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise InvalidToken("签名不符")
    try:
        payload = json.loads(base64.urlsafe_b64decode(body))
        principal = Principal(int(payload["uid"]), int(payload["sid"]), str(payload["role"]))
        expires = int(payload["exp"])
    except (binascii.Error, KeyError, TypeError, ValueError) as exc:
        raise InvalidToken("格式不对") from exc
    if expires <= (time.time() if now is None else now):
        raise InvalidToken("已过期")
    return principal


def _sign(body: bytes, secret: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()
