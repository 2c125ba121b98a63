"""Secrets that show by their own shape: vendor keys and tokens, JWTs, webhooks, credentials in URLs.

Every pattern is bounded or begins where nothing of its own kind stands before, so that one line of a megabyte
takes linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Format:
    """`hints`: a line without any of these strings cannot match. `group` is the part that is secret."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    group: int = 0


def _own(kind: str, hints: str, pattern: str, group: int = 0) -> Format:
    return Format(kind, tuple(hints.split()), re.compile(r"(?<![A-Za-z0-9_])" + pattern), group)


_OWN = (
    _own("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,255}(?![A-Za-z0-9_])"),
    _own("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    _own("gitlab-token", "glpat- gldt- glrt- glptt-", r"gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_.-]{18,300}"),
    _own("slack-token", "xox xapp-", r"(?:xox[abeoprsc](?:\.xox[bp])?|xapp)-[A-Za-z0-9-]{16,300}"),
    _own("stripe-key", "k_live_", r"[sr]k_live_[A-Za-z0-9]{16,250}"),
    _own("stripe-key", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,100}"),
    _own("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{24,300}"),
    _own("openai-key", "sk-proj- sk-svcacct- sk-admin-", r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,300}"),
    _own("openrouter-key", "sk-or-v1-", r"sk-or-v1-[a-f0-9]{40,80}"),
    # OpenAI's old keys, and the keys of DashScope, DeepSeek, Moonshot and other compatible services.
    _own("sk-key", "sk-", r"sk-[A-Za-z0-9]{32,64}(?![A-Za-z0-9_-])"),
    _own("google-api-key", "AIza", r"AIza[A-Za-z0-9_-]{28,42}(?![A-Za-z0-9_-])"),
    _own("google-oauth-secret", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{24,40}"),
    _own("npm-token", "npm_", r"npm_[A-Za-z0-9]{30,64}(?![A-Za-z0-9_])"),
    _own("pypi-token", "pypi-", r"pypi-[A-Za-z0-9_-]{50,400}"),
    _own("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,64}(?![A-Za-z0-9_])"),
    _own("alibaba-access-key", "LTAI", r"LTAI[A-Za-z0-9]{12,30}(?![A-Za-z0-9_])"),
    _own("tencent-secret-id", "AKID", r"AKID[A-Za-z0-9]{13,50}(?![A-Za-z0-9_])"),
    _own("volcengine-access-key", "AKLT", r"AKLT[A-Za-z0-9=_-]{30,80}"),
    _own("zhipu-key", ".", r"[a-f0-9]{32}\.[A-Za-z0-9]{16}(?![A-Za-z0-9_])"),
    _own("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{40,64}"),
    _own("xai-key", "xai-", r"xai-[A-Za-z0-9]{60,100}"),
    _own("digitalocean-token", "do", r"do[opr]_v1_[a-f0-9]{64}"),
    _own("vault-token", "hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,300}"),
    _own("databricks-token", "dapi", r"dapi[a-f0-9]{32}(?![A-Za-z0-9_])"),
    _own("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _own("docker-token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{20,60}"),
    _own("atlassian-token", "ATATT3", r"ATATT3[A-Za-z0-9_=-]{60,300}"),
    _own("grafana-token", "glsa_", r"glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}"),
    _own("age-secret-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,64}"),
    _own(
        "jwt",
        "eyJ",
        r"(?<!-)eyJ[A-Za-z0-9_-]{10,4000}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{16,2000}",
    ),
    _own(
        "webhook-url", "oapi.dingtalk.com", r"oapi\.dingtalk\.com/robot/send\?access_token=([a-f0-9]{64})", 1
    ),
    _own(
        "webhook-url", "qyapi.weixin", r"qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key=([a-f0-9-]{36})", 1
    ),
    _own(
        "webhook-url",
        "/bot/v2/hook/",
        r"open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/([a-f0-9-]{36})",
        1,
    ),
    _own("webhook-url", "hooks.slack.com", r"hooks\.slack\.com/services/(T\w{6,20}/B\w{6,20}/\w{16,40})", 1),
)


@cache
def formats() -> tuple[Format, ...]:
    """Ours and the ones of detect-secrets.

    Of its plugins we take the compiled patterns: `analyze_string` yields what `findall` groups (for GitHub
    only the prefix) and no columns, `analyze_line` hashes the values. Plugins whose pattern is unbounded or
    matches without context (JWT, npm, OpenAI, basic auth, Artifactory, keywords) are written anew above.
    """
    from detect_secrets.plugins.aws import AWSKeyDetector
    from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
    from detect_secrets.plugins.discord import DiscordBotTokenDetector
    from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
    from detect_secrets.plugins.mailchimp import MailchimpDetector
    from detect_secrets.plugins.sendgrid import SendGridDetector
    from detect_secrets.plugins.square_oauth import SquareOAuthDetector
    from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
    from detect_secrets.plugins.twilio import TwilioKeyDetector

    borrowed = (
        ("aws-access-key", "AKIA ASIA ABIA ACCA A3T", AWSKeyDetector.denylist[:1]),
        ("azure-storage-key", "AccountKey=", AzureStorageKeyDetector.denylist),
        ("discord-token", "iscord ISCORD", DiscordBotTokenDetector.denylist),
        (
            "gitlab-token",
            "glcbt- glimt- glagent- gloas- glft- glsoat- GR1348941",
            GitLabTokenDetector.denylist,
        ),
        ("mailchimp-key", "-us", MailchimpDetector.denylist),
        ("sendgrid-key", "SG.", SendGridDetector.denylist),
        ("square-secret", "sq0csp-", SquareOAuthDetector.denylist),
        ("telegram-token", ":AA", TelegramBotTokenDetector.denylist),
        ("twilio-key", "wilio WILIO", TwilioKeyDetector.denylist[1:]),
    )
    theirs = (
        Format(kind, tuple(hints.split()), pattern)
        for kind, hints, patterns in borrowed
        for pattern in patterns
    )
    return (*_OWN, *theirs)


URL_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://"
    r"(?P<user>[^\s:/@'\"<>`]{0,80}):(?P<password>[^\s/@'\"<>`]{1,128})@(?P<host>[\w.-]{1,100}|\[)"
)
"""Credentials in a URL: `postgres://app:…@host`."""
