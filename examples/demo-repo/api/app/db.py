"""数据库连接池。一个请求用一个连接，出错自动回滚。"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from app.config import Config


class Database:
    def __init__(self, config: Config) -> None:
        self._pool = ConnectionPool(
            config.database_url,
            min_size=2,
            max_size=config.pool_max,
            kwargs={"row_factory": dict_row},
            open=False,
        )

    def open(self) -> None:
        self._pool.open(wait=True, timeout=10)

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """提交或回滚由连接池的上下文管理器负责。"""
        with self._pool.connection() as conn:
            yield conn
