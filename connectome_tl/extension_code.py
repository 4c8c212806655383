"""Code of the parts that extensions registered, by name, for the keys of the results that use them.

A part is named by what it is and its own name: `encoder strength`, `task kind proportion`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CellType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from connectome_tl.errors import UsageError
from connectome_tl.provenance import REPORTED, content_hash, file_hash, versions


class Registered(NamedTuple):
    """Code of a part, as its hash, and the module that defines it."""

    code: str
    module: str


_REGISTERED: dict[str, Registered] = {}


def register_code(part: str, *made_of: Any) -> None:
    """Record the code of a part, before it is used; a changed part of the same package replaces an earlier one.

    Raises:
        UsageError: another package has registered this part.
    """
    module = next((name for name in _homes(made_of) if name.partition(".")[0] not in _VERSIONED), "")
    before = module_of(part)
    if before and module and before.partition(".")[0] != module.partition(".")[0]:
        raise UsageError(
            f"two extensions register the {part}: {before} and {module}",
            remedy="Give one of them another name, or uninstall it.",
        )
    _REGISTERED[part] = Registered(code_hash(made_of), module)


def code_of(parts: Iterable[str]) -> dict[str, str]:
    """Hashes of the code of those of these parts that extensions registered."""
    return {part: _REGISTERED[part].code for part in sorted({*parts} & {*_REGISTERED})}


def module_of(part: str) -> str:
    """The module of a registered part, or "" if it has none (a control)."""
    return _REGISTERED[part].module if part in _REGISTERED else ""


def _homes(thing: Any) -> Iterator[str]:
    """Modules that define a part or its pieces."""
    if isinstance(thing, partial):
        yield from _homes(thing.func)
    elif isinstance(thing, tuple):
        yield from (name for piece in thing for name in _homes(piece))
    elif is_dataclass(thing) and not isinstance(thing, type):
        yield from (name for one in fields(thing) for name in _homes(getattr(thing, one.name)))
        yield type(thing).__module__
    elif callable(thing):
        yield str(getattr(thing, "__module__", None) or type(thing).__module__)


def registered() -> tuple[str, ...]:
    """Names of all parts that extensions registered."""
    return tuple(sorted(_REGISTERED))


# Their versions are compared, so that their files need not be.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_VERSIONED = {"connectome_tl", "torch_geometric", "sklearn"} | set(REPORTED) | sys.stdlib_module_names


def code_hash(thing: Any) -> str:
    """Hash of a function, class or record of an extension: its source and values, the code of its package, or of its
    file and the files beside it that it imports, and the versions of the packages that it imports."""
    return content_hash(_code_of(thing, ()))


def _code_of(thing: Any, above: tuple[int, ...]) -> Any:
    """Plain content of a part of an extension, equal in every process; `above` are the ids of what contains it."""
    if thing is None or isinstance(thing, (str, bytes, int, float, np.generic)):
        return repr(thing)
    if hasattr(thing, "__array__") and not isinstance(thing, type):
        return content_hash(np.asarray(thing.detach() if hasattr(thing, "detach") else thing))
    if id(thing) in above or inspect.ismodule(thing):
        return getattr(thing, "__name__", "")

    def parts(found: Iterable[Any]) -> list[Any]:
        return [_code_of(part, (*above, id(thing))) for part in found]

    if isinstance(thing, Mapping):
        return parts([*thing, *thing.values()])
    if isinstance(thing, (list, tuple, set, frozenset)):
        return parts(thing) if isinstance(thing, (list, tuple)) else sorted(map(str, parts(thing)))
    if isinstance(thing, partial):
        return parts([thing.func, thing.args, thing.keywords])
    if isinstance(thing, property):
        return parts([thing.fget, thing.fset])
    if inspect.iscode(thing):
        return parts([thing.co_code.hex(), thing.co_names, thing.co_consts])
    if not hasattr(thing, "__qualname__"):  # an instance
        return parts([type(thing), vars(thing) if hasattr(thing, "__dict__") else _ADDRESS.sub("", repr(thing))])
    name = getattr(thing, "__module__", None) or ""
    inside = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if cell != CellType()]
    values = [*inside, *(getattr(thing, at, None) for at in ("__self__", "__defaults__", "__kwdefaults__"))]
    if name.partition(".")[0] in _VERSIONED:
        return [f"{name}.{thing.__qualname__}", parts(values)]
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):  # not from a file: a class of a notebook, anything in an interactive session
        source = ""
        values += _members(thing) if inspect.isclass(thing) else [getattr(inspect.unwrap(thing), "__code__", None)]
    return [f"{name}.{thing.__qualname__}{source}", parts(values), _files_of(name), _versions_used(name)]


def _members(kind: type) -> list[tuple[str, Any]]:
    """Methods, properties and plain values of a class."""
    plain = (str, int, float, tuple, property, classmethod)
    found = sorted((name, part) for name, part in vars(kind).items() if isinstance(part, plain) or callable(part))
    return [(name, part) for name, part in found if name[:2] != "__" or inspect.isfunction(part)]


def _modules_of(name: str) -> dict[str, ModuleType]:
    """The loaded modules of the package of a module; without a package, the module and what it imports from its
    folder."""
    root = name.partition(".")[0]
    if hasattr(sys.modules.get(root), "__path__"):
        below = (one for one in list(sys.modules) if one == root or one.startswith(f"{root}."))
        return {one: sys.modules[one] for one in below}
    found: dict[str, ModuleType] = {}
    waiting = [name]
    while waiting:
        here = sys.modules.get(waiting.pop())
        if here is None or here.__name__ in found:
            continue
        found[here.__name__] = here
        folder = _folder_of(here)
        others = {_module_of(part) for part in vars(here).values()}
        waiting += [one for one in others if folder is not None and _folder_of(sys.modules.get(one)) == folder]
    return found


def _folder_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).parent


def _module_of(part: Any) -> str:
    return str(part.__name__ if inspect.ismodule(part) else getattr(part, "__module__", None))


def _files_of(name: str) -> list[Any]:
    """Names and hashes of the code of the package of a module, or of the module and what it imports from its folder."""
    root = name.partition(".")[0]
    if root in _VERSIONED:
        return []
    folders = [Path(folder) for folder in getattr(sys.modules.get(root), "__path__", ())]
    inside = [(file.relative_to(folder).as_posix(), file) for folder in folders for file in folder.rglob("*.py")]
    modules = {} if folders else _modules_of(name)
    inside += [(one, Path(file)) for one, here in modules.items() if (file := getattr(here, "__file__", None))]
    return [[one, file_hash(file)] for one, file in sorted(inside) if file.is_file()]


def _versions_used(name: str) -> dict[str, str]:
    """Versions of the packages whose modules, functions or classes the modules of an extension import."""
    if name.partition(".")[0] in _VERSIONED:
        return {}
    modules = _modules_of(name).values()
    roots = {_module_of(part).partition(".")[0] for module in modules for part in list(vars(module).values())}
    found = {root: _version_of(root) for root in sorted(roots - _VERSIONED)}
    return {root: version for root, version in found.items() if version}


def _version_of(root: str) -> str:
    told = getattr(sys.modules.get(root), "__version__", "")
    return told if isinstance(told, str) and told else versions([root]).get(root, "")
