"""A file for each way in which code holds a secret, and what must be seen of them nowhere else.

No value stands here whole: programs that look for secrets read this repository, too.
"""

from __future__ import annotations

PASSWORD = "h7Kd92" + "!ksLq"
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
BARE = "Zq8vN2x" + "W7pLmRt4"
URL_PASSWORD = "iVry6" + "IeJh5uh1r"
KEY = [f"MIIEpAIBAAKCAQEA{at:02d}7bq3Fj0x9Zk5Wv8TnYcRsLdGhEuPiOaQmXwKz" for at in range(24)]
BEGIN, END = (f"-----{word} RSA PRIVATE KEY-----" for word in ("BEGIN", "END"))
SECRETS = [PASSWORD, TOKEN, BARE, URL_PASSWORD, *KEY]

FILES = {
    "settings.py": f'DB_PASSWORD = "{PASSWORD}"\ntoken = "{TOKEN}"\nURL = "postgres://app:{URL_PASSWORD}@db/prod"\n',
    "deploy.yaml": f"db:\n  password: {BARE}\n",
    "keys.py": "\n".join(['KEY = """', BEGIN, *KEY, END, '"""', *(f"x{at} = {at}" for at in range(80))])
    + "\n",
}


def found(text: str) -> list[str]:
    """The secrets that a text holds, as they are or as JSON writes them."""
    return [secret for secret in SECRETS if secret in text]
