"""Servers to balance: each serves some requests at once, the others wait.

Used by run.py, in a process of its own. A request is GET /?kind=K&size=S: it takes S times what
the server needs for a request of that kind.
"""

import argparse
import asyncio
import json
from collections import OrderedDict
from urllib.parse import parse_qs, urlsplit

BODY = b"x" * 1024


class Server:
    """One server: `workers` requests at once, in the order in which they came."""

    def __init__(self, seconds: float, workers: int) -> None:
        self.seconds = seconds
        self.factors: dict[str, float] = {}  # by kind
        self.kept = 0  # kinds that stay warm; 0: all
        self.miss = 1.0  # factor of a kind that is not
        self.mode = "up"  # or errors, hangs
        self.warm: OrderedDict[str, None] = OrderedDict()
        self.slots = asyncio.Semaphore(workers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
                status = await self.answer(query["kind"][0], float(query["size"][0]))
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(BODY)))
                writer.write(BODY)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, kind: str, size: float) -> int:
        if self.mode == "errors":
            return 500
        if self.mode == "hangs":
            await asyncio.Event().wait()
        async with self.slots:
            factor = self.factors.get(kind, 1.0)
            if self.kept and kind not in self.warm:
                factor *= self.miss
            self.warm[kind] = None
            self.warm.move_to_end(kind)
            if self.kept and len(self.warm) > self.kept:
                self.warm.popitem(last=False)
            await asyncio.sleep(self.seconds * factor * size)
        return 200


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the first server")
    parser.add_argument("--settings", type=json.loads, required=True, help="a list of settings")
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()

    servers = []
    for number, settings in enumerate(arguments.settings):
        server = Server(settings.pop("seconds"), arguments.workers)
        vars(server).update(settings)
        servers.append(server)
        await asyncio.start_server(server.serve, "127.0.0.1", arguments.port + number)
    print("ready", flush=True)

    # a line of JSON changes a server: {"server": 1, "mode": "errors"}
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    with open(0, "rb", closefd=False) as pipe:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), pipe)
        while line := await stdin.readline():
            change = json.loads(line)
            vars(servers[change.pop("server")]).update(change)


if __name__ == "__main__":
    asyncio.run(main())
