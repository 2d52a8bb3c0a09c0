"""Write sizes and numbers of rows for people."""

from __future__ import annotations

from .catalogue import Size


def size_text(size: Size) -> str:
    """Write a size as `pg_size_pretty` does, with the number of rows if it is known.

    >>> size_text(Size(41 * 2**30, 2_000_000))
    '41 GB, 2.0 M rows'
    """
    rows = "" if size.rows is None else f", {rows_text(size.rows)} rows"
    return bytes_text(size.bytes) + rows


def bytes_text(number: int) -> str:
    """Write a number of bytes as `pg_size_pretty` does."""
    amount, unit = number, "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 10_240 or unit == "TB":
            break
        amount = round(amount / 1024)
    return f"{amount} {unit}"


def rows_text(number: int) -> str:
    """Write a number of rows.

    >>> rows_text(950), rows_text(2_000_000)
    ('950', '2.0 M')
    """
    if number < 10_000:
        return str(number)
    amount, unit = number / 1000, "k"
    for unit in ("k", "M", "G"):
        if amount < 999.5 or unit == "G":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
