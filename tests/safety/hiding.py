"""Text in characters that nobody sees."""

from __future__ import annotations


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text)


def zero_width(text: str) -> str:
    bits = "".join(f"{byte:08b}" for byte in text.encode())
    return "".join("\u200b" if bit == "0" else "\u200c" for bit in bits)


def selectors(text: str) -> str:
    return "".join(chr(0xE0100 + byte - 16) if byte >= 16 else chr(0xFE00 + byte) for byte in text.encode())
