"""Bytes of a source file to text, and text to lines as git counts them.

The order is made for Chinese code bases: short GBK comments are common there, and a general detector reads
them as Korean or Big5. So GB18030 is tried before it, and believed where it gives Chinese that people write.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter

from review_agent.agent.models import Decoded

MIXED = "mixed_encoding"

# UTF-32 first: its little-endian mark starts with the one of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Only these: a cookie is data of the reviewed repository and must not choose a codec of ours (rot13, zlib).
_COOKIE = re.compile(
    rb"(?:coding|charset)[ \t]*[:=][ \t]*[\"']?(gbk|gb2312|gb18030|big5)(?![\w-])", re.IGNORECASE
)
_THREE_BYTES_UP = re.compile("[\u0800-\ufffc\U00010000-\U0010ffff]")
_DETECTABLE = ("big5", "cp932", "euc_jp", "cp949", "koi8_r", "cp1251")
_SINGLE_BYTE = ("koi8_r", "cp1251")
_SAMPLE = 64 * 1024
_HEAD = 8000  # what git looks at to tell binary from text

_ASCII = bytes(range(0x80))
_NOT_C1 = bytes(c for c in range(256) if not 0x80 <= c <= 0x9F)
_NOT_CONTROL = bytes(c for c in range(256) if c >= 0x20 and c != 0x7F) + b"\t\n\r\f\x0b\b\x1b"
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",  # gzip
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"\x28\xb5\x2f\xfd",  # zstd
    b"Rar!\x1a\x07",
    b"BZh91AY&SY",
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",  # Mach-O
    b"\xce\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",  # Mach-O for several machines; Java class
    b"\x00asm",
    b"%PDF-",
)

# The commonest hanzi of running text, and those of code comments: about two thirds of any Chinese text, but
# only one in six of the characters that Korean or Japanese bytes turn into when read as GB2312.
_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实日"
    "军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美"
    "相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教原东声提立及比员解水"
    "名真论处走义各入几口认条平系气题活更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期"
    "市直德资命山金指克许统区保至队形社便空决治展司科五基眼书非则听白却界达光放强即像难且权思王象完设式色"
    "路记南品住告类求据程北边死张该交规万取拉格望觉确共传师观清今切院让识候带导争运函参返串组缓冲删除添调"
    "显示输入读写锁网络服请测试检查错误注释循环初始默配置缺省校验执码源键值列返异步线存节点版权限密钥登录启"
    "停端口协议客户签态状单复杂简易修改查询插更替换暂待注意禁止尾首宽跳转触钮窗框屏幕针堆栈队树图形链字符库"
    "表视索引备份日志警级父兄节消息推送费订价格货支付账号码负未越溢漏洞否若且仅须需允许拒绝超限负载均衡"
)


def decode(data: bytes) -> Decoded:
    """The text of `data`; never fails. The note is "mixed_encoding" where bytes had to be replaced."""
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return _forced(data, codec)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _utf16_unmarked(data) or _guessed(data)
    if b"\0" in data and (wide := _utf16_unmarked(data)):
        return wide
    return Decoded(text, "utf-8")


def split_lines(text: str) -> tuple[str, ...]:
    """Lines without their ends. Only LF (a CR before it goes too) ends one, unlike in `str.splitlines()`."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return tuple(line.removesuffix("\r") for line in lines)


def is_binary(data: bytes) -> bool:
    """Whether no reader would call this text; UTF-16 and UTF-32 are text in spite of their NUL bytes."""
    head = data[:_HEAD]
    if head.startswith(_MAGIC):
        return True
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        wide = decode(data)
        return bool(wide.note) or not _printable(wide.text)
    if b"\0" in head:
        return _utf16_unmarked(data) is None
    # Controls that are valid UTF-8 get the benefit of the doubt: they must not hide code from the review.
    bound = 0.3 if _is_utf8_head(head) else 0.05
    return len(head.translate(None, _NOT_CONTROL)) > bound * len(head)


def _forced(data: bytes, codec: str) -> Decoded:
    try:
        return Decoded(data.decode(codec), codec)
    except UnicodeDecodeError:
        return Decoded(data.decode(codec, "replace"), codec, MIXED)


def _guessed(data: bytes) -> Decoded:
    """Bytes neither marked nor valid UTF-8. A sample decides, so that a large file costs one decode."""
    sample = _sample(data)
    codec = "utf-8"
    if not _is_nearly_utf8(sample):
        codec = _declared(data, sample) or _chinese(sample) or _western(sample) or _detected(sample) or codec
    if codec == "cp1252" and not data.translate(None, _NOT_C1):
        codec = "latin-1"
    text, bad = _by_line(data, codec)
    return Decoded(text, codec, MIXED if bad else "")


