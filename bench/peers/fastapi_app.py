"""The handlers of apps/handlers_app.py in FastAPI."""

from typing import Annotated

import torch
from fastapi import FastAPI, File
from flower import Flower, Species
from pictures import classify

torch.set_num_threads(1)
app = FastAPI()


@app.get("/small")
async def small() -> dict[str, object]:
    return {"label": "setosa", "probability": 0.97, "model": 3}


@app.post("/flower")
async def flower(flower: Flower) -> Species:
    return Species(label="setosa", probability=flower.petal_length / 10)


@app.post("/picture")
async def picture(file: Annotated[bytes, File()]) -> list[list[float]]:
    return classify([file]).tolist()
