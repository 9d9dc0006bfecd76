"""Records: typed values bound to Avro schemas.

A record type is a ``msgspec.Struct`` named like its schema file: ``class Reading(Record)`` is bound to ``schemas/reading.avsc``. Declaring
a topic checks that the two agree, field by field. Instants are plain integers, milliseconds since the epoch (``timestamp-millis`` in Avro).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import ClassVar

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Base of all record types. Subclasses list their fields as class annotations, in any order.

    Set ``__schema__`` to bind to a schema file of another name than the class's in snake case.
    """

    __schema__: ClassVar[str] = ""

    @classmethod
    def schema_name(cls) -> str:
        """The name of the schema file, without ``.avsc``."""
        return cls.__schema__ or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def home(cls) -> Path | None:
        """The folder of the module that defines the type: where the search for its schema begins."""
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return Path(file).resolve().parent if file else None
