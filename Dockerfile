# Controller and worker for docker-compose.yml: `pup`, without the embedded PostgreSQL and store.
ARG PYTHON=python:3.13-slim
FROM ${PYTHON}
WORKDIR /usr/src/pupload
COPY pyproject.toml README.md ./
COPY pupload pupload
RUN pip install --no-cache-dir .
WORKDIR /var/lib/pupload
RUN useradd --system --uid 65532 --home-dir /var/lib/pupload pupload && chown pupload .
USER pupload
ENTRYPOINT ["pup"]
