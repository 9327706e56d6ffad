"""Measures tables of 1000 rows and 10 columns in their formats; see bench/README.md.

Usage: .venv/bin/python bench/tables.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import csv
import io
import json

import numpy as np
import pyarrow as pa

import wrk
from server import Server
from table import Measure, Row, Settings, at_least, between, main
from tensors import JSON, RAW, script

LOCATIONS = """
client_body_buffer_size 1m;
location = /columns { webtorch_handler table_app:columns; }
location = /rows { webtorch_handler table_app:rows; }
location = /output { webtorch_handler xor_app:output; }
"""

CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"

# four decimals, as a table would have them
NUMBERS = np.round(np.random.default_rng(0).standard_normal((1000, 10)), 4).astype(np.float32)
COLUMNS = {f"c{index}": [float(str(v)) for v in NUMBERS[:, index]] for index in range(10)}
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


def csv_table() -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(RECORDS)
    return file.getvalue().encode()


def arrow_table() -> bytes:
    table = pa.table({name: np.float32(column) for name, column in COLUMNS.items()})
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


LISTS = ("/columns", json.dumps(COLUMNS, separators=(",", ":")).encode(), JSON)
TENSOR = ("/rows", NUMBERS.tobytes(), RAW)

Sent = tuple[str, bytes, str]
"""A path, a body and its content type."""


def row(name: str, target: float, sent: Sent, reference: Sent) -> Measure:
    """Make the measurement of a ratio of rates, with two connections."""

    def measure(settings: Settings) -> Row:
        with Server(LOCATIONS, "/output") as server:

            def rate(what: Sent) -> float:
                path, body, content_type = what
                with script(body, Content_Type=content_type) as text:
                    found = wrk.run(server.url(path), settings.seconds, script=text, connections=2)
                assert found.errors == 0, f"{path} answers with errors: {found}"
                return found.per_second

            ratios = between(lambda: rate(sent), lambda: rate(reference), settings)
            return at_least(name, target, ratios)

    return measure


ROWS: dict[str, Measure] = {
    "arrow": row(
        "Arrow, ratio to one raw tensor", 0.60, ("/columns", arrow_table(), ARROW), TENSOR
    ),
    "csv": row("CSV, ratio to lists in JSON", 0.80, ("/columns", csv_table(), CSV), LISTS),
    "records": row(
        "records, ratio to lists in JSON",
        0.80,
        ("/columns", json.dumps(RECORDS, separators=(",", ":")).encode(), JSON),
        LISTS,
    ),
}


if __name__ == "__main__":
    main(__doc__, "tables", ROWS)
