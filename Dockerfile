# WebTorch with its nginx, as an ordinary user: docker build -t webtorch .
# dist/ has the wheel, which ./build.sh wheel has made.

FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN --mount=type=bind,source=dist,target=/dist \
    pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" /dist/webtorch-*.whl \
    && useradd --create-home --uid 1000 webtorch \
    && install -d -o webtorch /srv/app /var/lib/webtorch

USER webtorch
WORKDIR /srv/app

# the files of an application; a volume may be there instead
COPY --chown=webtorch examples/xor/xor.py /srv/app/app.py

ENV WEBTORCH_SERVE_HOST=0.0.0.0 \
    WEBTORCH_SERVE_PORT=8000

EXPOSE 8000
VOLUME /var/lib/webtorch
STOPSIGNAL SIGTERM

HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/', timeout=5)"]

CMD ["webtorch", "serve", "app.py", "--checkpoint", "/var/lib/webtorch"]
