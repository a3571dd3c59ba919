"""Names of columns where only some ASCII characters are allowed."""

import hashlib
import re


def ascii_name(name, also=""):
    """A name of ASCII letters, digits, `_` and the characters of `also`.

    Every other character becomes `_`. Names that hold letters or digits of
    other scripts get a suffix that tells them apart: `_` for each letter would
    make all of one length the same.

    Args:
        name: str.
        also: str. More characters that may stay.

    Returns:
        str.
    """
    ascii = re.sub(rf"[^0-9A-Za-z_{re.escape(also)}]", "_", name)
    if any(c.isalnum() and not c.isascii() for c in name):
        ascii += "_" + hashlib.sha256(name.encode()).hexdigest()[:6]
    return ascii
