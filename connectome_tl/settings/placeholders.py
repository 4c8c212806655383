"""Placeholders such as `{subject}` in file names and commands of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from string import Formatter


def placeholders(words: Iterable[str]) -> set[str]:
    """Names of the placeholders in some words.

    Raises:
        ValueError: an unclosed brace, or a format after `:` or `!`.
    """
    try:
        parsed = [part for word in words for part in Formatter().parse(word)]
    except ValueError as error:
        raise ValueError(f"an unclosed brace: {error} (a literal brace is {{{{)") from error
    formed = next((name for _, name, form, change in parsed if name is not None and (form or change)), None)
    if formed is not None:
        raise ValueError(f"{{{formed}}} is put in as it is: no format after `:` or `!`")
    return {name for _, name, _, _ in parsed if name is not None}


def require_known(words: Iterable[str], names: tuple[str, ...]) -> None:
    """Refuse placeholders that are not replaced.

    Raises:
        ValueError: as `placeholders`; a name that is not known.
    """
    unknown = sorted(placeholders(words) - set(names))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in names)
        raise ValueError(f"{{{unknown[0]}}} is not known here; there are {known} (a literal brace is {{{{)")


def of_scan(pattern: str) -> str:
    """A file name of a scan, with `{subject}` and `{session}`, after the check of its placeholders."""
    require_known([pattern], ("subject", "session"))
    return pattern
