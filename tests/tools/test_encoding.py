"""Encodings as they come in Chinese code bases, and lines as git counts them."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.models import Decoded
from review_agent.tools.encoding import decode, is_binary, split_lines

ZH = "# 计算总价\ndef 总价(单价, 数量):\n    return 单价 * 数量  # 未处理负数\n"
TRADITIONAL = "// 初始化資料庫連線，失敗時重試三次\n"
JAPANESE = "// バッファの長さを確認してください\n"
FRENCH = "# Vérifie à l'entrée où l'élève a déjà été créé\xa0: «\xa0é\xa0»\n"


@pytest.mark.parametrize(
    ("text", "codec", "encoding"),
    [
        (ZH, "utf-8", "utf-8"),
        (ZH, "utf-8-sig", "utf-8-sig"),
        (ZH, "utf-16", "utf-16"),
        (ZH, "utf-32", "utf-32"),
        ("int a = 1; // 长度\n", "utf-16-le", "utf-16-le"),
        ("int a = 1; // 长度\n", "utf-16-be", "utf-16-be"),
        (ZH, "gbk", "gb18030"),
        ("// 是\n", "gbk", "gb18030"),
        ("/* 缓冲 */\n", "gbk", "gb18030"),
        ("x = 1  # 修复空指针\n", "gbk", "gb18030"),
        ("// 熵与卷积核的梯度裁剪阈值\n", "gbk", "gb18030"),
        ("/* ┌──┐ 用户 │ */\n", "gbk", "gb18030"),
        ("罕见字：𠮷㐂，数学：𝒳\n第二行\n", "gb18030", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        ("/* 檢查長度 */\n// 回傳錯誤\n", "big5", "big5"),
        (JAPANESE, "shift_jis", "shift_jis"),
        ("/* 初期化処理 */\n", "shift_jis", "shift_jis"),
        ("/* 長さを確認する */\n// これは日本語のテキストファイルです。\n", "euc_jp", "euc_jp"),
        ("// Проверка длины буфера\n", "koi8-r", "koi8_r"),
        ("// Проверка длины буфера\n", "cp1251", "cp1251"),
        (FRENCH, "latin-1", "latin-1"),
        ("// Größe prüfen: 20 °C, © Müller\n", "latin-1", "latin-1"),
        ("// it’s “fine”: €5\n", "cp1252", "cp1252"),
    ],
)
def test_text_comes_back(text: str, codec: str, encoding: str) -> None:
    assert decode(text.encode(codec)) == Decoded(text, encoding)


@pytest.mark.parametrize(
    ("cookie", "codec", "encoding"),
    [
        ("# -*- coding: gbk -*-", "gbk", "gb18030"),
        ('<meta charset="gb2312">', "gb2312", "gb18030"),
        ('@charset "big5";', "big5", "big5"),
        ("# vim: set fileencoding=big5 :", "big5", "big5"),
        ("# coding: gbk", "utf-8", "utf-8"),  # says one thing, is another
        ("# coding: ascii", "utf-8", "utf-8"),
        ("# coding: rot13", "utf-8", "utf-8"),
        ("# coding: ../../../etc/passwd", "utf-8", "utf-8"),
    ],
)
def test_declared_encoding(cookie: str, codec: str, encoding: str) -> None:
    # Rare characters, which nothing but the declaration would make Big5 or GBK.
    text = f"{cookie}\n// 佾岵\n"
    assert decode(text.encode(codec)) == Decoded(text, encoding)


@pytest.mark.parametrize("cookie", ["rot13", "zlib", "hex", "unicode_escape", "gbk-x", "shift_jis"])
def test_only_chinese_codecs_can_be_declared(cookie: str) -> None:
    data = f"# coding: {cookie}\n".encode() + b"x = '\xff\xfe\xc0\x80'\n"
    assert decode(data).encoding == "utf-8"


@pytest.mark.parametrize(
    ("data", "encoding", "kept"),
    [
        (ZH.encode() + "# 旧注释\n".encode("gbk"), "utf-8", "未处理负数"),
        (b"x = '\xff\xfe\xc0\x80'\nos.system(x)\n", "utf-8", "os.system(x)"),
        ("é".encode() * 30 + b"\xff\n", "utf-8", "éé"),
        (("// 校验用户口令是否过期\n" * 9).encode("gbk") + b"// \xd0\n// end\n", "gb18030", "// end"),
        (codecs.BOM_UTF8 + b"x\xff\n", "utf-8-sig", "x"),
        (codecs.BOM_UTF16_LE + "x = 1\n".encode("utf-16-le") + b"\0", "utf-16", "x = 1\n"),
    ],
)
def test_replaced_bytes_are_noted(data: bytes, encoding: str, kept: str) -> None:
    decoded = decode(data)
    assert (decoded.encoding, decoded.note) == (encoding, "mixed_encoding")
    assert "\ufffd" in decoded.text
    assert kept in decoded.text


@given(st.binary(max_size=300))
def test_any_bytes_decode_and_keep_their_lines(data: bytes) -> None:
    decoded = decode(data)
    decoded.text.encode()  # no lone surrogates: everything downstream can write it
    if not decoded.encoding.startswith("utf-16") and not decoded.encoding.startswith("utf-32"):
        assert decoded.text.count("\n") == data.count(b"\n")
    assert isinstance(is_binary(data), bool)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a\n", ("a",)),
        ("a\n\n", ("a", "")),
        ("\n", ("",)),
        ("a\r\nb\n", ("a", "b")),
        ("a\r\r\n", ("a\r",)),
        ("a\rb\n", ("a\rb",)),
        ("a\x0cb\x0bc\x85d\u2028e\n", ("a\x0cb\x0bc\x85d\u2028e",)),
    ],
)
def test_split_lines(text: str, lines: tuple[str, ...]) -> None:
    assert split_lines(text) == lines


@pytest.mark.parametrize(
    ("data", "binary"),
    [
        (b"", False),
        (ZH.encode(), False),
        (ZH.encode("gbk"), False),
        (TRADITIONAL.encode("big5"), False),
        (ZH.encode("utf-16"), False),
        ("// 长度\nint a = 1;\n".encode("utf-16-be"), False),
        (ZH.encode("utf-32"), False),
        (b"echo \x1b[2J\x1b[1;31m\x07\n", False),
        (b"a" * 7998 + "中".encode(), False),  # a character across the end of what is looked at
        (b"x = 1\0\ny = 2\n", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"%PDF-1.7\n", True),
        (b"PK\x03\x04rest", True),
        (b"\x7fELF\x02", True),
        (bytes(range(1, 32)) * 9, True),
        (bytes(range(1, 256)) * 9, True),
        (codecs.BOM_UTF16_LE + bytes(range(256)), True),
        (b"\0" * 4000, True),
    ],
)
def test_is_binary(data: bytes, binary: bool) -> None:
    assert is_binary(data) is binary
