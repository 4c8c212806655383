"""Words for sexes and for yes and no, in several languages, and the categories that they name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from connectome_tl.cohort.tables.cells import fold, whole

SEX_COLUMNS = frozenset({"sex", "gender", "geschlecht", "sexe", "sexo", "sesso", "geslacht"})
_MALE = ("m", "male", "man", "men", "boy", "boys", "males")
_FEMALE = ("f", "female", "woman", "women", "girl", "girls", "females")
# In German, French, Spanish, Portuguese, Italian and Dutch.
_MALE_TOO = ("männlich", "maennlich", "junge", "jungen", "knabe", "knaben", "homme", "garçon", "garcon",
             "masculin", "hombre", "varón", "varon", "niño", "masculino", "maschio", "jongen", "mannelijk",
             "masc", "männl", "h")  # fmt: skip
_FEMALE_TOO = ("w", "weiblich", "mädchen", "femme", "fille", "féminin", "feminin", "mujer", "niña", "femenino",
               "feminino", "femmina", "meisje", "vrouwelijk", "fem", "weibl", "v")  # fmt: skip
_SEXES = {**dict.fromkeys((*_MALE, *_MALE_TOO), "male"), **dict.fromkeys((*_FEMALE, *_FEMALE_TOO), "female")}
_ANSWERS = {
    **dict.fromkeys(("y", "yes", "true", "ja", "j", "oui", "si", "sí", "sì", "sim"), "yes"),
    **dict.fromkeys(("n", "no", "false", "nein", "non", "nee", "não", "nao"), "no"),
}
# Letters and words for yes and for no that are such beside each other only, as o and n in French.
_REPLIES = (
    ({"o", "oui"}, {"n", "non"}),
    ({"s", "si", "sí", "sì", "sim"}, {"n", "no", "não", "nao"}),
    ({"t", "true"}, {"f", "false"}),
    ({"v", "vrai", "vero", "verdadero", "verdadeiro"}, {"f", "faux", "falso"}),
    ({"w", "wahr", "waar"}, {"f", "falsch", "onwaar"}),
    (
        {"+", "pos", "positive", "positiv", "positif", "positivo"},
        {"-", "neg", "negative", "negativ", "négatif", "negativo"},
    ),
)
_NO_REPLIES: Mapping[str, str] = {}


def answers(meaning: str) -> tuple[str, ...]:
    """Words for yes, or for no."""
    return tuple(word for word, means in _ANSWERS.items() if means == meaning)


def is_sex(column: str) -> bool:
    """Whether a column contains sexes by its name, so that `m`, `Male` and `boy` are equivalent."""
    return bool(SEX_COLUMNS & set(re.split(r"[\W_]+", fold(column))))


def are_sexes(cells: Sequence[str]) -> bool:
    """Whether cells are words for sexes, some of them perhaps codes, for any name of the column.

    Single letters count only for both sexes and beside codes, as 1, 2, M and F.
    """
    words = {fold(cell).rstrip(".") for cell in cells if cell}
    codes = {word for word in words if word.isdigit()}
    named = words - codes
    both = {_SEXES.get(word) for word in named} == {"male", "female"}
    return bool(named) and named <= set(_SEXES) and (any(len(word) > 2 for word in named) or bool(codes and both))


def replies_of(cells: Iterable[str]) -> Mapping[str, str]:
    """Meaning of the words of a column in which all cells are words for yes or no; empty for other columns."""
    words = {fold(cell).rstrip(".") for cell in cells if cell}
    for yes, no in _REPLIES:
        if words <= yes | no:
            return {**dict.fromkeys(yes, "yes"), **dict.fromkeys(no, "no")}
    return _ANSWERS if words <= set(_ANSWERS) else {}


def same_category(text: str, *, sex: bool = False, replies: Mapping[str, str] = _NO_REPLIES) -> str:
    """Canonical key of a category, equal for all its spellings.

    Args:
        replies: meaning of the words where they say yes or no; see `replies_of`.
    """
    word = whole(fold(text))
    word = word.rstrip(".") if sex or replies else word
    return _SEXES.get(word, word) if sex else replies.get(word, word)
