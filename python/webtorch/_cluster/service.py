"""The process of the membership service: torchft's lighthouse, which needs no PyTorch.

It is not in a worker, as it writes a line to stderr for each request. It ends when its stdin does,
so it does not outlive the worker that started it. The package is not imported here.

    python service.py LIBRARY BIND JOIN_TIMEOUT_MS HEARTBEAT_TIMEOUT_MS
"""

import importlib.util
import os
import sys


def main(library: str, bind: str, join_ms: str, heartbeat_ms: str) -> None:
    """Serve until stdin ends; write `ready` to stdout, or why it cannot be."""
    try:
        spec = importlib.util.spec_from_file_location("_torchft", library)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        server = module.LighthouseServer(
            bind=bind,
            min_replicas=1,
            join_timeout_ms=int(join_ms),
            heartbeat_timeout_ms=int(heartbeat_ms),
        )
    except Exception as error:
        # of several kinds: another Python, a port that is in use
        print(str(error) or repr(error), flush=True)
        return
    print("ready", flush=True)
    sys.stdin.buffer.read()
    # its threads wait for requests for ever
    del server
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
