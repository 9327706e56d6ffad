"""Clients of streams with `resume=`: they come back when a connection or a worker is lost."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from duplex import Duplex
from nginx import DEADLINE, Nginx

FINAL = (1002, 1003, 1007, 1009)
"""Close codes of messages that would fail again."""


def stream(url: str, rows: Sequence[Any], ahead: int = 8) -> Iterator[Any]:
    """Send rows over WebSockets and yield their responses, at most `ahead` of them on the way."""
    id, done = "", 0
    while done < len(rows):
        back = f"?stream_id={id}&stream_offset={done}" if id else ""
        try:
            with connect(url + back) as ws:
                hello = receive(ws)
                id, sent = hello["stream_id"], hello["stream_offset"]
                while done < len(rows):
                    with suppress(ConnectionClosed):  # responses that have come are read first
                        while sent < min(done + ahead, len(rows)):
                            ws.send(json.dumps(rows[sent]))
                            sent += 1
                    response = receive(ws)
                    done += 1
                    yield response
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 1006  # as browsers say that it was lost
            if code == 1000:
                return  # the function has ended the stream
            if code in FINAL or code >= 4000:
                raise  # 4404: the stream has ended or expired; 4410: its responses have
            time.sleep(0.1)
        except (InvalidHandshake, OSError) as error:
            if isinstance(error, InvalidStatus) and error.response.status_code < 500:
                raise
            time.sleep(0.1)


def receive(ws: ClientConnection) -> Any:
    """Return the next message; raise that the connection is closed after one with an error."""
    message = json.loads(ws.recv())
    if isinstance(message, dict) and "error" in message:
        ws.recv()
    return message


COME_BACK = ("restart", "taken_over")
"""Codes of errors that leave the stream as it was."""


def stream_http(server: Nginx, path: str, rows: Sequence[Any], ahead: int = 8) -> Iterator[Any]:
    """Send rows over HTTP/1.1 and yield their answers."""
    id, done = "", 0
    end = time.monotonic() + DEADLINE
    while done < len(rows):
        assert time.monotonic() < end, f"{done} of {len(rows)} answers"
        back = [f"Stream-Id: {id}", f"Stream-Offset: {done}"] if id else []
        with suppress(OSError, EOFError):
            client = Duplex(server, path, *back)
            with closing(client):
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
