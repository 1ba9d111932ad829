"""Tables of text: for a terminal, and in Markdown."""

from collections.abc import Iterable, Sequence


def plain(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table for a terminal: columns two spaces apart under a ruled header, without trailing spaces.

    Args:
      header: a cell per column.
      rows: equally many cells each.
      left: how many of the first columns are aligned to the left; numbers follow, aligned to the right.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])

    def text(line: Sequence[str]) -> str:
        cells = zip(line, widths)
        aligned = (
            cell.ljust(width) if n < left else cell.rjust(width) for n, (cell, width) in enumerate(cells)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join(map(text, lines))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too.

    Args:
      header: a cell per column, already escaped.
      rows: equally many cells each.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths))} |" for line in lines
    )
