"""Pseudonyms of ids and personal values, identical in the service and in the graph.

Free of pandas, like `contract.py`, because the serving process imports this module.
"""

from hashlib import blake2b

KEY_BYTES = (16, 64)
"""Minimum and maximum length of a key in bytes; BLAKE2b accepts at most 64."""


def pseudonym(key: bytes, column: str, value: str | float) -> str:
    """Returns 32 hexadecimal digits that depend only on the value, the column and the key.

    The hash is a keyed BLAKE2b (RFC 7693), because a plain hash of an id or an age can be reversed
    by trying all values. Numbers are hashed as float64, so that 42 and 42.0 have the same
    pseudonym; flags are hashed as "true" and "false".

    Raises:
        ValueError: The key is shorter or longer than `KEY_BYTES` allows.
    """
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ValueError(f"a key must have {KEY_BYTES[0]} to {KEY_BYTES[1]} bytes, not {len(key)}")
    if isinstance(value, bool):
        value = "true" if value else "false"
    # Adding zero makes -0.0 the same as 0.0.
    text = value if isinstance(value, str) else repr(float(value) + 0.0)
    return blake2b(f"{column}\0{text}".encode(), key=key, digest_size=16).hexdigest()
