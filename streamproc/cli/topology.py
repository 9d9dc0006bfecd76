"""Finds the topology that a command is given: ``topologies.shuttle:app`` or ``path/to/shuttle.py:app``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

import streamproc
from streamproc.errors import DefinitionError, StreamprocError

if TYPE_CHECKING:
    from streamproc.define.app import App

#: Where code lies that is not the user's: ours, Python's, the libraries', and what imports.
_NOT_USERS = (
    f"{Path(streamproc.__file__).parent}{os.sep}",
    *(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen ",
)
Topology = Annotated[str, typer.Argument(help="MODULE:APP or FILE.py:APP, such as topologies.shuttle:app.")]


def load_app(topology: str) -> App:
    """The app that is meant.

    Raises:
        DefinitionError: there is none, or its module raises; the message says where.
    """
    from streamproc.define.app import App

    where, _, name = topology.partition(":")
    name = name or "app"
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    except NotThere:
        raise
    except StreamprocError as error:
        raise DefinitionError(f"{_place(error)}{error}") from error
    except Exception as error:
        raise DefinitionError(f"{_place(error)}{type(error).__name__}: {_text(error)}") from error
    found: Any = getattr(module, name, None)
    if isinstance(found, App):
        return found
    apps = [key for key, value in vars(module).items() if isinstance(value, App)]
    advice = f"it has {', '.join(f'{where}:{key}' for key in apps)}" if apps else "it defines no App"
    raise DefinitionError(f"{topology}: no App named {name!r} there; {advice}")


class NotThere(DefinitionError):
    """There is no such module or file."""


def _from_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise NotThere(f"expected MODULE:APP or FILE.py:APP, such as topologies.shuttle:app; got {name!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotThere(f"no module {name!r}: run this in the folder that it is in, or give a file") from None
        raise


def _from_file(path: Path) -> ModuleType:
    """The file as a module of a name that no other has; what lies beside it can be imported."""
    name = f"_topology_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NotThere(f"no file {path}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.append(folder)  # last: a file that is called like one of Python's modules does not take its place
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _place(error: Exception) -> str:
    """The line of the user's code that raised, with file and colon; empty where none did."""
    if isinstance(error, SyntaxError):
        return f"{_shown(str(error.filename))}:{error.lineno}: "
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*_NOT_USERS, "<"))]
    return f"{_shown(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""


def _shown(file: str) -> str:
    """Relative where that is shorter to read."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _text(error: Exception) -> str:
    return str(error.msg) if isinstance(error, SyntaxError) else str(error)
