"""Finds the topology that a command is given: ``topologies.shuttle:app`` or ``path/to/shuttle.py:app``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.errors import DefinitionError, StreamprocError

if TYPE_CHECKING:
    from streamproc.define.app import App

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
    except StreamprocError:
        raise
    except Exception as error:
        raise DefinitionError(f"{topology}: {_place(error)}{type(error).__name__}: {error}") from error
    found: Any = getattr(module, name, None)
    if isinstance(found, App):
        return found
    apps = [key for key, value in vars(module).items() if isinstance(value, App)]
    advice = f"it has {', '.join(f'{where}:{key}' for key in apps)}" if apps else "it defines no App"
    raise DefinitionError(f"{topology}: no App named {name!r} there; {advice}")


def _from_module(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise DefinitionError(f"no module {name!r}: run this in the folder that it is in, or give a file") from None
        raise


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DefinitionError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _place(error: Exception) -> str:
    """The line of user code that raised."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
