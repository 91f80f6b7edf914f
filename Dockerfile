# fred-supervise as process 1 of a container: it reaps orphans, and lets the trainer save on SIGTERM.
#
#   docker build -t fred-supervise .
#   docker run --stop-timeout 180 --shm-size 1g --gpus all -v "$PWD:/work" fred-supervise \
#       start --foreground --name night -- python train.py
#
# Without torch, for a trainer that brings its own: build FROM its image with `--build-arg BASE=…`. The trainer of this
# project needs `--build-arg EXTRAS=[train,stacks]`.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG EXTRAS=[stacks]
COPY . /usr/local/src/fred-supervise
RUN pip install --no-cache-dir "/usr/local/src/fred-supervise${EXTRAS}" \
    && rm -rf /usr/local/src/fred-supervise \
    && useradd --create-home --uid 1000 trainer \
    && mkdir -p /work && chown trainer /work
USER trainer
WORKDIR /work
STOPSIGNAL SIGTERM
ENTRYPOINT ["fred-supervise"]
CMD ["--help"]
