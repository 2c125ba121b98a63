from __future__ import annotations

import string
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from review_agent.tools.redact import Masker, mask, mask_counted

_ALNUM = string.ascii_letters + string.digits
_BODY = "q8S7d6F5g4H3j2K1l0Z9x8C7v6B5n4M3q2W1"
_SECRETS = [
    "ghp_" + _BODY,
    "AKIA" + "Q8S7D6F5G4H3J2K1",
    "sk-proj-" + _BODY,
    "glpat-" + _BODY[:20],
    "eyJ" + _BODY + ".eyJ" + _BODY + "." + _BODY,
    "LTAI" + _BODY[:20],
]
_LINE = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=40)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a = 1\n", "a = 1\n"),
        ('key = "AKIA' + 'Q8S7D6F5G4H3J2K1"', 'key = "<secret:aws-access-key>"'),
        ("DB_PASSWORD=h7Kd92!ksLq\r\nx", "DB_PASSWORD=<secret:password>\r\nx"),
        ("postgres://app:iVry6IeJh5uh1r@db/prod", "postgres://app:<secret:url-password>@db/prod"),
        (
            "a\n-----BEGIN PRIVATE KEY-----\n" + _BODY + "\n-----END PRIVATE KEY-----\nb",
            "a\n" + "<secret:private-key>\n" * 3 + "b",
        ),
        ("password = '<secret:password>'", "password = '<secret:password>'"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_count() -> None:
    assert mask_counted(f"{_SECRETS[0]} {_SECRETS[1]}\nplain") == (
        "<secret:github-token> <secret:aws-access-key>\nplain",
        2,
    )


@given(st.text())
@example(_SECRETS[0] + "!h7Kd92!kLq8AB</b>")
@example('password = "a\\"b<secret:jwt>c9!x"')
@example("token=<secret:token>&password=h7Kd92!ksLq")
@settings(max_examples=300)
def test_any_text_keeps_its_lines_and_masking_twice_changes_nothing(text: str) -> None:
    masked = mask(text)
    assert masked.count("\n") == text.count("\n")
    assert mask(masked) == masked


_PIECE = st.sampled_from(
    [
        *_SECRETS,
        "password",
        "=",
        '"',
        "'",
        ": ",
        " ",
        "\\",
        "://u:",
        "@h",
        "token",
        "&",
        "h7Kd92!ksLq",
        "Bearer ",
        "\n",
    ]
)


@given(st.lists(_PIECE, max_size=12).map("".join))
@settings(max_examples=300)
def test_masking_twice_changes_nothing_where_secrets_abound(text: str) -> None:
    masked = mask(text)
    assert mask(masked) == masked


@given(
    before=_LINE,
    after=_LINE,
    secret=st.sampled_from(_SECRETS),
    frame=st.sampled_from(["'{}'", " {} ", "x={};", '"{}"']),
)
def test_no_full_secret_is_left(before: str, after: str, secret: str, frame: str) -> None:
    assert secret not in mask(before + frame.format(secret) + after)


# --- secrets that were seen in their place

_PASSWORD, _OTHER = "h7Kd92!" + "ksLq", "Zq8vN2x" + "W7pLmRt4"
_KEY = ["-----BEGIN PRIVATE KEY-----", _BODY, _BODY[::-1], "-----END PRIVATE KEY-----"]


def taught(*lines: str, config: bool = False) -> Masker:
    masker = Masker()
    masker.learn(lines, config=config)
    return masker


@pytest.mark.parametrize(
    ("lines", "text", "masked"),
    [
        ([f'password = "{_PASSWORD}"'], f"the value {_PASSWORD} is short", "the value <secret:password> is short"),
        ([f'password = "{_PASSWORD}"'], f"{_PASSWORD},{_PASSWORD}", "<secret:password>,<secret:password>"),
        ([f'password = "{_PASSWORD}"'], f"a{_PASSWORD}b", f"a{_PASSWORD}b"),  # another word
        ([f'password = "{_PASSWORD}"'], f"密码{_PASSWORD}太短", "密码<secret:password>太短"),
        (_KEY, f"  3 + {_BODY[::-1]} // x", "  3 + <secret:private-key> // x"),
        (_KEY, f"xx{_BODY}yy", "xx<secret:private-key>yy"),  # long enough to be itself anywhere
        (_KEY, "it has -----BEGIN PRIVATE KEY----- in it", "it has -----BEGIN PRIVATE KEY----- in it"),
        (['password = "webhook-url>"'], "<secret:webhook-url> webhook-url>", "<secret:webhook-url> <secret:password>"),
        (["x = 1"], f"the value {_PASSWORD} is short", f"the value {_PASSWORD} is short"),
        ([], f'password = "{_PASSWORD}"', 'password = "<secret:password>"'),  # and what mask knows by itself
        ([f'a_password = "{_PASSWORD}"', f'b_password = "{_PASSWORD}{_OTHER}"'],
         f"{_PASSWORD}{_OTHER} {_PASSWORD}", "<secret:password> <secret:password>"),
    ],
)  # fmt: skip
def test_what_was_learnt_is_masked(lines: list[str], text: str, masked: str) -> None:
    assert taught(*lines).mask(text) == masked


def test_settings_without_quotes_are_learnt() -> None:
    line, text = f"  db_password: {_OTHER}", f"see {_OTHER}"
    assert taught(line, config=True).mask_counted(text) == ("see <secret:password>", 1)


@given(
    st.lists(
        _PIECE | st.sampled_from([_PASSWORD, _OTHER, _BODY, "<secret:password>", "secret:"]), max_size=12
    ).map("".join)
)
@settings(max_examples=300)
def test_a_masker_keeps_lines_and_masks_once(text: str) -> None:
    masker = taught(
        f'password = "{_PASSWORD}"', *_KEY, 'token = "secret:jwt>9!aZ"', f'db_password = "{_OTHER}"'
    )
    masked = masker.mask(text)
    assert masked.count("\n") == text.count("\n")
    assert masker.mask(masked) == masked
    assert _BODY not in masked


def test_many_secrets_take_little_time() -> None:
    masker = Masker()
    masker.learn([f'password = "h7Kd{n}!ksLq"' for n in range(5000)])
    began = time.process_time()
    masker.mask("\n".join(f"{n:>5} + x = compute({n}, 'h7Kd{n}!ksLq')" for n in range(1000)))
    assert time.process_time() - began < 3
