"""Definitions found in source text, per language, and text that is no code at all."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.units import enclosing
from review_agent.tools.symbols import SUPPORTED, outline

PYTHON = """\
import os


@decorated
class Account:
    limit = 1

    async def pay(self):
        def inner():
            return 1
        return inner()

    x = lambda: 1


if True:
    def conditional():
        pass
"""
TYPESCRIPT = """\
export class Shop {
  buy(item: string) {
    return 1;
  }
}
export const handler = async () => {
  return 2;
};
interface Item {
  name: string;
}
namespace N {
  export function inside() {
    return 3;
  }
}
"""
GO = """\
package main

type Shop struct {
	name string
}

func (s *Shop) Buy() error {
	return nil
}

func main() {
	go func() {
		work()
	}()
}
"""
JAVA = """\
package a;
public class Shop {
    interface Item {
        int price();
    }
    public Shop() {
        super();
    }
    void buy() {
        work();
    }
}
"""
C = """\
#include <a.h>
#ifdef X
static int *buy(struct item *i)
{
    return 0;
}
#endif
struct item {
    int price;
};
"""
RUST = """\
pub struct Shop {
    a: u8,
}
impl Shop {
    pub fn buy(&self) -> u8 {
        1
    }
}
mod tests {
    fn works() {
        1;
    }
}
"""
KOTLIN = """\
class Shop {
    fun buy(): Int {
        return 1
    }
}
"""
CPP = """\
namespace n {
class Shop : public Base {
 public:
  int buy() {
    return 1;
  }
};
int Shop::open() {
  return 2;
}
template <class T>
T twice(T x) {
  return x;
}
}
"""
CSHARP = """\
namespace A {
  public class Shop : Base {
    public int Buy(int x) {
      return 1;
    }
  }
}
"""
SWIFT = """\
class Shop {
  func buy() -> Int {
    return 1
  }
}
extension Shop {
  func open() {
    work()
  }
}
"""
RUBY = """\
module M
  class Shop
    def buy
      1
    end
    def self.open
      2
    end
  end
end
"""
PHP = """\
<?php
class Shop {
    public function buy() {
        return 1;
    }
}
"""


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", PYTHON, ["Account 4-13", "pay 8-11", "inner 9-10", "conditional 17-18"]),
        (
            "typescript",
            TYPESCRIPT,
            ["Shop 1-5", "buy 2-4", "handler 6-8", "Item 9-11", "N 12-16", "inside 13-15"],
        ),
        ("javascript", "function f() {\n  return 1;\n}\n", ["f 1-3"]),
        ("go", GO, ["Shop 3-5", "Buy 7-9", "main 11-15"]),
        ("java", JAVA, ["Shop 2-12", "Item 3-5", "Shop 6-8", "buy 9-11"]),
        ("c", C, ["*buy 3-6", "item 8-10"]),
        ("rust", RUST, ["Shop 1-3", "Shop 4-8", "buy 5-7", "tests 9-13", "works 10-12"]),
        ("cpp", CPP, ["n 1-15", "Shop 2-7", "buy 4-6", "Shop::open 8-10", "twice 12-14"]),
        ("csharp", CSHARP, ["A 1-7", "Shop 2-6", "Buy 3-5"]),
        ("swift", SWIFT, ["Shop 1-5", "buy 2-4", "Shop 6-10", "open 7-9"]),
        ("bash", "f() {\n  echo 1\n}\n", ["f 1-3"]),
        ("lua", "function a.b(x)\n  return 1\nend\n", ["a.b 1-3"]),
        ("kotlin", KOTLIN, ["Shop 1-5", "buy 2-4"]),
        ("kotlin", "class Shop\n" + KOTLIN.removeprefix("class Shop "), ["Shop 1-6", "buy 3-5"]),
        ("ruby", RUBY, ["M 1-10", "Shop 2-9", "buy 3-5", "open 6-8"]),
        ("php", PHP, ["Shop 2-6", "buy 3-5"]),
        ("python", "def one(): return 1\n", []),  # one line is no place to cut at
        ("python", "", []),
        ("json", '{\n"a": {\n"b": 1}}\n', []),
        ("no-such-language", PYTHON, []),
    ],
)
def test_outline(language: str, text: str, expected: list[str]) -> None:
    assert [f"{symbol.name} {symbol.start}-{symbol.end}" for symbol in outline(text, language)] == expected


def test_names_are_dotted_from_the_outside() -> None:
    symbols = outline(PYTHON, "python")
    assert [enclosing(symbols, line, line) for line in (1, 6, 8, 10)] == [
        "", "Account", "Account.pay", "Account.pay.inner",
    ]  # fmt: skip


@pytest.mark.parametrize("language", sorted(SUPPORTED))
def test_every_language_we_name_has_a_grammar(language: str) -> None:
    outline(PYTHON + JAVA + RUBY, language)


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    return '\udcff'\n",  # no such character can be handed to the parser
        "def f():\n    return '\0'\n",
        "def f():\n    return '文字，😀'\n",
        "def f():\r\n    return 1\r\n",
    ],
)
def test_odd_characters_do_not_move_lines(text: str) -> None:
    assert [(symbol.start, symbol.end) for symbol in outline(text, "python")] == [(1, 2)]


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    pass\n" + "(" * 30_000,  # one endless line
        "def f():\n    pass\n" * 50_000,
    ],
    ids=["long-line", "long-text"],
)
def test_texts_that_take_too_long_have_no_outline(text: str) -> None:
    assert outline(text, "python") == ()


def test_depth_does_not_matter() -> None:
    text = "\n".join(f"function f{depth}() {{" for depth in range(3000))
    outline(text, "javascript")
    assert outline("\n".join(f"{' ' * depth}if x:" for depth in range(500)), "python") == ()


@pytest.mark.parametrize("language", ["python", "javascript", "cpp", "go", "java"])
def test_what_is_no_code_has_some_outline_or_none(language: str) -> None:
    chance = random.Random(1)
    text = "\n".join("".join(chance.choices(string.printable[:95], k=60)) for _ in range(200))
    total = text.count("\n") + 1
    assert all(1 <= symbol.start < symbol.end <= total for symbol in outline(text, language))


WORD = st.sampled_from(
    ["def f():", "class A:", "  return", "{", "}", "function x() {", "@d", "(", '"""', "", "文"]
)


@settings(max_examples=150, deadline=2000, database=None)
@given(
    st.lists(WORD | st.text(max_size=8), max_size=40), st.sampled_from(["python", "typescript", "ruby", "c"])
)
def test_symbols_are_in_order_and_inside_the_text(lines: list[str], language: str) -> None:
    text = "\n".join(lines)
    symbols = outline(text, language)
    assert list(symbols) == sorted(symbols, key=lambda symbol: (symbol.start, -symbol.end))
    assert len({(symbol.start, symbol.end) for symbol in symbols}) == len(symbols)
    for symbol in symbols:
        assert 1 <= symbol.start < symbol.end <= text.count("\n") + 1
        assert symbol.name
        assert "\n" not in symbol.name
