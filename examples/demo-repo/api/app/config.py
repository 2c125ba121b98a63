"""服务配置：环境变量优先，缺省值用于开发环境。"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DATABASE_URL = "postgresql://cangku_app:M2NWZuXsfAtdWxbIBzuV@10.20.4.17:5432/cangku"


@dataclass(frozen=True)
class Config:
    database_url: str
    token_secret: bytes
    attachment_dir: Path
    max_attachment_bytes: int
    pool_max: int


def load_config(environ: Mapping[str, str] = os.environ) -> Config:
    secret = environ.get("CANGKU_TOKEN_SECRET", "")
    if len(secret) < 32:
        raise RuntimeError("CANGKU_TOKEN_SECRET 至少 32 个字符")
    return Config(
        database_url=environ.get("CANGKU_DATABASE_URL", DEFAULT_DATABASE_URL),
        token_secret=secret.encode(),
        attachment_dir=Path(environ.get("CANGKU_ATTACHMENT_DIR", "/var/lib/cangku/attachments")),
        max_attachment_bytes=int(environ.get("CANGKU_MAX_ATTACHMENT_BYTES", "8388608")),
        pool_max=int(environ.get("CANGKU_POOL_MAX", "20")),
    )
