"""Is this value a secret, or a placeholder, a reference, a name, a hash? Judged by its text alone."""

from __future__ import annotations

import math
import re
import string
from collections import Counter

_CLASSES = str.maketrans(
    string.ascii_letters + string.digits + string.punctuation,
    "a" * 26 + "A" * 26 + "0" * 10 + "!" * len(string.punctuation),
)
_SAME_CLASS = re.compile(r"(.)\1*")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A value with one of these words waits for the real one, or is the name of a thing.
_PLACEHOLDER_WORDS = frozenset(
    """
    abc bar baz bearer change changeit changeme changethis credential credentials default demo dummy
    example fake field foo foobar hidden insert invalid key localhost masked mock none null pass
    passphrase passwd password placeholder postgres private public pwd redacted replace sample secret
    secrets some test testing tests todo token tokens undefined user username value wrong xxx your
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)
_FAKE_PART = re.compile(
    r"example|placeholder|dummy|redacted|change_?me|fake|sample|y?our[-_]|test[-_]|[-_]test|mock|insert|replace"
    r"|x{4}|\*{3}|\.{3}|…|0{6}|1{6}|a{6}|(.)\1{7}",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"^[$%&<{\[(/~.]|^![A-Z]?[a-z]+$|^@[\w.]+[(/]|^!(?:vault|Ref|Sub)\b|\$\{|\$\(|\{\{|\}\}|<%|%>|#\{|%\(|%[sd@](?![0-9A-Fa-f])|\{\w{0,40}\}|://"
    r"|^\w{1,40}\("
    r"|^(?:vault|env|file|arn|op|ref|ssm|secret|sha\d{1,3}|md5|data|base64|kms|bcrypt|pbkdf2|urn|path)[:_-]"
    r"|^(?:process|os|System|self|this|settings|config)[.:]|->|::|^\w{1,40}=\w"
)
_REGEX = re.compile(r"\\[dwsbDWSB]|\[\^|\.\*|\.\+|\(\?|\[[aA0]-[zZ9]|^\^|\]\+|\]\*|\{\d+,")
_FILE = re.compile(
    r"(?:\.(?:pem|key|crt|cer|json|ya?ml|txt|env|py|jsx?|tsx?|html?|css|java|go|xml|toml|md|svg|png))$"
)
_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.IGNORECASE)
_WORDY_PART = re.compile(r"(?:[a-z]*(?:[A-Z][a-z]+)*|[A-Z]+)\d{0,4}|v?\d+", re.ASCII)
_SEPARATOR = re.compile(r"[-_.:/,|]")
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*)*", re.ASCII)
_RUNS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "98765432109876543210",
)
_SEQUENCES = frozenset(run[i : i + 8] for run in _RUNS for i in range(len(run) - 7))
# The example keys of a vendor's documentation are random keys that end in the word, once.
_DOCUMENTED = re.compile(r"EXAMPLE(?:KEY)?$")


def words(text: str) -> set[str]:
    """Lower-case words of a name: `dbPassword_v2` gives db, password, v, 2."""
    return {word.lower() for word in _WORD.findall(text)}


def is_documented_example(value: str) -> bool:
    return value.count("EXAMPLE") == 1 and bool(_DOCUMENTED.search(value))


def _is_filler(value: str) -> bool:
    lowered = value.lower()
    return bool(_FAKE_PART.search(value)) or any(
        lowered[i : i + 8] in _SEQUENCES for i in range(len(lowered) - 7)
    )


def is_fake(value: str) -> bool:
    """For values of a known format: nobody's key looks like this."""
    return len(set(value.lower())) < 7 or _is_filler(value)


def is_placeholder(value: str) -> bool:
    """For values judged by their variable's name: also whole words such as `password` or `your`."""
    return bool(words(value) & _PLACEHOLDER_WORDS) or _is_filler(value)


def is_wordy(value: str) -> bool:
    """Made of plain words and numbers (`auth-token-v2`, `userPassword`), as names are and secrets are not."""
    parts = _SEPARATOR.split(value)
    return all(_WORDY_PART.fullmatch(part) for part in parts) and (len(parts) > 1 or value.isalpha())


def is_identifier(value: str) -> bool:
    """Could be a variable or an attribute where the value stands without quotes."""
    return bool(_IDENTIFIER.fullmatch(value))


def entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _is_excluded(value: str) -> bool:
    from detect_secrets.filters.heuristic import is_not_alphanumeric_string, is_sequential_string

    return (
        not value.isascii()
        or not value.isprintable()
        or " " in value
        or bool(_REFERENCE.search(value) or _REGEX.search(value) or _FILE.search(value) or _UUID.match(value))
        or is_sequential_string(value)
        or is_not_alphanumeric_string(value)
        or is_placeholder(value)
        or is_wordy(value)
    )


def looks_like_password(value: str, shortest: int = 8) -> bool:
    """What people type as a password: letters with digits or signs, `Admin@123456` as well as `gFC!0r5b`."""
    if not shortest <= len(value) <= 128 or len(set(value)) < 5:
        return False
    plain = re.sub(r"[A-Za-z]", "", value)
    return bool(re.search(r"[^-_./:,]", plain)) and not _is_excluded(value)


def looks_random(value: str, shortest: int = 16) -> bool:
    """What a generator makes: long, letters and digits mixed through and through."""
    if not shortest <= len(value) <= 512 or len(set(value)) < 8 or not value.isascii():
        return False
    classes = value.translate(_CLASSES)
    changes = len(_SAME_CLASS.findall(classes)) - 1
    # Without digits it may be a CamelCase name: generated letters change their case at every second step.
    often = len(value) / 6 if "0" in classes else len(value) * 0.4
    return changes >= often and entropy(value) >= 3.0 and not _is_excluded(value)
