"""Code for GPUs that nginx serves: fractals as tiles, bodies as a stream, a filter of pictures.

Run it with `pip install webtorch[gpgpu]` and `./build.sh run nginx-conf/gpgpu.conf`, and open
http://127.0.0.1:3000/. It runs on a GPU if there is one, and on the CPU otherwise. What requests of
many clients ask for at the same time is computed by one launch of a kernel.
"""

import asyncio
import io
import math
from collections.abc import AsyncIterator
from typing import Any

import torch
from jaxtyping import Float32, Float64, Int32, UInt8
from kernels import TILE, attract, fractal, launch, outline
from PIL import Image, UnidentifiedImageError
from torch import Tensor

import webtorch

# a larger picture would take gigabytes; Pillow raises an error above twice this number
Image.MAX_IMAGE_PIXELS = 16 * 1024 * 1024

# --- functions of tensors: on a device, in batches ---


@webtorch.infer(device="auto")
def draw(
    view: Float64[Tensor, "batch 6"], limit: Int32[Tensor, "batch"]
) -> UInt8[Tensor, "batch 256 256 3"]:
    """Draw tiles; a view is left, top, size, Julia's constant, and 1 for Julia."""
    pixels = torch.empty(len(view), TILE, TILE, 3, dtype=torch.uint8, device=view.device)
    return launch(fractal, pixels.shape[:3], [view, limit], pixels)


@webtorch.infer(device="auto")
def move(
    bodies: Float32[Tensor, "batch n 6"], time: Float32[Tensor, "batch"]
) -> Float32[Tensor, "batch n 6"]:
    """Move all bodies by a step of time."""
    return launch(attract, bodies.shape[:2], [bodies, time], torch.empty_like(bodies))


@webtorch.infer(device="auto")
def trace(picture: UInt8[Tensor, "batch h w 3"]) -> UInt8[Tensor, "batch h w"]:
    """Trace the edges of pictures."""
    edges = torch.empty(picture.shape[:3], dtype=torch.uint8, device=picture.device)
    return launch(outline, edges.shape, [picture], edges)


# --- functions of requests: what clients send and get ---


@webtorch.handler(methods=["GET"])
async def tile(
    left: float = -2.0,
    top: float = 1.5,
    size: float = 3.0,
    limit: int = 200,
    re: float | None = None,
    im: float = 0.0,
) -> webtorch.Response:
    """Answer with a tile as PNG: of the Mandelbrot set, or of a Julia set if `re` is given."""
    numbers = [left, top, size, re or 0.0, im, float(re is not None)]
    if not all(map(math.isfinite, numbers)) or size <= 0 or not 1 <= limit <= 5000:
        raise webtorch.HTTPError(422, "size is above 0, limit is 1 to 5000")
    view = torch.tensor([numbers], dtype=torch.float64)
    pixels = await draw.batched(view, torch.tensor([limit], dtype=torch.int32))
    return await png(pixels[0])


@webtorch.handler(methods=["GET"])
async def bodies(count: int = 128, frames: int = 200, step: float = 0.02) -> AsyncIterator[Any]:
    """Yield the positions of bodies that attract each other, frame by frame."""
    if not (1 <= count <= 4096 and 1 <= frames <= 10000 and math.isfinite(step)):
        raise webtorch.HTTPError(422, "count is 1 to 4096, frames is 1 to 10000")
    state = torch.randn(1, count, 6) * torch.tensor([1, 1, 0.2, 0, 0, 0])
    state[..., 3], state[..., 4] = -state[..., 1] / 2, state[..., 0] / 2
    time = torch.tensor([step])
    for _ in range(frames):
        state = await move.batched(state, time)
        yield {"positions": state[0, :, :2].mul(1000).round().div(1000).tolist()}


@webtorch.handler(methods=["POST", "PUT"])
async def edges(request: webtorch.Request) -> webtorch.Response:
    """Answer with the edges of a JPEG or PNG file as PNG."""
    picture = await asyncio.to_thread(decode, request.body)
    return await png((await trace.batched(picture.unsqueeze(0)))[0])


