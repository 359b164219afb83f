"""How many tokens a text takes: an estimate from its length alone, without a network and without a vendor's vocabulary.

Prose has about 4 ASCII characters a token; JSON, code and logs about 3. A character beyond ASCII costs half a token more for
each further UTF-8 byte: Cyrillic or Arabic come to 0.75 tokens a character, Chinese, Japanese or Hindi to 1.25, an emoji to 1.75.
Natural text comes within an eighth of what the vocabulary cl100k_base needs, and to between 0.9 times (English, emoji) and three
times (Hindi) what o200k_base does: rather too many than too few. Long runs of digits or base64 need more than it says.
"""

from __future__ import annotations

MOST_PER_CHARACTER = 11 / 6
"""No text is estimated at more tokens a character, rounding aside."""


def prose(text: str) -> int:
    """Tokens of natural language."""
    return -(-(len(text) + 2 * _beyond(text)) // 4)


def dense(text: str) -> int:
    """Tokens of JSON, code or a log."""
    return -(-(2 * len(text) + 3 * _beyond(text)) // 6)


def _beyond(text: str) -> int:
    """UTF-8 bytes beyond one a character."""
    return 0 if text.isascii() else len(text.encode(errors="surrogatepass")) - len(text)
