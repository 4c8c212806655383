"""Format counts with a noun in singular or plural, and sizes of files."""

from __future__ import annotations

_IRREGULAR = {"child": "children", "matrix": "matrices", "atlas": "atlases", "class": "classes"}


def file_size(n_bytes: int) -> str:
    """Return a size in kB below 100 kB, else in MB: "12 kB" or "3.4 MB"."""
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes < 1e5 else f"{n_bytes / 1e6:.1f} MB"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return "1 subject" or "3 subjects".

    Args:
        n: the count. noun: the singular, or a phrase such as "subject has".
        plural: required if the last word has no regular plural, as in "subjects have".
    """
    if n == 1:
        return f"{n} {noun}"
    return f"{n} {plural or plural_of(noun)}"


def plural_of(noun: str) -> str:
    """Plural of a noun, or of the last word of a phrase."""
    *start, last = noun.split(" ")
    if last in _IRREGULAR:
        end = _IRREGULAR[last]
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        end = f"{last[:-1]}ies"
    else:
        end = f"{last}s"
    return " ".join((*start, end))