def _sample(data: bytes) -> bytes:
    """The first lines that are not ASCII, cut where no character can be cut."""
    size, lines = 0, []
    for line in data.split(b"\n"):
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
    sample = b"\n".join(lines)
    if len(sample) <= _SAMPLE:
        return sample
    # A blank or a line end is never the second byte of a character.
    end = max(sample.rfind(b" ", 0, _SAMPLE), sample.rfind(b"\n", 0, _SAMPLE))
    return sample[: end if end > 0 else _SAMPLE]


def _is_nearly_utf8(sample: bytes) -> bool:
    """UTF-8 with some foreign bytes.

    In GBK, Big5 and the like one pair in five is by chance a two-byte character of UTF-8; those count little.
    Longer ones hardly ever come about by chance.
    """
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    wide = len(_THREE_BYTES_UP.findall(text))
    return wide >= 0.5 * bad or _count_non_ascii(text) - bad >= 3 * bad


def _declared(data: bytes, sample: bytes) -> str:
    cookie = _COOKIE.search(data[:1024])
    if cookie is None:
        return ""
    codec = "big5" if cookie[1].lower() == b"big5" else "gb18030"
    return codec if _fits(sample, codec) else ""


def _chinese(sample: bytes) -> str:
    return "gb18030" if _is_chinese(_by_line(sample, "gb18030")[0]) else ""


def _fits(sample: bytes, codec: str) -> bool:
    text, bad = _by_line(sample, codec)
    return bad <= 0.05 * _count_non_ascii(text)


def _by_line(data: bytes, codec: str) -> tuple[str, int]:
    """Text and the number of replacements. Line by line, so that a broken character never eats a line end."""
    try:
        return data.decode(codec), 0
    except UnicodeDecodeError:
        text = "\n".join(line.decode(codec, "replace") for line in data.split(b"\n"))
        return text, text.count("\ufffd")


def _count_non_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def _is_chinese(text: str) -> bool:
    """Whether text read as GB18030 is Chinese that people write, by GB2312 rows and by common characters."""
    counts = Counter(text)
    total = hanzi = plain = common = 0
    for char, times in counts.items():
        if char.isascii():
            continue
        total += times
        code = char.encode("gb18030", "replace")
        row = code[0] if len(code) == 2 and code[1] >= 0xA1 else 0
        if 0xB0 <= row <= 0xD7:  # level 1, the 3755 commonest
            hanzi += times
            common += times * (char in _COMMON)
        elif 0xA1 <= row <= 0xA3 or row == 0xA9:  # punctuation, full-width forms, box drawing
            plain += times
    if not total or hanzi + plain < 0.7 * total:
        return False
    return bool(hanzi) and (hanzi < 4 or common >= 0.25 * hanzi)


_HIGH_RUN = re.compile(r"([A-Za-z]?)([^\x00-\x7f]+)([A-Za-z]?)")
_WESTERN_SIGNS = frozenset("\xa0‘’“”–—…•€£§©®°«»·×÷±µ²³½¼¿¡ºª™")
_LONE_LETTERS = frozenset("àáéèíóòúùåöÀÁÉÈÍÓÅÖ")


def _western(sample: bytes) -> str:
    """cp1252, of which Latin-1 is a part, when high bytes are accents inside words, or typographic signs."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    runs = [match.groups() for match in _HIGH_RUN.finditer(text)]
    fitting = sum(_fits_western(before, run, after) for before, run, after in runs)
    return "cp1252" if fitting >= 0.8 * len(runs) else ""


def _fits_western(before: str, run: str, after: str) -> bool:
    letters = [char for char in run if char not in _WESTERN_SIGNS]
    if not letters:
        return len(run) <= 3
    if len(letters) > 2 or not all(char.isalpha() for char in letters):
        return False
    return bool(before or after) or (len(letters) == 1 and letters[0] in _LONE_LETTERS)


def _detected(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_DETECTABLE)).best()
    if best is None or not _fits(sample, best.encoding):
        return ""
    # A few stray bytes are a letter in any single-byte code page: no evidence for one.
    if best.encoding in _SINGLE_BYTE and len(sample.translate(None, _ASCII)) < 8:
        return ""
    return "shift_jis" if best.encoding == "cp932" and _decodes(sample, "shift_jis") else best.encoding


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_unmarked(data: bytes) -> Decoded | None:
    """UTF-16 without a mark: ASCII characters in it put a NUL into every second place, and only there."""
    if len(data) % 2:
        return None
    even, odd = data[:_HEAD:2].count(0), data[1:_HEAD:2].count(0)
    most, least = max(even, odd), min(even, odd)
    if most < 0.2 * (len(data[:_HEAD]) / 2) or least > 0.01 * most:
        return None
    codec = "utf-16-be" if even > odd else "utf-16-le"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    return Decoded(text, codec) if _printable(text) else None


def _printable(text: str) -> bool:
    head = text[:_HEAD]
    odd = sum(
        (char < " " and char not in "\t\n\r\f\v\b\x1b") or "\ue000" <= char <= "\uf8ff" for char in head
    )
    return odd <= 0.02 * len(head)


def _is_utf8_head(head: bytes) -> bool:
    """Valid UTF-8, but for a character cut off at the end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
