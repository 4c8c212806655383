"""Read YAML strictly into plain values, with the line and the text of each."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.files import variable
from connectome_tl.wording import dotted

Path_ = tuple[Hashable, ...]
_MAX_VALUES = 20_000  # counted after expansion of aliases, which can make a small file very large
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ENDINGS = (".yaml", ".yml", ".json")
_PLAIN_TAGS = ("map", "seq", "str", "int", "float", "bool", "null")
_TAG = "tag:yaml.org,2002:"
_QUOTE = "A text that contains one of [ ] { } , : # @ ` % & * must be quoted: column: 'Age [weeks]'."
_REMEDIES = (
    ("found character '\\t'", "Indent and separate with blanks, not tabs."),
    ("another document", "Keep one document: remove the line --- or ... and what follows."),
    ("escape character", "Write a path with / or in single quotes."),
)  # by a part of the parser's message


class _Loader(yaml.SafeLoader):
    """As YAML 1.2: `no`, `off`, `012`, `12:30`, `1_000` and dates are texts as written; so are `1e3` and `1.5e3`."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


for _name, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True)
class Document:
    """A YAML document.

    Attributes:
        value: its content.
        lines: line of each value by its path.
        texts: each single value as written, by its path.
    """

    value: Any
    lines: dict[Path_, int]
    texts: dict[Path_, str]


NOTHING = Document(None, {}, {})


def read_yaml(text: str, file: str | Path | None = None) -> Document:
    """Read a document without tags, merge keys, doubled keys and odd characters; `${NAME}` is expanded.

    Raises:
        UsageError: not YAML, or not plain values; lists all problems with their lines.
    """
    reader = _Reader(file)
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else reader.value(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        remedy = next((said for part, said in _REMEDIES if part in what), _QUOTE)
        if "\u00a0" in text:
            remedy = "The file contains non-breaking blanks (U+00A0): replace them by ordinary ones."
        if file is not None and Path(file).suffix not in _ENDINGS:
            remedy = f"Is {Path(file).name} a settings file?"
        line = None if mark is None else mark.line + 1
        raise UsageError(f"not YAML: {what}", file=file, line=line, remedy=remedy) from error
    except RecursionError as error:
        raise UsageError("nested too deeply, or an alias that contains itself", file=file) from error
    raise_all("the settings cannot be read", reader.problems, UsageError)
    return Document(value, reader.lines, reader.texts)


def plain(text: str, where: str, file: str | Path | None = None, line: int | None = None) -> str:
    """Check that text can be written to a file and displayed.

    Raises:
        UsageError: a lone surrogate, a control character, or a mark that changes the text direction.
    """
    odd = _ODD.search(text)
    if odd:
        raise UsageError(
            f"{where}: a text contains a character that cannot be displayed: {odd.group()!a}", file=file, line=line
        )
    return text


@dataclass
class _Reader:
    """Values of nodes; problems are collected."""

    file: str | Path | None
    lines: dict[Path_, int] = field(default_factory=dict)
    texts: dict[Path_, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    constructor: SafeConstructor = field(default_factory=SafeConstructor)

    def value(self, node: yaml.Node, path: Path_) -> Any:
        line = self.lines[path] = node.start_mark.line + 1
        if len(self.lines) > _MAX_VALUES:
            raise UsageError("too many values for a settings file", file=self.file, expected=f"at most {_MAX_VALUES}")
        if node.tag.removeprefix(_TAG) not in _PLAIN_TAGS:
            return self._problem(f"{dotted(path)}: the tag {node.tag} is not allowed", line)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._block(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._single(node, path, line)

    def _block(self, node: yaml.MappingNode, path: Path_) -> dict[Hashable, Any]:
        out: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(f"{dotted(path)}: a key is a list or a block", line, remedy=_QUOTE)
                continue
            key = plain(str(key_node.value), dotted(path), self.file, line)
            if key == "<<" and key_node.style is None:
                self._problem(f"{dotted(path)}: << is not supported", line, remedy="Write the keys of the block here.")
            elif key.strip("\u00a0") != key:
                remedy = "Indent with ordinary blanks."
                self._problem(f"non-breaking blanks (U+00A0) around the key {key.strip()}", line, remedy=remedy)
            elif key in out:
                self._problem(f"key {dotted((*path, key))} occurs twice", line)
            elif key.isdigit() and key_node.style is None and out and value_node.value == "" and node.flow_style:
                self._problem(
                    f"{dotted((*path, list(out)[-1]))}: a number with a decimal comma",
                    line,
                    remedy="Write a decimal point.",
                )
            out[key] = self.value(value_node, (*path, key))
            self.lines[(*path, key)] = line
        return out

    def _single(self, node: yaml.ScalarNode, path: Path_, line: int) -> Any:
        if node.style in ("|", ">") and not node.value:  # `operator: >`, a sign that starts an empty text in YAML
            node = yaml.ScalarNode(node.tag, node.style, node.start_mark, node.end_mark)
        self.texts[path] = str(node.value)
        try:
            value = self.constructor.construct_object(node)
            return plain(_expanded(value), dotted(path), self.file, line) if isinstance(value, str) else value
        except KeyError as error:
            remedy = "Set it to a folder, or write the complete path."
            return self._problem(f"{dotted(path)}: the environment variable {error} is not set", line, remedy=remedy)
        except ValueError:
            return self._problem(f"{dotted(path)}: the number is too long", line)

    def _problem(self, what: str, line: int, *, remedy: str | None = None) -> None:
        self.problems.append(Problem(what, file=self.file, line=line, remedy=remedy))


def _expanded(text: str) -> str:
    """Replace `${NAME}` by that environment variable, for example for data folders."""

    def value(match: re.Match[str]) -> str:
        found = variable(match.group(1))
        if found is None:
            raise KeyError(match.group(1))
        return found

    return re.sub(r"\$\{(\w+)\}", value, text)
