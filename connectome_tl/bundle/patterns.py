"""Patterns of dates, times, paths, ids and hashes that no text of a bundle may match.

Texts are normalised by `plain_text` first, so that other alphabets, dashes or escapes do not prevent a match.
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from urllib.parse import unquote

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_LONG_NAMES = "January|February|March|April|June|July|August|September|October|November|December"
_OTHER_NAMES = (  # German, French, Spanish, Italian, Dutch
    "Januar|Februar|M\u00e4rz|Maerz|Mai|Juni|Juli|Oktober|Dezember|"
    "janvier|f\u00e9vrier|mars|avril|juin|juillet|ao\u00fbt|septembre|octobre|novembre|d\u00e9cembre|"
    "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|"
    "gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|"
    "januari|februari|maart|mei|augustus"
)
_NAMES = f"{_MONTHS}|{_LONG_NAMES}|May|{_OTHER_NAMES}"
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_DAY2, _MONTH2 = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])"
_TIME = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
_SEP = r"\s?[-/._:]\s?"
_ORDINAL = r"(?:st|nd|rd|th|\.|er)?"
# Letters beyond f cannot belong to a hexadecimal number.
# Versions of nightly packages contain `dev20261101` or `git20261101`.
_BEFORE, _AFTER = r"(?:(?<![0-9A-Za-z.])|(?<=[g-z])(?<!dev)(?<!git))", r"(?![0-9A-Fa-f]|\.\d)"
_SUFFIXES = (
    r"nii|gz|tsv|csv|mat|np[yz]|ya?ml|xlsx?|ods|tck|trk|trx|h5|hdf5|sav|dta|rds|pkl|pt|dcm|ima|mg[hz]|gii|annot|"
    r"bvals?|bvecs?|nrrd|mh[ad]|img|hdr|zip|tar|txt|parquet|feather|docx?|pdf|db|sqlite|log"
)
_SCANS = r"nii(?:\.gz)?|dcm|ima|mg[hz]|tck|trk|trx|xlsx?|sav|dta"

PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "a date",
        re.compile(
            rf"(?<!\d)(?<!\d[.])(?:{_YEAR}{_SEP}{_MONTH}{_SEP}{_DAY}|{_DAY}{_SEP}{_MONTH}{_SEP}{_YEAR}"
            rf"|{_MONTH}{_SEP}{_DAY}{_SEP}{_YEAR}|{_YEAR} {_MONTH2} {_DAY2}|{_DAY2} {_MONTH2} {_YEAR})(?!\d)"
            rf"|(?<![\w./]){_DAY2}(?:/{_MONTH2}/|\.{_MONTH2}\.)\d\d(?![\w./])|(?<![\w./]){_MONTH2}/{_DAY2}/\d\d(?![\w./])"
            rf"|(?<![\w./]){_DAY}/{_MONTH}/\d\d(?![\w./])|\bQ[1-4][ /-]?{_YEAR}\b"
            rf"|{_BEFORE}(?:{_YEAR}{_MONTH2}{_DAY2}(?:T?{_TIME})?|{_DAY2}{_MONTH2}{_YEAR}){_AFTER}"
            rf"|(?<![\w./-]){_YEAR}-(?:W(?:0[1-9]|[1-4]\d|5[0-3])(?:-[1-7])?|[0-3]\d\d)(?![\w./-])"
            rf"|\b{_DAY}{_ORDINAL}[ -](?:of |de )?(?:{_NAMES})\.?,?(?: de)?[ -](?:{_YEAR}|\d\d)\b"
            rf"|\b(?:{_NAMES})\.? {_DAY}{_ORDINAL},? {_YEAR}\b"
            rf"|\b(?:{_NAMES})\.?,? {_YEAR}\b"
            rf"|\b{_DAY}{_ORDINAL} (?:of )?(?:{_LONG_NAMES})\b|\b(?:{_LONG_NAMES}) {_DAY}(?:st|nd|rd|th)?\b"
            rf"|\b{_DAY}-?(?:{_MONTHS})-?{_YEAR}\b"
            rf"|(?<![\w./-])(?:{_YEAR}-{_MONTH2}|{_YEAR}/{_MONTH2}|{_MONTH}/{_YEAR})(?![\w./-])"
            rf"|{_YEAR}\s?\u5e74\s?{_MONTH}\s?\u6708",
            re.IGNORECASE,
        ),
    ),
    ("a time of day", re.compile(r"(?<!\d)(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?!\d)")),
    ("a time stamp", re.compile(r"(?<![0-9A-Za-z.-])(?:9[5-9]\d{7}|1\d{9})(?:\d{3})?(?![0-9A-Za-z])")),
    (
        "a path",
        re.compile(
            r"(?:^|[\s\"'`(=,;:|\[{<>*])(?:~?/(?:[\w.+@-]+/)+[\w.+@-]*|~(?:[a-z][\w.-]*)?/[\w.+-]+|\.\.?[/\\][\w.+-]+)"
            r"|^/[\w.+-]+$|\b[a-z]:[\\/][^\s/]|\\\\[\w.$?-]+\\|(?:^|[\s\"'`(=,;])//[\w.-]+/[\w.-]+"
            r"|\bfile:[\w/\\]|(?<![\w/.])(?:home|users|mnt|media|data|scratch|work|projects?|volumes|srv|export|nfs|private)"
            r"(?:[/\\][\w.+-]+){2}"
            r"|\b(?:s3|gs|smb|cifs|afp|nfs|s?ftp|ssh|scp|hdfs|dav)s?:/"
            r"|(?-i:\$\{?[A-Z_]{2,}\}?[/\\]\w|%[A-Z_]{2,}%[/\\])"
            rf"|[\w.+-]+[/\\][\w./\\+-]*\.(?:{_SUFFIXES})\b",
            re.IGNORECASE,
        ),
    ),
    ("the name of a file", re.compile(rf"[\w+-]\.(?:{_SCANS})\b(?!\()", re.IGNORECASE)),
    (
        "an id of a subject or scan",
        re.compile(
            r"(?<![A-Za-z0-9])(?:sub|ses)-(?=[A-Za-z]*\d)[A-Za-z0-9]+"
            r"|(?<![A-Za-z0-9])(?:sub|subj|subject|ses|session|pat|patient|participant)[-_#]?\d{2,}",
            re.IGNORECASE,
        ),
    ),
    ("an id of a subject", re.compile(r"\bCC\d{5}[A-Z]{2}\d{2}\b")),
    ("an id of a DICOM object", re.compile(r"(?<![\w.])[0-2](?:\.\d+){6,}(?![\w.])")),
    (
        "a fingerprint of data",
        re.compile(
            r"(?<![0-9A-Za-z])(?:[0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32}"
            r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9A-Za-z])",
            re.IGNORECASE,
        ),
    ),
)

_SLASHES = str.maketrans(dict.fromkeys("\u2044\u2215\u29f8", "/"))


def plain_text(text: str) -> str:
    """The text in one Unicode form (NFKC), without invisible characters, percent escapes and character references, with
    one kind of dash, of slash and of digits.
    """
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = unescape(text)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text).translate(_SLASHES)
    text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    kinds = ((unicodedata.category(sign), sign) for sign in text)
    return "".join("-" if kind == "Pd" or sign == "\u2212" else sign for kind, sign in kinds if kind != "Cf")
