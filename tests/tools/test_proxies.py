"""Which proxy leads to an endpoint, and where it listens."""

from __future__ import annotations

import pytest

from review_agent.agent.errors import ConfigError
from review_agent.tools.endpoints import make_endpoint
from review_agent.tools.proxies import peer_of, proxy_of
from review_agent.tools.tripwire import Peer

CLOUD = "https://api.example.com"
PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        (CLOUD, {}, ""),
        (CLOUD, {"HTTPS_PROXY": PROXY}, PROXY),
        (CLOUD, {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        (CLOUD, {"HTTPS_PROXY": "proxy:3128"}, PROXY),
        (CLOUD, {"ALL_PROXY": PROXY}, PROXY),
        (CLOUD, {"HTTP_PROXY": PROXY}, ""),
        ("http://api.example.com", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://127.0.0.1:8080", {"HTTPS_PROXY": PROXY, "ALL_PROXY": PROXY}, ""),
        ("https://localhost", {"HTTPS_PROXY": PROXY}, ""),
        ("https://gpu-box", {"HTTPS_PROXY": PROXY}, ""),  # in `allowed_hosts`
        (CLOUD, {"HTTPS_PROXY": " "}, ""),
    ],
)
def test_proxy_of(url: str, environ: dict[str, str], proxy: str) -> None:
    assert proxy_of(make_endpoint(url, ["gpu-box"]), environ) == proxy


@pytest.mark.parametrize(
    ("url", "no_proxy", "exempt"),
    [
        (CLOUD, "*", True),
        (CLOUD, "api.example.com", True),
        (CLOUD, "example.com", True),
        (CLOUD, ".example.com", True),
        (CLOUD, "*.example.com", True),
        (CLOUD, "a.b, API.example.com ,c", True),
        (CLOUD, "api.example.com:443", True),
        (CLOUD, "api.example.com:8443", False),
        (CLOUD, "xample.com", False),
        (CLOUD, "other.example.com", False),
        (CLOUD, "", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "10.1.2.3:443", True),
        ("https://10.1.2.3", "192.168.0.0/16,example.com", False),
        ("https://[2001:db8::1]", "[2001:db8::1]", True),
        ("https://[2001:db8::1]", "2001:db8::/32", True),
        ("https://[2001:db8::1]", "2001:db9::/32", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, exempt: bool) -> None:
    environ = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_of(make_endpoint(url), environ) == ("" if exempt else PROXY)


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        (PROXY, Peer("proxy", 3128)),
        ("http://user:word@proxy", Peer("proxy", 80)),
        ("https://proxy", Peer("proxy", 443)),
        ("socks5://[::1]:9", Peer("::1", 9)),
    ],
)
def test_where_a_proxy_listens(url: str, peer: Peer) -> None:
    assert peer_of(url) == peer


@pytest.mark.parametrize("url", ["http://", "ftp://proxy", "http://proxy:x", "http://user:word@[::1"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="proxy_unusable") as caught:
        proxy_of(make_endpoint(CLOUD), {"HTTPS_PROXY": url})
    assert "word" not in str(caught.value.fields)
