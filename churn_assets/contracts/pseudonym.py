"""Pseudonyms of ids and personal values, the same in the service and in the graph.

Like `contract.py`, free of pandas: the process that serves imports this module.
"""

from hashlib import blake2b

KEY_BYTES = (16, 64)
"""Least and most bytes of a key; BLAKE2b takes no more."""


def pseudonym(key: bytes, column: str, value: str | float) -> str:
    """32 hexadecimal digits for a personal value, the same for the same value, column and key.

    A keyed BLAKE2b (RFC 7693), as a plain hash of an id or an age is found by trying them all.
    Numbers are hashed as float64, so that 42 and 42.0 are one; flags as "true" and "false".

    Raises:
        ValueError: the key is shorter or longer than `KEY_BYTES` allows.
    """
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ValueError(f"a key has {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes, this one {len(key)}")
    if isinstance(value, bool):
        value = "true" if value else "false"
    # Adding zero makes -0.0 the same as 0.0.
    text = value if isinstance(value, str) else repr(float(value) + 0.0)
    return blake2b(f"{column}\0{text}".encode(), key=key, digest_size=16).hexdigest()
