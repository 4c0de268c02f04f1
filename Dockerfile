# One image for every process: `tidings api`, `tidings consumers`, `tidings web`, and `tidings schema apply` once before them.
FROM python:3.13-slim-trixie AS build
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /src
RUN uv venv /opt/tidings
COPY requirements.txt requirements-dev.txt ./
RUN uv pip install --no-cache --python /opt/tidings --compile-bytecode --only-binary :all: --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE schema.sql ./
COPY app app
COPY consumers consumers
COPY web web
# The wheel's builder is pinned, too: requirements-dev.txt holds its hashes.
RUN uv build --no-cache --wheel --out-dir dist --build-constraints requirements-dev.txt --require-hashes \
 && uv pip install --no-cache --python /opt/tidings --compile-bytecode --no-deps dist/*.whl

FROM python:3.13-slim-trixie
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent tidings
COPY --from=build /opt/tidings /opt/tidings
ENV PATH=/opt/tidings/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER 10001
EXPOSE 3000 3001
ENTRYPOINT ["tidings"]
CMD ["--help"]
