"""Routes: what the policy hides stays hidden, whatever the task, the budget and the engines."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.errors import ConfigError
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Change,
    Hunk,
    Placed,
    Removed,
    ReviewUnit,
    Route,
    RouteKind,
    Severity,
    ShownLine,
    SourceFile,
)
from review_agent.agent.router import (
    ANSWER_TOKENS,
    BUDGET,
    LOCAL_DOWN,
    LOCAL_ONLY,
    MODE_CLOUD,
    MODE_LOCAL,
    NO_CLOUD,
    NOT_ALLOWED,
    SECRET,
    Capabilities,
    Policy,
    Task,
    cloud_tokens,
    has_secret,
    route,
    routes,
    task_of,
    upgraded,
)
from review_agent.agent.settings import Settings
from review_agent.agent.wording import worded
from review_agent.prompts import LANGS

HYBRID = Capabilities("hybrid", local=True, cloud=True)
CLOUD = Capabilities("cloud", local=True, cloud=True)
LOCAL = Capabilities("local", local=True, cloud=False)
KEY = "A" + "KIAZ7QXN3VWPL5D2R6T"  # looks like a key of a cloud; nobody's


def unit(path: str = "src/a.py", *, index: int = 0, tokens: int = 100) -> ReviewUnit:
    return ReviewUnit(path, index, "python", (ShownLine(1, "x = 1", " "),), (1,), "", tokens, "")


def source(path: str, *lines: str, language: str = "python", **more: object) -> SourceFile:
    file = SourceFile(path, language, lines, "", Change.WHOLE)
    return replace(file, **more)  # type: ignore[arg-type]


def shown(file: SourceFile, removed: tuple[str, ...] = ()) -> ReviewUnit:
    """One unit that shows all of a file, after what a change took out."""
    gone = [ShownLine(0, text, "-") for text in removed]
    changed = file.changed or frozenset()
    rows = [
        ShownLine(number, text, "+" if number in changed else " ")
        for number, text in enumerate(file.lines, start=1)
    ]
    return ReviewUnit(file.path, 0, file.language, (*gone, *rows), tuple(sorted(changed)), "", 50, "")


def decide(
    path: str = "src/a.py",
    *,
    local_only: tuple[str, ...] = (),
    cloud_allowed: tuple[str, ...] = (),
    secret: bool = False,
    capabilities: Capabilities = HYBRID,
    budget: int | None = None,
    task: Task = Task.SECURITY,
    old_path: str = "",
) -> Route:
    return route(
        unit(path),
        policy=Policy(local_only, cloud_allowed),
        has_secret=secret,
        capabilities=capabilities,
        budget_left=budget,
        task=task,
        old_path=old_path,
    )


# --- policy


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "src/r\u00e9gie/**") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("globs", "path", "hidden"),
    [
        (("src/billing/**",), "src/billing/a.py", True),
        (("src/billing/**",), "src/billing/deep/er/a.py", True),
        (("src/billing/**",), "src/billings/a.py", False),
        (("src/billing/**",), "lib/src/billing/a.py", False),
        (("src/billing",), "src/billing/a.py", True),
        (("/src/billing/",), "src/billing/a.py", True),
        (("./src/billing",), "src/billing/a.py", True),
        (("*.sql",), "a/b/schema.sql", True),
        (("secrets/",), "a/secrets/b.py", True),
        (("secrets/",), "secrets.py", False),
        (("a", "*.sql"), "b.sql", True),
        # a file system that ignores case, normal forms and invisible characters gives one file many names
        (("src/billing/**",), "SRC/Billing/a.py", True),
        (("SRC/Billing/**",), "src/billing/a.py", True),
        (("*.SQL",), "b.sql", True),
        (("[Z-a]x",), "ZX", True),
        (("stra\u00dfe/",), "STRASSE/a.py", True),
        ((COMPOSED,), DECOMPOSED.replace("**", "a.py"), True),
        ((DECOMPOSED,), COMPOSED.replace("**", "a.py"), True),
        (("src/billing/**",), "src/bil\u200bling/a.py", True),
        # a line break in a name
        (("src/billing/**",), "src/billing/\n.py", True),
        (("*.sql",), "a\nb/c.sql", True),
        (("a/**/c.py",), "a/b\nb/c.py", True),
        # what was hidden stays so
        (("src/**", "!src/**"), "src/a.py", True),
        (("!src/**",), "src/a.py", False),
        (("#src",), "src/a.py", False),
        ((), "src/a.py", False),
    ],
)
def test_what_local_only_hides(globs: tuple[str, ...], path: str, hidden: bool) -> None:
    reason = Policy(local_only=globs).hidden(path, has_secret=False)
    assert reason == (LOCAL_ONLY if hidden else "")


@pytest.mark.parametrize(
    ("globs", "path", "hidden"),
    [
        ((), "a.py", False),
        (("src/**",), "src/a.py", False),
        (("src/**",), "lib/a.py", True),
        (("src/**",), "SRC/a.py", True),  # another file, perhaps
        (("src/**", "!src/pay/**"), "src/a.py", False),
        (("src/**", "!src/pay/**"), "src/pay/a.py", True),
        (("src/**", "!src/pay/**"), "src/Pay/a.py", True),
        (("src/**", "!src/pay/**"), "src/pay/\n/a.py", True),
        (("src/", "!src/pay.py"), "src/pay.py", True),
        (("!src/pay.py", "src/**"), "src/pay.py", True),  # in any order
        (("!src/pay.py",), "src/a.py", True),
    ],
)
def test_what_cloud_allowed_lets_out(globs: tuple[str, ...], path: str, hidden: bool) -> None:
    reason = Policy(cloud_allowed=globs).hidden(path, has_secret=False)
    assert reason == (NOT_ALLOWED if hidden else "")


def test_the_reason_is_the_strongest() -> None:
    policy = Policy(("a.py",), ("b.py",))
    assert policy.hidden("a.py", has_secret=True) == LOCAL_ONLY
    assert policy.hidden("c.py", has_secret=True) == SECRET
    assert policy.hidden("c.py", has_secret=False) == NOT_ALLOWED


@pytest.mark.parametrize("policy", [Policy(local_only=("[z-a]",)), Policy(cloud_allowed=("!",))])
def test_a_glob_that_cannot_be_read_stops_everything(policy: Policy) -> None:
    with pytest.raises(ConfigError) as caught:
        policy.hidden("a.py", has_secret=False)
    assert caught.value.key == "bad_glob"


# --- the order of the reasons


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (decide(capabilities=LOCAL), Route(RouteKind.LOCAL, MODE_LOCAL)),
        (decide(capabilities=LOCAL, local_only=("*",)), Route(RouteKind.LOCAL, MODE_LOCAL)),
        (decide(local_only=("src/**",)), Route(RouteKind.LOCAL, LOCAL_ONLY)),
        (decide(local_only=("lib/**",), old_path="lib/b.py"), Route(RouteKind.LOCAL, LOCAL_ONLY)),
        (decide(cloud_allowed=("src/**",), old_path="lib/b.py"), Route(RouteKind.LOCAL, NOT_ALLOWED)),
        (decide(secret=True), Route(RouteKind.LOCAL, SECRET)),
        (decide(secret=True, capabilities=CLOUD), Route(RouteKind.LOCAL, SECRET)),
        (decide(cloud_allowed=("lib/**",), capabilities=CLOUD), Route(RouteKind.LOCAL, NOT_ALLOWED)),
        (decide(task=Task.SIMPLE), Route(RouteKind.LOCAL, "routes.simple", visible=True)),
        (decide(task=Task.USUAL), Route(RouteKind.LOCAL, "routes.usual", visible=True)),
        (decide(task=Task.CROSS_FILE), Route(RouteKind.HYBRID, "routes.cross_file", visible=True)),
        (decide(task=Task.SECURITY), Route(RouteKind.HYBRID, "routes.security", visible=True)),
        (decide(task=Task.UNSURE), Route(RouteKind.HYBRID, "routes.unsure", visible=True)),
        (decide(capabilities=CLOUD), Route(RouteKind.CLOUD, MODE_CLOUD, visible=True)),
        (decide(capabilities=CLOUD, task=Task.SIMPLE), Route(RouteKind.CLOUD, MODE_CLOUD, visible=True)),
        (decide(budget=0), Route(RouteKind.LOCAL, BUDGET, visible=True)),
        (decide(budget=0, capabilities=CLOUD), Route(RouteKind.LOCAL, BUDGET, visible=True)),
        (decide(budget=0, task=Task.SIMPLE), Route(RouteKind.LOCAL, "routes.simple", visible=True)),
        (decide(budget=100 + ANSWER_TOKENS - 1), Route(RouteKind.LOCAL, BUDGET, visible=True)),
        (decide(budget=100 + ANSWER_TOKENS), Route(RouteKind.HYBRID, "routes.security", visible=True)),
        (
            decide(capabilities=Capabilities("hybrid", local=True, cloud=False)),
            Route(RouteKind.LOCAL, NO_CLOUD),
        ),
        (
            decide(capabilities=Capabilities("hybrid", local=False, cloud=True)),
            Route(RouteKind.LOCAL, LOCAL_DOWN),
        ),
    ],
)
def test_the_route_of_a_unit(way: Route, expected: Route) -> None:
    assert way == expected


# --- properties


paths = st.lists(
    st.text(st.characters(exclude_characters="/\0", codec=None), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
).map("/".join)
globs = st.one_of(
    st.sampled_from(["src/**", "*.py", "*", "**", "a/", "!a", "!**", "A*", "[ab]*", "#x", "\u00e9*", "./a"]),
    paths.filter(lambda text: text.strip(" !\\") != "" and "\\" not in text and "[" not in text),
)
capabilities = st.builds(
    Capabilities, st.sampled_from(["local", "hybrid", "cloud"]), local=st.booleans(), cloud=st.booleans()
)
budgets = st.none() | st.integers(-10, 10_000)
tasks = st.sampled_from(Task)


@given(
    paths,
    st.booleans(),
    st.lists(globs),
    capabilities,
    budgets,
    tasks,
    st.sampled_from(["glob", "secret", "old"]),
)
def test_what_the_policy_hides_never_leaves(
    path: str, secret: bool, allowed: list[str], has: Capabilities, budget: int | None, task: Task, why: str
) -> None:
    way = decide(
        f"top/{path}",
        local_only=("top/**",) if why == "glob" else ("old/**",),
        cloud_allowed=tuple(allowed),
        secret=secret or why == "secret",
        capabilities=has,
        budget=budget,
        task=task,
        old_path=f"old/{path}" if why == "old" else "",
    )
    assert (way.kind, way.visible) == (RouteKind.LOCAL, False)


@given(paths, st.lists(globs, max_size=3), globs, st.lists(globs, max_size=2), capabilities, budgets, tasks)
def test_one_more_local_only_glob_shows_nothing_more(
    path: str,
    before: list[str],
    more: str,
    allowed: list[str],
    has: Capabilities,
    budget: int | None,
    task: Task,
) -> None:
    def made(local_only: tuple[str, ...]) -> Route:
        return decide(
            path,
            local_only=local_only,
            cloud_allowed=tuple(allowed),
            capabilities=has,
            budget=budget,
            task=task,
        )

    first, second = made(tuple(before)), made((*before, more))
    assert second == first or (second.kind is RouteKind.LOCAL and not second.visible)


@given(paths, st.lists(globs, max_size=3), budgets, tasks, st.sampled_from(["hybrid", "cloud"]))
def test_a_local_engine_that_is_down_sends_nothing_more(
    path: str, local_only: list[str], budget: int | None, task: Task, mode: str
) -> None:
    up, down = (
        decide(
            path,
            local_only=tuple(local_only),
            capabilities=Capabilities(mode, local=local, cloud=True),  # type: ignore[arg-type]
            budget=budget,
            task=task,
        )
        for local in (True, False)
    )
    assert down == up or (down.kind is RouteKind.LOCAL and not down.visible)


# --- tasks


def changed(
    path: str, *added: str, removed: tuple[str, ...] = (), language: str = "python"
) -> tuple[Task, str]:
    """The task of a change that adds lines between calm ones."""
    lines = ("calm()", *added, "calm()")
    file = source(
        path, *lines, language=language, changed=frozenset(range(2, 2 + len(added))), change=Change.MODIFIED
    )
    return task_of(file, shown(file, removed)), path


def whole(path: str, *lines: str, language: str = "python") -> tuple[Task, str]:
    file = source(path, *lines, language=language)
    return task_of(file, shown(file)), path


CALM = ["a = b + 1", "c = a * 2", "d = c - b", "e = d"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (whole("README.md", "call eval(x)", language="markdown"), Task.SIMPLE),
        (whole("docs/login.rst", "text", language="rst"), Task.SIMPLE),
        (whole("app.yaml", "port: 80", language="yaml"), Task.SIMPLE),
        (whole("auth.json", "{}", language="json"), Task.SIMPLE),
        (whole("index.html", "<p>", language="html"), Task.SIMPLE),
        (whole("index.html", "x.innerHTML = y", language="html"), Task.SECURITY),
        (whole("a.ipynb", *CALM, language="json"), Task.USUAL),
        (whole("infra/prod.tfvars", *CALM, language="hcl"), Task.SIMPLE),
        (whole("tests/test_a.py", *CALM), Task.SIMPLE),
        (whole("tests/test_a.py", "subprocess.run(x)"), Task.SECURITY),
        (whole("src/a.py", *CALM), Task.USUAL),
        (whole("src/a.py", *CALM[:3]), Task.SIMPLE),
        (whole("src/login.py", *CALM[:1]), Task.SECURITY),
        (whole("src/a.py", "os.system(x)"), Task.SECURITY),
        (whole("src/a.py", "import os", "import json", *CALM), Task.USUAL),
        (whole("src/a.py", "from .b import c", *CALM), Task.CROSS_FILE),
        (whole("shop/a.py", "from shop.b import c", *CALM), Task.CROSS_FILE),
        (whole("web/a.ts", 'import { b } from "./b";', *CALM, language="typescript"), Task.CROSS_FILE),
        (whole("web/a.ts", 'import { b } from "react";', *CALM, language="typescript"), Task.USUAL),
        (whole("core/a.c", '#include "b.h"', *CALM, language="c"), Task.CROSS_FILE),
        (whole("core/a.c", "#include <stdio.h>", *CALM, language="c"), Task.USUAL),
        (whole("src/a.rs", "use crate::b;", *CALM, language="rust"), Task.CROSS_FILE),
        (whole("src/main/java/A.java", "import java.util.List;", *CALM, language="java"), Task.USUAL),
        (whole("src/a.py", "def public(a):", *CALM), Task.USUAL),
        (changed("src/a.py", "a = 1"), Task.SIMPLE),
        (changed("src/a.py", *CALM), Task.USUAL),
        (changed("src/a.py", removed=tuple(CALM)), Task.USUAL),
        (changed("src/a.py", "a = eval(b)"), Task.SECURITY),
        (changed("src/a.py", removed=("check(password)",)), Task.SECURITY),
        (changed("src/a.py", "import os"), Task.CROSS_FILE),
        (changed("src/a.py", "def public(a, b):"), Task.CROSS_FILE),
        (changed("src/a.py", "a = 1", removed=("def public(a):",)), Task.CROSS_FILE),
        (changed("a.go", "func Total(a int) int {", language="go"), Task.CROSS_FILE),
        (changed("A.java", "  public int total() {", language="java"), Task.CROSS_FILE),
        (changed("a.c", "static int total(const char *s)", language="c"), Task.CROSS_FILE),
        (changed("a.c", "  total(s);", language="c"), Task.SIMPLE),
        (changed("a.sql.ts", "export const a = 1;", language="typescript"), Task.SECURITY),
        (changed("tests/test_a.py", "def test_b():"), Task.SIMPLE),
    ],
)  # fmt: skip
def test_the_task_of_a_unit(task: tuple[Task, str], expected: Task) -> None:
    assert task == (expected, task[1])


def test_an_added_file_is_judged_as_a_whole() -> None:
    lines = ("def public(a):", *CALM)
    file = source("src/a.py", *lines, changed=frozenset(range(1, 6)), change=Change.ADDED)
    assert task_of(file, shown(file)) is Task.USUAL


# --- secrets


def hunk(*removed: bytes) -> Hunk:
    return Hunk(1, 2, 1, 1, (b"x",), frozenset({1}), (Removed(1, removed),))


@pytest.mark.parametrize(
    ("file", "secret"),
    [
        (source("a.py", "x = 1"), False),
        (source("a.py", *["x = 1"] * 500, f'key = "{KEY}"'), True),
        (source("a.py", "x = 1", changed=frozenset({1}), hunks=(hunk(b"y = 2"),)), False),
        (source("a.py", "x = 1", changed=frozenset({1}), hunks=(hunk(b"y", f"k = '{KEY}'".encode()),)), True),
        (source("a.env", "password=x9K2mQ7vT4wZ"), True),
        (source("a.py", "password=x9K2mQ7vT4wZ", old_path="a.env"), True),
        (
            source("a.py", "x", encoding="utf-16-le", hunks=(hunk(f"k = '{KEY}'".encode("utf-16-le")),)),
            True,
        ),
    ],
)
def test_a_secret_anywhere_in_a_file_counts(file: SourceFile, secret: bool) -> None:
    assert has_secret(file) is secret


# --- a whole plan


def plan(
    *files: SourceFile, units: int = 1, tokens: int = 600
) -> tuple[list[SourceFile], dict[str, list[ReviewUnit]]]:
    return list(files), {
        file.path: [replace(shown(file), index=index, tokens=tokens) for index in range(units)]
        for file in files
    }


RISKY, RISKY_TOO = source("src/b.py", "eval(x)"), source("src/a.py", "exec(x)")


@pytest.mark.parametrize(
    ("settings", "has", "budget", "reasons"),
    [
        (Settings(), HYBRID, None, ["routes.security"] * 4),
        (Settings(), HYBRID, 3000, ["routes.security"] * 3 + [BUDGET]),
        (Settings(), HYBRID, 1000, ["routes.security"] + [BUDGET] * 3),
        (Settings(), HYBRID, 0, [BUDGET] * 4),
        (Settings(max_cloud_tokens=2500), CLOUD, None, [MODE_CLOUD] * 2 + [BUDGET] * 2),
        (Settings(max_cloud_tokens=2500), CLOUD, 1000, [MODE_CLOUD] + [BUDGET] * 3),
        (Settings(max_cloud_tokens=2000, local_only=("b.py",)), HYBRID, None, [LOCAL_ONLY] * 2 + ["routes.security"] * 2),
        (Settings(local_only=("*",)), LOCAL, None, [MODE_LOCAL] * 4),
        (Settings(cloud_allowed=("src/a.py",)), CLOUD, None, [NOT_ALLOWED] * 2 + [MODE_CLOUD] * 2),
    ],
)  # fmt: skip
def test_the_first_files_get_the_budget(
    settings: Settings, has: Capabilities, budget: int | None, reasons: list[str]
) -> None:
    files, units = plan(RISKY, RISKY_TOO, units=2)
    found = routes(files, units, settings, has, budget)
    assert list(found) == [("src/b.py", 0), ("src/b.py", 1), ("src/a.py", 0), ("src/a.py", 1)]
    assert [way.reason for way in found.values()] == reasons


def test_a_plan_knows_secrets_and_old_names() -> None:
    leak = source("src/c.py", "eval(x)", *["x"] * 50, f"k = '{KEY}'")
    moved = source("src/d.py", "eval(x)", old_path="pay/d.py")
    files, units = plan(leak, moved, RISKY)
    found = routes([*files, source("without/units.py")], units, Settings(local_only=("pay/",)), HYBRID)
    assert {path: way.reason for (path, _), way in found.items()} == {
        "src/c.py": SECRET,
        "src/d.py": LOCAL_ONLY,
        "src/b.py": "routes.security",
    }


def test_what_a_unit_costs() -> None:
    assert cloud_tokens(unit(tokens=70)) == 70 + ANSWER_TOKENS


# --- after the local model has answered


def answered(*confidences: float) -> Analysis:
    said = [Candidate("t", Category.BUG, Severity.LOW, confidence, "q") for confidence in confidences]
    return Analysis(unit(), tuple(Placed(candidate, 1, 1) for candidate in said))


UNSURE = Route(RouteKind.HYBRID, "routes.unsure", visible=True)


@pytest.mark.parametrize(
    ("before", "analysis", "after"),
    [
        (Route(RouteKind.LOCAL, "routes.usual", visible=True), answered(0.9, 0.59), UNSURE),
        (Route(RouteKind.LOCAL, "routes.simple", visible=True), answered(0.1), UNSURE),
        (Route(RouteKind.LOCAL, "routes.usual", visible=True), answered(0.6, 1.0), None),
        (Route(RouteKind.LOCAL, "routes.usual", visible=True), answered(), None),
        (Route(RouteKind.LOCAL, LOCAL_ONLY), answered(0.1), None),
        (Route(RouteKind.LOCAL, MODE_LOCAL), answered(0.1), None),
        (Route(RouteKind.LOCAL, BUDGET, visible=True), answered(0.1), None),
        (Route(RouteKind.HYBRID, "routes.security", visible=True), answered(0.1), None),
        (Route(RouteKind.CLOUD, MODE_CLOUD, visible=True), answered(0.1), None),
    ],
)
def test_what_the_local_model_is_unsure_of_is_looked_at_again(
    before: Route, analysis: Analysis, after: Route | None
) -> None:
    assert upgraded(before, analysis) == (after or before)


# --- sentences


REASONS = [MODE_LOCAL, MODE_CLOUD, LOCAL_ONLY, SECRET, NOT_ALLOWED, NO_CLOUD, LOCAL_DOWN, BUDGET]


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("reason", [*REASONS, *(task.reason for task in Task)])
def test_every_reason_is_a_sentence(reason: str, lang: str) -> None:
    assert worded(reason, lang) not in ("", reason, reason.rpartition(".")[2])
