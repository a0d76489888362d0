"""Callers' keys: how they look, and what is kept of them.

`vgw_`, 43 base62 characters (256 bits), and a CRC32 of both as 6 more: a typing error or a cut-off
key is told from a wrong one without asking anybody. Only the SHA-256 is kept; with 256 random bits
nothing slower is needed.
"""

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "vgw_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_CHARS = 43
CHECK_CHARS = 6

PATTERN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_CHARS + CHECK_CHARS}}}")


def new_key() -> str:
    """A key that nobody has had before."""
    secret = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARS))
    return secret + _check(secret)


def is_key(text: str) -> bool:
    """Whether `text` looks like one of our keys, its check included."""
    if not PATTERN.fullmatch(text):
        return False
    return _check(text[:-CHECK_CHARS]) == text[-CHECK_CHARS:]


def fits_a_header(key: str) -> bool:
    """Whether a key, ours or another's, can be sent: visible ASCII, no spaces."""
    return key.isascii() and key.isprintable() and " " not in key


def digest(key: str) -> str:
    """What is kept of a key: SHA-256, hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def _check(text: str) -> str:
    number = zlib.crc32(text.encode())
    chars = ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        chars = ALPHABET[digit] + chars
    return chars
