"""The signature of an error: its text without the parts that differ between errors of the same cause."""

from __future__ import annotations

import re
from collections.abc import Collection

ELLIPSIS = "…"
MAX_LENGTH = 200
# The rest of an error says nothing about its cause; this bounds the work.
_MAX_READ = 1000

# The error's class, before a colon or alone: NoSuchKey, Runtime.ExitError, ERR_HTTP2_STREAM.
_CLASS = re.compile(r"[A-Za-z][A-Za-z_.]*(?:\d{1,3}[A-Za-z_.]*)?(?=:\s|:?$)")

# Numbers that belong to a name, and slashes that do not belong to a path.
_NAMES = {"base64", "ec2", "http2", "ipv4", "ipv6", "latin1", "md5", "oauth2", "s3", "sha1", "sha256", "utf8", "x86"}
_PHRASES = {"and/or", "i/o", "input/output", "n/a", "read/write", "request/response"}

_URL_OR_ARN = re.compile(r"\b(?:arn:[\w-]+:|[A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'`,;()<>]+")
_QUOTED = re.compile(
    r"\"[^\"]*\"|`[^`]*`|\u201c[^\u201d]*\u201d|\u2018[^\u2019]*\u2019|\u00ab[^\u00bb]*\u00bb|(?<!\w)'[^']*'(?!\w)"
)
_PATH = re.compile(r"[^\s,;()\[\]{}<>=]*[/\\][^\s,;()\[\]{}<>]*")
_FILE = re.compile(r"(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.[^\W\d]\w{0,4}(?![\w.-]*\w)")
_ID = re.compile(r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b|\b[0-9A-Fa-f]{16,}\b|\b[A-Z]{16,}\b")
_BASE64 = re.compile(r"(?<![\w+-])(?=[+\w-]*[0-9])(?=[+\w-]*[A-Z])(?=[+\w-]*[a-z])[A-Za-z0-9+_-]{20,}={0,2}(?![\w+-])")
_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[^\W\d]+")
_LONGEST_NAME = 11
_RUN = re.compile(rf"{ELLIPSIS}(?:[\s.,:/_+=-]*{ELLIPSIS})+")
_SIGN = re.compile(rf"(?<!\S)[+-]{ELLIPSIS}")


def signature(error: str, without: Collection[str] = ()) -> str:
    """The first line of `error` with `…` for keys, paths, ids, numbers, times, quoted text, ARNs and URLs.

    `without`: texts that are known to belong to this error only, such as the key of its input. A signature has at most
    MAX_LENGTH characters, and is its own signature.
    """
    text = next((line.strip() for line in error.splitlines() if line.strip()), "")[:_MAX_READ]
    head, rest = _split(text)
    for known in sorted(filter(None, without), key=len, reverse=True):
        rest = rest.replace(known, ELLIPSIS)
    text = head + rest
    while (shorter := _reduced(text)) != text:
        text = shorter
    return text


def _split(text: str) -> tuple[str, str]:
    match = _CLASS.match(text)
    return (match[0], text[match.end() :]) if match else ("", text)


def _reduced(text: str) -> str:
    head, rest = _split(text)
    for pattern in (_QUOTED, _URL_OR_ARN):
        rest = pattern.sub(ELLIPSIS, rest)
    rest = _PATH.sub(_path, rest)
    for pattern in (_FILE, _ID, _BASE64):
        rest = pattern.sub(ELLIPSIS, rest)
    rest = _WORD.sub(_word, rest)
    for pattern in (_RUN, _SIGN):
        rest = pattern.sub(ELLIPSIS, rest)
    return " ".join((head + rest).split())[:MAX_LENGTH].rstrip()


def _path(match: re.Match[str]) -> str:
    return match[0] if match[0].lower().rstrip(".:") in _PHRASES else ELLIPSIS


def _word(match: re.Match[str]) -> str:
    """`worker17` loses only its number, `sha256` nothing, and what looks like an id everything."""
    word = match[0]
    if word.lower() in _NAMES or not any(character.isdigit() for character in word):
        return word
    name = _LETTERS.match(word)
    if name is None or len(word) > _LONGEST_NAME or not word[name.end() :].isdigit():
        return ELLIPSIS
    return name[0] + ELLIPSIS
