# The workstation, on the CPU: docker build -t edgeprune . ; the recorder alone: docker build --target recorder -t edgeprune-recorder .
#
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" edgeprune compress MODEL clips/labels.csv -o runs/mine
#   docker run --rm --user "$(id -u):$(id -g)" --group-add audio --device /dev/snd -v "$PWD:/work" \
#       edgeprune-recorder listen runs/mine/bundle -o journal

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN pip install --no-cache-dir build hatchling
COPY pyproject.toml README.md LICENSE ./
COPY edgeprune ./edgeprune
COPY device ./device
COPY calibration ./calibration
RUN python -m build --wheel --no-isolation --outdir /wheels

FROM python:3.11-slim-bookworm AS recorder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libportaudio2 libasound2-plugins \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt /wheels/*.whl
RUN useradd --create-home --groups audio edgeprune
# whoever runs it (--user) may have no home of its own: caches go where anybody may write
ENV HOME=/tmp
USER edgeprune
WORKDIR /work
ENTRYPOINT ["edgeprune"]

FROM recorder AS workstation
USER root
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /wheels/*.whl)[compress]"
USER edgeprune
