"""The streams of apps/streams_app.py and of examples/vad/vad.py in FastAPI, over WebSocket."""

import torch
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from silero_vad import load_silero_vad
from xor_app import xor

torch.set_num_threads(1)
app = FastAPI()
network = load_silero_vad()._model


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.websocket("/xor")
async def xor_stream(client: WebSocket) -> None:
    await client.accept()
    mean = torch.zeros(1)
    try:
        while True:
            x = await client.receive_json()
            with torch.no_grad():
                y = xor(torch.tensor([x]))[0]
                mean = torch.lerp(mean, y, 0.1)
            await client.send_json(y.tolist())
    except WebSocketDisconnect:
        pass


@app.websocket("/vad")
async def vad(client: WebSocket) -> None:
    await client.accept()
    memory = torch.zeros(2, 1, 128)
    context = torch.zeros(1, 64)
    try:
        while True:
            audio = torch.frombuffer(bytearray(await client.receive_bytes()), dtype=torch.int16)
            with torch.no_grad():
                samples = torch.cat([context, audio[None] / 32768], dim=1)
                probability, memory = network(samples, memory)
            context = samples[:, -64:]
            await client.send_bytes(probability.numpy().tobytes())
    except WebSocketDisconnect:
        pass
