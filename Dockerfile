# Two images of one source: `--target api` holds no torch, `--target worker` does. No compiler, no root.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# an index with CPU builds of torch, where the default one's come with gigabytes of GPU libraries
ARG PIP_EXTRA_INDEX_URL=
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY app app
COPY compression compression
COPY migrations migrations
COPY workers workers
RUN python -m venv /opt/pare && /opt/pare/bin/pip install --no-cache-dir .

FROM build AS build-worker
RUN /opt/pare/bin/pip install --no-cache-dir '.[worker,formats]'

FROM python:3.11-slim-bookworm AS runtime
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libseccomp2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/pare pare
ENV PATH=/opt/pare/bin:$PATH PARE_DATA_DIR=/var/lib/pare/data PARE_HOST=0.0.0.0 PARE_LOG_FORMAT=json PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/pare

FROM runtime AS worker
COPY --from=build-worker /opt/pare /opt/pare
CMD ["pare-server", "worker"]

FROM runtime AS api
COPY --from=build /opt/pare /opt/pare
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["pare-server", "api"]
