"""Records: typed values bound to Avro schemas.

A record type is a ``msgspec.Struct`` named like its schema file: ``class Reading(Record)`` is bound to
``schemas/reading.avsc``. Declaring a topic checks that the two agree, field by field. Instants are plain integers,
milliseconds since the epoch (``timestamp-millis`` in Avro).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    # Frozen at run time (see below); a type checker would want every subclass to say so again.
    Base = msgspec.Struct
else:

    class Base(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
        pass


class Record(Base):
    """Base of all record types. Subclasses list their fields as class annotations, in any order.

    Records do not change: ``msgspec.structs.replace`` makes a changed copy.

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
