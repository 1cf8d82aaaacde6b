"""Merging of CSV files: checked row by row, written as CSV and Parquet with little memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from postprocess.completions import BadFileError

SOURCE = "source"
_BATCH_ROWS = 20_000
_TYPES = {"string": pa.string(), "double": pa.float64()}

Columns = tuple[tuple[str, str], ...]  # name and type: string or double


def parse_columns(text: str) -> Columns:
    """Return the columns of `time:string,flow:double`; raises ValueError. Without a type, a column is a string."""
    columns = tuple((name.strip(), kind.strip() or "string") for name, _, kind in _parts(text))
    names = [name for name, _ in columns]
    if (
        SOURCE in names
        or "" in names
        or len(set(names)) < len(names)
        or not {kind for _, kind in columns} <= set(_TYPES)
    ):
        raise ValueError(f"{text!r} is not like name:string,name:double, with each name once and none named {SOURCE}")
    return columns


class Merger:
    """Appends files to one CSV file in `folder`. Without `columns`, the first good file decides about them."""

    def __init__(self, folder: Path, columns: Columns | None) -> None:
        self.columns = columns
        self.rows = 0
        self.csv_path, self.parquet_path = folder / "merged.csv", folder / "merged.parquet"
        self._file = self.csv_path.open("w+", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if columns:
            self._write_header(columns)

    @property
    def size(self) -> int:
        """The size of the CSV file so far."""
        return self._file.tell()

    def add(self, source: str, stream: BinaryIO) -> None:
        """Append all rows of a CSV file, or none: raises BadFileError if one is malformed."""
        position, rows, columns = self._file.tell(), self.rows, self.columns
        try:
            self._append(source, csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True))
        except (BadFileError, csv.Error, UnicodeDecodeError) as error:
            self._file.seek(position)
            self._file.truncate()
            self.rows, self.columns = rows, columns
            raise BadFileError(str(error)) from None

    def finish(self) -> None:
        """Write the Parquet file from the CSV file."""
        self._file.flush()
        schema = pa.schema([(SOURCE, pa.string()), *((name, _TYPES[kind]) for name, kind in self.columns or ())])
        with (
            self.csv_path.open(encoding="utf-8", newline="") as file,
            pq.ParquetWriter(self.parquet_path, schema) as out,
        ):
            reader = csv.reader(file)
            next(reader)
            for rows in _batches(reader):
                columns = [_values(column, schema.types[i]) for i, column in enumerate(zip(*rows, strict=True))]
                out.write_table(pa.Table.from_arrays(columns, schema=schema))

    def close(self) -> None:
        """Close the CSV file."""
        self._file.close()

    def _append(self, source: str, reader: Iterator[list[str]]) -> None:
        header = next(reader, None)
        if not header:
            raise BadFileError("the file is empty")
        if SOURCE in header or len(set(header)) < len(header):
            raise BadFileError(f"column names {header} are not unique, or one is {SOURCE}")
        if self.columns is None:
            self._append_first(source, header, reader)
            return
        if header != [name for name, _ in self.columns]:
            raise BadFileError(f"columns are {header}, not {[name for name, _ in self.columns]}")
        double = [i for i, (_, kind) in enumerate(self.columns) if kind == "double"]
        for number, row in _rows(reader, len(header)):
            wrong = next((i for i in double if row[i] and not _is_number(row[i])), None)
            if wrong is not None:
                raise BadFileError(f"row {number}: {header[wrong]} is {row[wrong][:40]!r}, not a number")
            self._writer.writerow([source, *row])
            self.rows += 1

    def _append_first(self, source: str, header: list[str], reader: Iterator[list[str]]) -> None:
        """Append the file that decides: a column is of numbers if all its values are, and there is one."""
        self._write_header(tuple((name, "string") for name in header))
        filled, double = [False] * len(header), [True] * len(header)
        for _, row in _rows(reader, len(header)):
            for i, value in enumerate(row):
                filled[i] = filled[i] or bool(value)
                double[i] = double[i] and (not value or _is_number(value))
            self._writer.writerow([source, *row])
            self.rows += 1
        kinds = ("double" if full and number else "string" for full, number in zip(filled, double, strict=True))
        self.columns = tuple(zip(header, kinds, strict=True))

    def _write_header(self, columns: Columns) -> None:
        self._writer.writerow([SOURCE, *(name for name, _ in columns)])


def _parts(text: str) -> Iterator[tuple[str, str, str]]:
    return (part.partition(":") for part in text.split(","))


def _rows(reader: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(reader, 1):
        if not row:
            continue  # an empty line
        if len(row) != width:
            raise BadFileError(f"row {number} has {len(row)} fields, not {width}")
        yield number, row


def _batches(reader: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while rows := list(islice(reader, _BATCH_ROWS)):
        yield rows


def _values(column: tuple[str, ...], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        return pa.array(column, kind)
    return pa.array([float(value) if value else None for value in column], kind)


def _is_number(value: str) -> bool:
    if "_" in value:  # Python's
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True
