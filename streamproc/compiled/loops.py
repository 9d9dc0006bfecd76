"""Loops over the rows of cells, one row after the other: of aggregates that numpy's ufuncs cannot keep.

They are plain Python, with no word of numba, and :mod:`streamproc.compiled.accumulate` compiles them. Where there is no
numba they run as they are, on memoryviews: the same operations on doubles in the same order, so the same results to the
bit. There are no calls in them, for what is called would have to exist twice.
"""

from __future__ import annotations

from typing import Any

#: 2 ** -i, as long as that is above zero.
HALVES = tuple(2.0**-i for i in range(1075))


def add_moments(cells: Any, data: Any, counts: Any, means: Any, squares: Any) -> None:
    """Welford's method: count, mean, and sum of squared distances from it, of the values of every cell."""
    for i in range(len(cells)):
        cell, value = cells[i], data[i]
        count = counts[cell] + 1
        away = value - means[cell]
        mean = means[cell] + away / count
        counts[cell], means[cell] = count, mean
        squares[cell] = squares[cell] + away * (value - mean)


def merge_moments(
    into: Any,
    cells: Any,
    counts: Any,
    means: Any,
    squares: Any,
    other_counts: Any,
    other_means: Any,
    other_squares: Any,
) -> None:
    """Chan's: two of those in one."""
    for i in range(len(cells)):
        here, there = into[i], cells[i]
        if other_counts[there] == 0:
            continue
        if counts[here] == 0:
            counts[here], means[here] = other_counts[there], other_means[there]
            squares[here] = other_squares[there]
            continue
        have, more = float(counts[here]), float(other_counts[there])
        away = other_means[there] - means[here]
        means[here] = means[here] + away * (more / (have + more))
        squares[here] = squares[here] + (other_squares[there] + away * away * (have * (more / (have + more))))
        counts[here] = counts[here] + other_counts[there]


def add_comoments(
    cells: Any, xs: Any, ys: Any, counts: Any, x_means: Any, y_means: Any, products: Any, x_squares: Any, y_squares: Any
) -> None:
    """The same for two fields, and the sum of the products of their distances."""
    for i in range(len(cells)):
        cell, x, y = cells[i], xs[i], ys[i]
        count = counts[cell] + 1
        x_away, y_away = x - x_means[cell], y - y_means[cell]
        x_mean, y_mean = x_means[cell] + x_away / count, y_means[cell] + y_away / count
        counts[cell], x_means[cell], y_means[cell] = count, x_mean, y_mean
        products[cell] = products[cell] + x_away * (y - y_mean)
        x_squares[cell] = x_squares[cell] + x_away * (x - x_mean)
        y_squares[cell] = y_squares[cell] + y_away * (y - y_mean)


def merge_comoments(
    into: Any,
    cells: Any,
    counts: Any,
    x_means: Any,
    y_means: Any,
    products: Any,
    x_squares: Any,
    y_squares: Any,
    other_counts: Any,
    other_x_means: Any,
    other_y_means: Any,
    other_products: Any,
    other_x_squares: Any,
    other_y_squares: Any,
) -> None:
    for i in range(len(cells)):
        here, there = into[i], cells[i]
        if other_counts[there] == 0:
            continue
        if counts[here] == 0:
            counts[here], x_means[here], y_means[here] = other_counts[there], other_x_means[there], other_y_means[there]
            products[here] = other_products[there]
            x_squares[here], y_squares[here] = other_x_squares[there], other_y_squares[there]
            continue
        have, more = float(counts[here]), float(other_counts[there])
        share = more / (have + more)
        x_away, y_away = other_x_means[there] - x_means[here], other_y_means[there] - y_means[here]
        x_means[here] = x_means[here] + x_away * share
        y_means[here] = y_means[here] + y_away * share
        products[here] = products[here] + (other_products[there] + x_away * y_away * (have * share))
        x_squares[here] = x_squares[here] + (other_x_squares[there] + x_away * x_away * (have * share))
        y_squares[here] = y_squares[here] + (other_y_squares[there] + y_away * y_away * (have * share))
        counts[here] = counts[here] + other_counts[there]


def add_decayed(
    cells: Any,
    at: Any,
    values: Any,
    weights: Any,
    half_life: int,
    halves: Any,
    sums: Any,
    totals: Any,
    times: Any,
) -> None:
    """Takes sums of values and of weights in, each as they are at a time: into those of a cell, which are for the
    latest of its times. ``2 ** -x`` is a table's value for the whole part of x, and Taylor's polynomial for the rest:
    no processor's or library's own way of rounding comes into it.
    """
    for i in range(len(cells)):
        cell, value, weight = cells[i], values[i], weights[i]
        if weight == 0.0:
            continue
        if totals[cell] == 0.0:
            sums[cell], totals[cell], times[cell] = value, weight, at[i]
            continue
        older = times[cell] - at[i]
        apart = older if older > 0 else -older
        whole = apart // half_life
        factor = 0.0
        if whole < len(halves):
            # e ** -y for y of 0 to ln 2, a quarter of y first, then its fourth power: right to some 1e-15.
            y = 0.25 * 0.6931471805599453 * (float(apart - whole * half_life) / float(half_life))
            term, part = 1.0, 1.0
            for n in range(1, 12):
                term = term * -y / n
                part = part + term
            part = part * part
            factor = part * part * halves[whole]
        if older > 0:
            sums[cell] = sums[cell] + value * factor
            totals[cell] = totals[cell] + weight * factor
        else:
            sums[cell] = sums[cell] * factor + value
            totals[cell] = totals[cell] * factor + weight
            times[cell] = at[i]


def outermost(cells: Any, times: Any, latest: int, best: Any, held: Any, rows: Any, touched: Any) -> int:
    """Finds for every cell the row of the least time, the first of several, or of the greatest, the last of several, if
    that goes before what the cell holds. ``rows`` has it for the cells ``touched[:n]``, else it is -1 as it was; gives
    n.
    """
    found = 0
    for i in range(len(cells)):
        cell, time = cells[i], times[i]
        if held[cell] != 0 and ((latest != 0 and time < best[cell]) or (latest == 0 and time >= best[cell])):
            continue
        if rows[cell] < 0:
            touched[found] = cell
            found += 1
        rows[cell], best[cell], held[cell] = i, time, 1
    return found


def add_coupons(
    cells: Any, indices: Any, ranks: Any, first: int, counts: Any, coupons: Any, dense_at: Any, spare: Any, left: Any
) -> int:
    """Puts registers (index and rank) into cells that list theirs. A cell whose list is full gets ``spare`` room for
    all of its registers, of which there are ``left[0]``: its rows are done by the caller, as those are that had it
    before. Gives the row at which there is none left.
    """
    most = coupons.shape[1]
    for i in range(first, len(cells)):
        cell = cells[i]
        if dense_at[cell] >= 0:
            continue
        index, place = indices[i], 0
        while place < counts[cell] and coupons[cell, place] >> 6 != index:
            place += 1
        if place < counts[cell]:
            if coupons[cell, place] & 63 < ranks[i]:
                coupons[cell, place] = index << 6 | ranks[i]
        elif place < most:
            coupons[cell, place] = index << 6 | ranks[i]
            counts[cell] = place + 1
        else:
            if left[0] == 0:
                return i
            left[0] -= 1
            dense_at[cell] = spare[left[0]]
    return len(cells)
