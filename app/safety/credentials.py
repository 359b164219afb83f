"""Credentials that are known by how they begin: one table, for what looks through texts and for what holds answers back.

Prefixes are those that their makers document. Every rule has a literal that a text is searched for first, which costs next to
nothing; its expression is only tried there. No expression can go back over what it has read.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

import msgspec

Check = Callable[[str], bool]
ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
DIGITS = "0123456789"


class Rule(msgspec.Struct, frozen=True):
    """A credential that begins with `literal`. `check` sorts out what only looks like it. `numbered`: eight to ten digits before it are
    of it.
    """

    literal: str
    form: re.Pattern[str]
    check: Check | None = None
    numbered: bool = False

    def start(self, text: str, at: int) -> int | None:
        """Where the credential begins whose literal stands there; None: that is in the midst of a word."""
        if self.numbered:
            before = text[max(0, at - 11) : at]
            number = len(before) - len(before.rstrip(DIGITS))
            return at - number if 8 <= number <= 10 and not before[:-number][-1:].isalnum() else None
        return None if at and text[at - 1].isalnum() else at

    def end(self, text: str, at: int, *limit: int) -> int | None:
        """Where it ends; None: it is none."""
        matched = self.form.match(text, at, *limit)
        good = matched is not None and (self.check is None or self.check(matched[0]))
        return matched.end() if matched is not None and good else None


def entropy(text: str) -> float:
    """Bits a character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values()) if total else 0.0


def random(text: str) -> bool:
    """Whether that was drawn rather than written: digits among letters of both cases, or many different characters."""
    classes = any(map(str.isdigit, text)) + any(map(str.islower, text)) + any(map(str.isupper, text))
    return (classes == 3 and entropy(text) >= 3.2) or (classes == 2 and text.isalnum() and _hex_like(text))


def _hex_like(text: str) -> bool:
    digits = sum(map(str.isdigit, text))
    return len(text) >= 20 and digits >= len(text) // 5 and entropy(text) >= 3.0


def _after(prefix: str) -> Check:
    return lambda text: random(text[len(prefix) :])


def _key(literal: str, form: str, *, drawn: bool = False) -> Rule:
    return Rule(literal, re.compile(re.escape(literal) + form), _after(literal) if drawn else None)


RULES: tuple[Rule, ...] = (
    _key("sk-", r"[A-Za-z0-9_-]{20,}+", drawn=True),  # OpenAI, Anthropic (sk-ant-), OpenRouter, DeepSeek
    _key("sk_", r"(?:live|test)_[A-Za-z0-9]{16,}+"),  # Stripe
    _key("rk_", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("whsec_", r"[A-Za-z0-9+/=]{24,}+"),
    _key("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),  # AWS
    _key("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    *(_key(f"gh{kind}_", r"[A-Za-z0-9]{36,}+") for kind in "pousr"),  # GitHub
    _key("github_", r"pat_[A-Za-z0-9_]{60,}+"),
    *(
        _key(f"gl{kind}-", r"[A-Za-z0-9_-]{20,}+") for kind in ("pat", "dt", "rt", "ptt", "ft", "soat", "imt", "cbt")
    ),  # GitLab
    *(_key(f"xox{kind}-", r"[A-Za-z0-9-]{20,}+") for kind in "bpasrec"),  # Slack
    _key("xapp-", r"[A-Za-z0-9-]{20,}+"),
    _key("hooks.slack.com/services/", r"T[A-Z0-9]{6,16}/B[A-Z0-9]{6,16}/[A-Za-z0-9]{16,64}+"),
    _key("AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),  # Google
    _key("ya29.", r"[A-Za-z0-9_-]{20,}+"),
    _key("GOCSPX-", r"[A-Za-z0-9_-]{20,}+"),
    _key("hf_", r"[A-Za-z0-9]{30,}+", drawn=True),  # Hugging Face
    _key("npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _key("pypi-", r"[A-Za-z0-9_-]{50,}+"),
    _key("rubygems_", r"[a-f0-9]{48}"),
    _key("SG.", r"[A-Za-z0-9_-]{16,40}+\.[A-Za-z0-9_-]{16,80}+"),  # SendGrid
    _key("xkeysib-", r"[a-f0-9]{64}"),  # Brevo
    *(_key(f"do{kind}_", r"v1_[a-f0-9]{64}") for kind in "por"),  # DigitalOcean
    _key("dapi", r"[a-f0-9]{32}(?:-[0-9])?(?![A-Za-z0-9])"),  # Databricks
    _key("hvs.", r"[A-Za-z0-9_-]{24,}+"),  # Vault
    *(_key(f"shp{kind}_", r"[a-fA-F0-9]{32}(?![A-Za-z0-9])") for kind in ("at", "ss", "ca", "pa")),  # Shopify
    _key("lin_", r"api_[A-Za-z0-9]{32,}+"),  # Linear
    _key("AGE-", r"SECRET-KEY-1[A-Z0-9]{50,}+"),  # age
    _key("ATATT", r"3[A-Za-z0-9_=-]{30,}+"),  # Atlassian
    _key("dckr_", r"[po]at_[A-Za-z0-9_-]{20,}+"),  # Docker
    _key("sbp_", r"[a-f0-9]{40}(?![A-Za-z0-9])"),  # Supabase
    _key("ntn_", r"[A-Za-z0-9]{40,}+"),  # Notion
    _key("gsk_", r"[A-Za-z0-9]{48,}+"),  # Groq
    _key("pplx-", r"[A-Za-z0-9]{40,}+"),  # Perplexity
    _key("xai-", r"[A-Za-z0-9]{70,}+"),
    _key("glsa_", r"[A-Za-z0-9]{32}_[a-f0-9]{8}"),  # Grafana
    _key("NRAK-", r"[A-Z0-9]{27}"),  # New Relic
    _key("PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),  # Postman
    _key("figd_", r"[A-Za-z0-9_-]{38,}+"),  # Figma
    _key("pul-", r"[a-f0-9]{40}(?![A-Za-z0-9])"),  # Pulumi
    _key("pscale_", r"(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}+"),  # PlanetScale
    _key("lsv2_", r"(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),  # LangSmith
    _key("sntrys_", r"[A-Za-z0-9+/=_-]{40,}+"),  # Sentry
    _key("SK", r"[0-9a-f]{32}(?![A-Za-z0-9])"),  # Twilio
    Rule(":AA", re.compile(r":AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])"), numbered=True),  # Telegram
    _key("sth_", r"[A-Za-z0-9]{12}_[A-Za-z0-9]{38}"),  # our own
    _key("eyJ", r"[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"),  # JSON Web Tokens, RFC 7519
)
RULE = {rule.literal: rule for rule in RULES}
JOINED = {literal: rule for literal, rule in RULE.items() if literal[-1] in "_-"}
"""Rules whose literal is a word and a hyphen or underscore."""
BARE = {literal: rule for literal, rule in RULE.items() if literal[-1] not in "_-"}
LONGEST_NAME = max(map(len, JOINED))
_NOISE = r"(?:[\s\\>|\"'+,;#*]|[nr](?![a-z])|\d{1,4}[:.|]?(?=[ \t]))*+"
"""What stands at the beginning of a line that was quoted, numbered, or put into a program."""
PEM = Rule(
    "-----BEGIN ",
    re.compile(
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rf"{_NOISE}(?:(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n\\]{{0,80}}+{_NOISE}){{0,3}}+"
        r"[A-Za-z0-9+/=]{16}[A-Za-z0-9+/=\s\\>|\"'#*]*+"
        r"(?:-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
    ),
)
