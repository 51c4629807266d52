# Not built where it was written: no container engine was at hand. It was linted, and its commands run one by one.
#
#   docker build -t piapi-mcp .
#   docker run -i --rm -e PIAPI_API_KEY piapi-mcp                       # stdio
#   docker run -p 8000:8000 -e PIAPI_MCP_ALLOWED_HOSTS=mcp.example.com -v piapi-mcp:/state piapi-mcp \
#     --transport streamable-http --host 0.0.0.0                        # HTTP: each client brings its own key
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY piapi_mcp piapi_mcp
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --compile . \
 && /venv/bin/python -m compileall -q /venv/lib

FROM python:3.13-slim
LABEL io.modelcontextprotocol.server.name="io.github.OWNER/piapi-mcp" \
      org.opencontainers.image.source="https://github.com/OWNER/piapi-mcp" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --create-home --uid 10001 piapi && mkdir /state && chown piapi /state
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PIAPI_STATE_DIR=/state
USER 10001
VOLUME /state
EXPOSE 8000
# Over stdio there is nothing to ask, and nothing is wrong.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import pathlib, urllib.request as u; b'http' not in pathlib.Path('/proc/1/cmdline').read_bytes() or u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["piapi-mcp"]
