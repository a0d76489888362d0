# The gateway alone: slim, not root, its data in a volume.
FROM python:3.13-slim AS build
WORKDIR /src
COPY .ci/lock.txt ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r lock.txt
COPY pyproject.toml README.md ./
COPY gateway gateway
RUN /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home gateway && install -d -o gateway -g gateway /data
COPY --from=build /venv /venv
COPY config.toml /etc/video-gateway/config.toml
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VIDEO_GATEWAY_CONFIG=/etc/video-gateway/config.toml \
    VIDEO_GATEWAY_SERVER__HOST=0.0.0.0 \
    VIDEO_GATEWAY_SERVER__DATA_DIR=/data
USER gateway
VOLUME /data
EXPOSE 8080
# The orchestrator's own grace must be longer than server.grace (65 s): docker stop --time 75.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["video-gateway"]
CMD ["serve"]
