#!/bin/sh
# Makes the passwords of Valkey and PostgreSQL, each random, in deploy/secrets, which only its owner
# can enter. Changes nothing that is there. The root key is not among them: `setup` makes it.
set -eu

cd "$(dirname "$0")"
umask 077
mkdir -p secrets

random() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }

if [ -e secrets/control.env ]; then
    echo "secrets are there already" >&2
    exit 0
fi

postgres=$(random)
valkey=$(random)

printf '%s' "$postgres" >secrets/postgres_password
cat >secrets/valkey.conf <<CONF
port 6379
requirepass $valkey
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
CONF
cat >secrets/proxy.env <<ENV
OPSCENTER_REDIS_URL=redis://:$valkey@valkey:6379/0
OPSCENTER_REDIS_CONNECT_MS=500
ENV
cat secrets/proxy.env - >secrets/control.env <<ENV
OPSCENTER_DATABASE_URL=postgresql://opscenter:$postgres@postgres:5432/opscenter
ENV

# The containers' users must be able to read what is mounted into them; others cannot come this far,
# because the folder is closed.
chmod 644 secrets/*
echo "made deploy/secrets" >&2
