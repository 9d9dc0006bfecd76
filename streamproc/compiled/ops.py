"""What a program over Avro values is made of: rows of five numbers, which :mod:`streamproc.compiled.values` runs.

A row is ``[op, next, slot, a, b]``: what to do, the row to go on with, and where a value goes (-1: nowhere, it is only
checked).
"""

from __future__ import annotations

WIDTH = 5

END = 0  # the value is read
FAIL = 1  # no value of the reader's schema: the row way says why
SKIP = 2  # a bytes of any content
LONG = 3  # and int, whose range no reader here checks
LONG_TO_DOUBLE = 4
FLOAT = 5  # widened to a double
DOUBLE = 6
BOOLEAN = 7
STRING = 8  # bytes of any content, behind their number
TEXT = 9  # the same, of UTF-8
FIXED = 10  # a bytes, kept
NULL = 11  # of a number; its flag is b
NULL_BOOLEAN = 12  # its flag is b
NULL_TEXT = 13
CONST = 14  # the number (or a double's bits) a
CONST_BOOLEAN = 15  # a
CONST_TEXT = 16  # b bytes at a
BRANCH = 17  # a number below a, by which the row behind is chosen whose ``next`` is gone on with
ARRAY = 18  # blocks of items, each read from row a on
EMPTY = 19  # blocks of items that take no bytes
LOOP = 20  # one item is read
CALL = 21  # row a on, until a RETURN
RETURN = 22

#: How a row's value came out.
GOOD, TOMBSTONE, OTHER, BAD = 0, 1, 2, 3

#: Levels of arrays and records in one another that a program follows; deeper values are left to the row way.
DEPTH = 64
#: Items that take no bytes, in one value: a count of them is free to write, and not to read.
EMPTY_ITEMS = 1_000_000
