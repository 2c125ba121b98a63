from __future__ import annotations

import pytest
from findings_of import finding

from review_agent.agent.markers import Checkpoint, checkpoint_of, is_gone, is_summary, key_line, key_of, keyed

KEY = "ab" * 16
MARK = Checkpoint("1" * 40, "2" * 40, "3" * 32)
TOP = "<!-- review-agent:summary -->"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (f"text\n\n{key_line(KEY)}", KEY),
        (f"text\r\n\r\n{key_line(KEY)}\r\n", KEY),
        (key_line(KEY), KEY),
        (f"{key_line(KEY)}\nlater text", ""),  # quoted by others, or by the model
        (f"x {key_line(KEY)}", ""),
        (f"```\n{key_line(KEY)}\n```\n\n{key_line('cd' * 16)}", "cd" * 16),
        ("<!-- review-agent:f=../../x -->", ""),
        ("<!-- review-agent:f=AB -->", ""),
        ("", ""),
    ],
)
def test_the_name_stands_at_the_end(body: str, key: str) -> None:
    assert key_of(body) == key


def test_a_name_holds_no_number_of_a_run() -> None:
    twice = [finding(line=line, fingerprint=print_) for line, print_ in ((1, KEY), (2, f"{KEY}-2"))]
    odd = [finding(line=line, fingerprint="no\nhex", title=title) for line, title in ((3, "x"), (4, "y"))]
    names = [name for name, _ in keyed([*twice, *odd])]
    assert names[:2] == [KEY, KEY]
    assert len(set(names)) == 3
    assert all(key_of(key_line(name)) == name for name in names)


@pytest.mark.parametrize(
    ("body", "mark"),
    [
        (f"{TOP}\n{MARK}\n## title", MARK),
        (f"{TOP}\r\n{MARK}\r\n## title", MARK),
        (f"{TOP}\n{MARK}", MARK),
        (f"{TOP}\n## title\n{MARK}", None),
        (f"x\n{TOP}\n{MARK}", None),
        (f"{TOP} {MARK}", None),
        (f"{TOP}\n{str(MARK).replace('1' * 40, 'main')}", None),
        (f"{TOP}\n{MARK}x", None),
        (TOP, None),
        ("", None),
    ],
)
def test_a_checkpoint_stands_below_the_marker(body: str, mark: Checkpoint | None) -> None:
    assert checkpoint_of(body) == mark


def test_what_stands_at_the_top() -> None:
    assert is_summary(f"{TOP}\nx")
    assert not is_summary(f"> {TOP}")
    assert is_gone("<!-- review-agent:gone -->\nx")
    assert not is_gone("x <!-- review-agent:gone -->")
