from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from review_agent.tools.redact import mask, mask_counted

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
