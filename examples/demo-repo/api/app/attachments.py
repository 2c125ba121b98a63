"""订单附件（签收照片、质检报告）。存在磁盘上：<根目录>/<订单号>/<文件名>。"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import BinaryIO

ALLOWED_SUFFIXES = {".jpg", ".jpeg", ".png", ".pdf"}
CHUNK = 64 * 1024


class AttachmentError(Exception):
    """上传的文件不符合要求。"""


class AttachmentStore:
    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def save(self, order_id: int, filename: str, stream: BinaryIO) -> str:
        """返回保存后的文件名。原文件名只取后缀，其余丢弃。"""
        suffix = Path(filename).suffix.lower()
        if suffix not in ALLOWED_SUFFIXES:
            raise AttachmentError(f"不支持的文件类型：{suffix or '无后缀'}")
        folder = self._root / str(order_id)
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        name = f"{uuid.uuid4().hex}{suffix}"
        partial = folder / f"{name}.part"
        try:
            with partial.open("xb") as target:
                self._copy(stream, target)
            os.replace(partial, folder / name)
        finally:
            partial.unlink(missing_ok=True)
        return name

    def open(self, order_id: int, name: str) -> Path:
        """附件的路径，供 FileResponse 发送；不存在时抛出 FileNotFoundError。"""
        path = self._root / str(order_id) / name
        if not path.is_file():
            raise FileNotFoundError(name)
        return path

    def names(self, order_id: int) -> list[str]:
        folder = self._root / str(order_id)
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix in ALLOWED_SUFFIXES)

    def _copy(self, source: BinaryIO, target: BinaryIO) -> None:
        written = 0
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > self._max_bytes:
                raise AttachmentError("文件过大")
            target.write(chunk)