@webtorch.handler(methods=["GET"])
def page(request: webtorch.Request) -> webtorch.Response:
    """Answer with the page that zooms."""
    return webtorch.Response(PAGE, content_type="text/html; charset=utf-8")


def decode(file: bytes) -> Tensor:
    """Decode a file to pixels, uint8 [h, w, 3]."""
    try:
        with Image.open(io.BytesIO(file), formats=["JPEG", "PNG"]) as image:
            pixels = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise webtorch.HTTPError(422, f"this is no JPEG or PNG file: {error}") from None
    flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return flat.view(pixels.height, pixels.width, 3)


async def png(pixels: Tensor) -> webtorch.Response:
    """Encode pixels, uint8 [h, w] or [h, w, 3]; compressing does not hold up other coroutines."""

    def encode() -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "PNG", compress_level=1)
        return file.getvalue()

    return webtorch.Response(await asyncio.to_thread(encode), content_type="image/png")


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>WebTorch: kernels in nginx</title>
<style>
  body { margin: 0; background: #111; color: #ccc; font: 14px sans-serif; }
  #map { display: grid; grid-template-columns: repeat(4, 256px); width: 1024px; cursor: zoom-in; }
  #map img { width: 256px; height: 256px; background: #222; user-select: none; }
  canvas { background: #000; }
  p { margin: 8px; }
</style>
<p>Click to zoom in, with Shift to zoom out. <label><input id="julia" type="checkbox"> Julia set
of the place that was clicked last</label> <span id="where"></span></p>
<div id="map"></div>
<p><canvas id="sky" width="512" height="384"></canvas>
<label>edges of a picture: <input id="file" type="file" accept="image/png,image/jpeg"></label>
<img id="edges" alt=""></p>
<script>
const map = document.getElementById("map"), julia = document.getElementById("julia");
let view = { x: -0.6, y: 0, size: 1, limit: 200 }, centre = { x: -0.8, y: 0.156 };
for (let i = 0; i < 12; i++) map.append(new Image());
function show() {
  view.limit = Math.round(200 + 60 * Math.max(0, -Math.log2(view.size)));
  [...map.children].forEach((image, i) => {
    const left = view.x + (i % 4 - 2) * view.size;
    const top = view.y - (Math.floor(i / 4) - 1.5) * view.size;
    const c = julia.checked ? `&re=${centre.x}&im=${centre.y}` : "";
    image.draggable = false;
    image.src = `/tile?left=${left}&top=${top}&size=${view.size}&limit=${view.limit}${c}`;
  });
  document.getElementById("where").textContent = `${view.x} + ${view.y} i, ${view.size}`;
}
map.onclick = event => {
  const box = map.getBoundingClientRect();
  view.x += ((event.clientX - box.left) / 256 - 2) * view.size;
  view.y -= ((event.clientY - box.top) / 256 - 1.5) * view.size;
  if (!julia.checked) centre = { x: view.x, y: view.y };
  view.size *= event.shiftKey ? 2 : 0.5;
  show();
};
julia.onchange = () => { if (julia.checked) { view.x = view.y = 0; view.size = 0.8; } show(); };
document.getElementById("file").onchange = async event => {
  const answer = await fetch("/edges", { method: "POST", body: event.target.files[0] });
  if (answer.ok) document.getElementById("edges").src = URL.createObjectURL(await answer.blob());
};
const sky = document.getElementById("sky").getContext("2d");
const events = new EventSource("/bodies?frames=10000");
events.onmessage = event => {
  sky.clearRect(0, 0, 512, 384);
  sky.fillStyle = "#fc8";
  for (const [x, y] of JSON.parse(event.data).positions)
    sky.fillRect(256 + 80 * x, 192 - 80 * y, 2, 2);
};
show();
</script>
"""
