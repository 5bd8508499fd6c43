# The program of compose.yaml: API, dispatcher and workers, one image for all of them. No model is inside.
#   docker build --build-arg PYTHON_IMAGE=python@sha256:... --tag lexiseg .
# PYTHON_IMAGE is a Debian image of Python 3.11 or newer, by its digest; there is no default on purpose.
# PACKAGES: an index or a folder of wheels for hosts without internet, as options of pip.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
ARG PACKAGES=""
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml README.md ./
COPY parsers parsers
COPY agents agents
COPY vision vision
COPY workers workers
COPY service service
RUN python -m venv /opt/lexiseg \
    && /opt/lexiseg/bin/pip install --no-cache-dir ${PACKAGES} '.[parsers,agents,vision,crf,exports,api,postgres,redis]'

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/lexiseg /opt/lexiseg
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin lexiseg \
    && install --directory --owner 10001 --group 10001 /var/lib/lexiseg
ENV PATH=/opt/lexiseg/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 \
    LEXISEG_DATA=/var/lib/lexiseg LEXISEG_MODELS=/models LEXISEG_CACHE=/tmp/lexiseg
USER 10001:10001
WORKDIR /var/lib/lexiseg
STOPSIGNAL SIGTERM
ENTRYPOINT ["lexiseg"]
CMD ["--help"]
