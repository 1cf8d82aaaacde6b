"""Prefixes and keys of S3 objects."""

from __future__ import annotations

from refinerctl.errors import UsageError

# S3 counts a key's length in UTF-8 bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_KEY_BYTES = 1024


def normalize_prefix(prefix: str) -> str:
    """`/RefinerInput/` and `RefinerInput/` name the same prefix: return it without the leading slash.

    Raises UsageError unless it ends in exactly one slash and holds no empty part.
    """
    bare = prefix.removeprefix("/")
    if not bare.endswith("/") or bare.startswith("/") or "//" in bare:
        raise UsageError(
            f"{prefix!r} is not a prefix",
            hint="A prefix ends in one slash, like RefinerInput/ or team/RefinerInput/.",
        )
    return bare


def check_key(key: str) -> str:
    """Return `key` if S3 can take it as it is; raises UsageError otherwise."""
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError(f"the name {key!r} is not UTF-8, which an S3 key has to be") from None
    if not key or key.startswith("/"):
        raise UsageError(f"{key!r} is not an S3 key", hint="Keys are not empty and have no leading slash.")
    if size > MAX_KEY_BYTES:
        raise UsageError(f"the key {key[:60]}… has {size} bytes; S3 takes {MAX_KEY_BYTES}")
    return key
