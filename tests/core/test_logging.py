"""Messages of WebTorch in applications that configure `logging`."""

import textwrap

import pytest
import torch
from safetensors.torch import save_file

from line import SERVER, app
from marks import needs_root

CHANGES = {
    "disable_existing_loggers": """
        import logging.config
        handlers = {"h": {"class": "logging.StreamHandler"}}
        root = {"level": "INFO", "handlers": ["h"]}
        logging.config.dictConfig({"version": 1, "handlers": handlers, "root": root})
    """,
    "other_handlers": """
        import logging
        logging.basicConfig(level=logging.INFO, force=True)
    """,
    "disable": """
        import logging
        logging.disable(logging.CRITICAL)
    """,
    "unchanged": "",
}


@needs_root
@pytest.mark.parametrize("change", CHANGES)
def test_messages_reach_the_log_of_nginx(start, directory, change):
    directory.chmod(0o755)
    models = directory / "models"
    http = f"webtorch_zone models:1m;\nwebtorch_checkpoint {models} interval=1s;"
    code = textwrap.dedent(app()) + textwrap.dedent(CHANGES[change])
    server = start(SERVER, code, http=http)
    (models / "line").mkdir(parents=True, exist_ok=True)
    (models / "line").chmod(0o777)
    save_file({"weight": torch.zeros(5)}, models / "wrong.tmp")
    (models / "wrong.tmp").chmod(0o644)
    (models / "wrong.tmp").rename(models / "line/wrong.safetensors")
    server.wait_for_log("wrong.safetensors is not used")
    lines = [each for each in server.log().splitlines() if "wrong.safetensors is not" in each]
    # handlers of the application may write to stderr, which is the same file
    assert len([line for line in lines if "[error]" in line]) == 1
