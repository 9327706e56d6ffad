"""nginx-conf/vad.conf: silero-vad listens to speech, also to that of a microphone in a browser."""

import concurrent.futures
import json
import subprocess
import wave

import numpy as np
import pytest
import requests
import torch

from browser import open_page
from nginx import DEADLINE, ROOT, Nginx, running, wait_for

pytest.importorskip("silero_vad")

from silero_vad import load_silero_vad
from websockets.sync.client import connect

RATE = 16000
CHUNK = 512
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def shared_server():
    """Run the real locations, at another port and in another directory."""
    text = (ROOT / "nginx-conf/vad.conf").read_text()
    locations = text[text.index("        location = /v1/speech") : text.rindex("    }\n}")]
    locations = locations.replace("../examples", f"{ROOT}/examples")
    http = f"webtorch_path {ROOT}/examples/vad; webtorch_intraop_threads 1;"
    with running(Nginx(locations, http=http)) as server:
        yield server


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> np.ndarray:
    """Make a second of noise, and two or more of speech with noise; int16."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    text = "The quick brown fox jumps over the lazy dog."
    subprocess.run(["espeak-ng", "-w", path, text], check=True, timeout=DEADLINE)
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        spoken = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    times = np.arange(0, len(spoken) - 1, rate / RATE)
    samples = np.concatenate([np.zeros(RATE), np.interp(times, np.arange(len(spoken)), spoken)])
    samples += np.random.default_rng(0).normal(0, 30, len(samples))
    chunks = len(samples) // CHUNK
    return np.clip(samples, -32768, 32767).astype("<i2")[: chunks * CHUNK].reshape(chunks, CHUNK)


@pytest.fixture(scope="module")
def alone():
    """Return a function that asks the package's own model, which keeps the state of one stream."""
    network = load_silero_vad()

    def run(chunks: np.ndarray) -> np.ndarray:
        network.reset_states()
        with torch.no_grad():
            return np.concatenate(
                [network(torch.from_numpy(chunk / np.float32(32768)), RATE)[0] for chunk in chunks]
            )

    return run


def test_websockets(server, audio, alone):
    def run(chunks: np.ndarray) -> np.ndarray:
        url = f"ws://127.0.0.1:{server.port}/v1/speech"
        with connect(url, compression=None, open_timeout=DEADLINE) as client:
            answers = []
            for chunk in chunks:
                client.send(chunk.tobytes())
                answers.append(client.recv(DEADLINE))
        return np.frombuffer(b"".join(answers), dtype="<f4")

    streams = [audio[at:] for at in range(0, 40, 10)]
    with concurrent.futures.ThreadPoolExecutor(len(streams)) as pool:
        found = list(pool.map(run, streams))
    for chunks, answers in zip(streams, found, strict=True):
        np.testing.assert_allclose(answers, alone(chunks), atol=1e-4)
    assert found[0][5:25].max() < 0.5
    assert (found[0][40:] > 0.5).mean() > 0.5


def test_http(server, audio, alone):
    expected = alone(audio)
    url = server.url("/v1/speech")
    answer = requests.post(url, audio.tobytes(), headers=RAW, timeout=DEADLINE)
    np.testing.assert_allclose(np.frombuffer(answer.content, dtype="<f4"), expected, atol=1e-4)

    headers = {**RAW, "Accept": "application/x-ndjson"}
    answer = requests.post(url, audio.tobytes(), headers=headers, timeout=DEADLINE)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    np.testing.assert_allclose(lines, expected, atol=1e-4)

    lines = "".join(json.dumps(chunk.tolist()) + "\n" for chunk in audio[:40])
    answer = requests.post(url, lines, timeout=DEADLINE)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    np.testing.assert_allclose(lines, expected[:40], atol=1e-4)


def test_microphone(server, audio, tmp_path):
    with wave.open(str(tmp_path / "microphone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(audio.tobytes())
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path}/microphone.wav",
    )
    url = f"http://localhost:{server.port}/vad.html"
    with open_page(url, tmp_path, *options) as page:
        page.evaluate("document.getElementById('start').click()", gesture=True)

        def number(name: str) -> int:
            return int(page.evaluate(f"document.getElementById('{name}').value"))

        def state() -> str:
            return page.evaluate("document.getElementById('state').value")

        # the file is repeated, so speech and silence come again
        wait_for(lambda: number("speech") >= 5, lambda: f"speech, not {state()}")
        wait_for(lambda: number("chunks") - number("speech") >= 5, lambda: f"silence, {state()}")
        page.evaluate("document.getElementById('stop').click()", gesture=True)
        wait_for(lambda: state().startswith("1"), lambda: f"the end, not {state()}")
        assert not page.evaluate("document.getElementById('start').disabled")
