"""Writes docs/configuration.md from the table of settings; `--check` only says whether that changes it."""

from __future__ import annotations

import sys
from pathlib import Path

from review_agent.agent.commands.config import toml_value
from review_agent.agent.settings import KEYS, PLANNED, Key, Kind, Narrow, Source
from review_agent.prompts import say

LANG = "zh-CN"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

HEAD = """# 配置

<!-- 本页由 scripts/gen_config_docs.py 生成，请勿手工修改。 -->

配置来自五处，后面的覆盖前面的：

1. 内置默认值；
2. 用户配置：系统配置目录下的 `review-agent/config.toml`（Linux 为 `~/.config/review-agent/config.toml`），
   用 `review-agent config init --user` 生成；
3. 环境变量 `REVIEW_AGENT_<配置项>`，列表用逗号分隔，空值等于没有设置；
4. 命令行选项；
5. 被审查仓库根目录的 `.review-agent.toml`。它不可信，只能让审查更严格，规则见下。

每个配置项也可以写成驼峰形式，例如 `maxFileSize`。不认识的配置项、写错的值会直接报错，不会被悄悄忽略。
标为“尚未启用”的配置项会被接受和检查，但目前不起作用，设置了会在报告中说明。
`review-agent config show` 列出生效的值和来源，`review-agent config check` 检查配置文件。

## 仓库配置的限制

被审查的仓库是数据，不是指令。`.review-agent.toml` 里：

- **增加**：列表与用户的合并；仓库的规则不能替换用户的同名规则；被排除的文件会列入报告；
- **更严格才生效**：只有比其他来源的值更严格时才采用。`fail_on` 更严格指拦截更多，
  `min_severity`、`min_confidence` 更严格指报告更多，各种上限更严格指更小，`on_error` 更严格指 `block`；
- **用户未设置时**：用户、环境变量和选项都没有给出时才采用；
- 其余配置项（引擎、地址、命令等）会被忽略，并在报告中说明。

## 全部配置项

"""

TAIL = """
## 例子

用户配置：

```toml
mode = "local"
model = "qwen2.5-coder:7b"
local_only = ["src/billing/**", "**/*.sql"]
max_file_size = "2MiB"
```

仓库配置：

```toml
fail_on = "high"
exclude = ["third_party/**"]

[[rules]]
id = "money"
text = "金额一律用 Decimal 计算，不用浮点数。"
paths = ["src/billing/**"]
severity = "high"
```
"""

COLUMNS = ("配置项", "类型", "默认值", "说明", "仓库", "环境变量", "命令行选项")
NARROW = {Narrow.ADDS: "增加", Narrow.STRICTER: "更严格才生效", Narrow.YIELDS: "用户未设置时"}


def row(key: Key) -> str:
    choices = "、".join(f"`{choice}`" for choice in key.choices)
    default = "空" if key.default in ("", ()) else f"`{toml_value(key, key.default)}`"
    cells = (
        f"`{key.name}`",
        choices or say(LANG, "config_text", f"kind_{key.kind}"),
        default,
        say(LANG, "config", key.name) + ("（尚未启用）" if key.name in PLANNED else ""),
        NARROW[key.narrow] if key.narrow else "不可",
        f"`{key.variable}`" if Source.ENVIRONMENT in key.sources else "不可",
        f"`{key.option}`" if Source.FLAG in key.sources and key.name not in PLANNED else "不可",
    )
    return f"| {' | '.join(cells)} |\n"


def render() -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    ordered = sorted(KEYS, key=lambda key: key.kind is Kind.RULES)
    return HEAD + head + "".join(map(row, ordered)) + TAIL


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return int(PAGE.read_text(encoding="utf-8") != render())
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
