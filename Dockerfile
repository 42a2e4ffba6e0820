# The image of every process: web (the default), worker, scheduler, and each command of `stocksync`.
#   docker build -t stocksync .
#   docker run --rm --env-file .env stocksync check
# Another base with Python 3.11 or newer as `python3`: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# The lock alone comes first: as long as it stays, this layer is taken from the cache. Its hashes are checked.
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/stocksync \
    && /opt/stocksync/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt \
    && /opt/stocksync/bin/pip uninstall --yes --quiet pip
# No build of a wheel, which would fetch a build tool from outside of the lock: the source is the program.
COPY stocksync /app/stocksync
COPY web /app/web
COPY jobs /app/jobs
COPY deploy/docker/stocksync /opt/stocksync/bin/stocksync
RUN chmod 755 /opt/stocksync/bin/stocksync && /opt/stocksync/bin/python -m compileall -q /app

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="stocksync" \
      org.opencontainers.image.description="Deducts stock for Allegro orders and tells the orders microservice so, reliably."
COPY --from=build /opt/stocksync /opt/stocksync
COPY --from=build /app /app
ENV PATH=/opt/stocksync/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STOCK_SYNC_LOG_FORMAT=json \
    PORT=8000
WORKDIR /app
# A number, so that Kubernetes' runAsNonRoot can check it. Nothing in the image belongs to this user: it writes to /tmp alone.
USER 10001:10001
EXPOSE 8000
# For the web process. compose.yaml has the checks of the other two.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["stocksync"]
CMD ["web"]
