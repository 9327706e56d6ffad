"""Clients of streams with `resume=`: they come back when a connection or a worker is lost."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from duplex import Duplex
from nginx import DEADLINE, Nginx


def stream(url: str, rows: Sequence[Any], ahead: int = 8) -> Iterator[Any]:
    """Send rows over WebSockets and yield their answers, at most `ahead` of them on the way."""
    id, done = "", 0
    while done < len(rows):
        back = f"?stream_id={id}&stream_offset={done}" if id else ""
        try:
            with connect(url + back) as ws:
                hello = json.loads(ws.recv())
                id, sent = hello["stream_id"], hello["stream_offset"]
                while done < len(rows):
                    while sent < min(done + ahead, len(rows)):
                        ws.send(json.dumps(rows[sent]))
                        sent += 1
                    answer = json.loads(ws.recv())
                    done += 1
                    yield answer
        except (ConnectionClosed, InvalidHandshake, OSError) as error:
            if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code >= 4000:
                raise  # 4404: the stream has expired; 4410: its answers have
            time.sleep(0.1)


COME_BACK = ("restart", "taken_over")
"""Codes of errors that leave the stream as it was."""


def stream_http(server: Nginx, path: str, rows: Sequence[Any], ahead: int = 8) -> Iterator[Any]:
    """Send rows over HTTP/1.1 and yield their answers."""
    id, done = "", 0
    end = time.monotonic() + DEADLINE
    while done < len(rows):
        assert time.monotonic() < end, f"{done} of {len(rows)} answers"
        back = [f"Stream-Id: {id}", f"Stream-Offset: {done}"] if id else []
        with contextlib.suppress(OSError, EOFError):
            client = Duplex(server, path, *back)
            with contextlib.closing(client):
                status = client.head()
                assert status not in (404, 410), status
                if status != 200:
                    continue
                id = client.headers["stream-id"]
                sent = int(client.headers["stream-offset"])
                while done < len(rows):
                    while sent < min(done + ahead, len(rows)):
                        client.send_row(rows[sent])
                        sent += 1
                    answer = client.row()
                    if isinstance(answer, dict) and answer.get("code") in COME_BACK:
                        break
                    done += 1
                    yield answer
                else:
                    client.finish()
                    return
        time.sleep(0.05)
