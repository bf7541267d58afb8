# One image for all commands: up, proxy, control, drain, migrate, setup, and the CLI.
#
# The tag says which Python and which Debian. To pin the bytes as well, name the digest of the
# image that you pulled and checked: --build-arg BASE=docker.io/library/python:3.11-slim-bookworm@sha256:...
ARG BASE=docker.io/library/python:3.11-slim-bookworm


FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# What is needed to run and to build, each with its hash; this layer changes with the lock alone.
COPY requirements.lock ./
RUN python3 -m venv --without-pip /opt/opscenter \
    && python3 -m pip --python /opt/opscenter/bin/python install --require-hashes -r requirements.lock

COPY . .
RUN python3 -m pip --python /opt/opscenter/bin/python install --no-deps --no-build-isolation . \
    # what only the build needed goes again; `check` proves that nothing else needs it
    && python3 -m pip --python /opt/opscenter/bin/python uninstall -y \
       hatchling packaging pathspec tomlkit trove-classifiers \
    && python3 -m pip --python /opt/opscenter/bin/python check \
    && /opt/opscenter/bin/python -m compileall -q /opt/opscenter/lib


FROM ${BASE}

LABEL org.opencontainers.image.title="Ops-Center" \
      org.opencontainers.image.description="A self-hosted AI operations platform: one OpenAI-compatible door to every model" \
      org.opencontainers.image.licenses="MIT"

# The user has a name because PostgreSQL asks for one, and a number that volumes can be given to.
RUN groupadd --gid 10001 opscenter \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/opscenter \
       --shell /usr/sbin/nologin opscenter \
    && install -d -o opscenter -g opscenter -m 0700 /var/lib/opscenter /var/lib/opscenter-keys

COPY --from=build /opt/opscenter /opt/opscenter
COPY deploy/healthcheck.py /opt/opscenter/healthcheck.py

# The door is open to the container's network; control API and health stay on its loopback until
# OPSCENTER_CONTROL_HOST and OPSCENTER_HEALTH_HOST say otherwise.
ENV PATH=/opt/opscenter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 \
    OPSCENTER_HOME=/var/lib/opscenter \
    OPSCENTER_DOOR_HOST=0.0.0.0

# All that is ever written lies in the volume, so the root may be read-only (give /tmp a tmpfs).
VOLUME /var/lib/opscenter
WORKDIR /var/lib/opscenter
USER 10001:10001
EXPOSE 8084
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/opscenter/bin/python", "-I", "/opt/opscenter/healthcheck.py"]

ENTRYPOINT ["opscenter"]
CMD ["up"]
