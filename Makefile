# Toposieve: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Versions of Python, and the first program that is one of them; if none is, python3 stands for them in the error.
VERSIONS := 3.11 3.12 3.13
USABLE = import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(VERSIONS)".split())
PYTHON ?= $(or $(shell for python in $(VERSIONS:%=python%) python3; do \
	$$python -c '$(USABLE)' 2> /dev/null && echo $$python && break; done),python3)
UV := .uv/bin/uv
JOBS := .venv-jobs/bin
AIRFLOW := .venv-airflow/bin
FIRMWARE := .venv-firmware/bin
READY := .venv-jobs/.ready .venv-airflow/.ready
PYTEST := -m pytest -q
# An environment, and a link by which paths of profiles and images find its packages, whatever Python's version is.
VENV = $(UV) venv --quiet --clear --python .uv/bin/python $(1) && ln -sr $(1)/lib/python3.*/site-packages $(1)
INSTALL = $(UV) pip install --quiet --require-hashes --only-binary pythia8mc \
	--config-settings-package 'pyspark:--build-option=--compression=stored'
# All of an environment from its lock, and our code in it. Arguments: environment, lock, folder of the code, options.
# Bytecode is written here, once: some machines forbid it later, and then every Spark task compiles its imports anew.
BUILD = $(call VENV,$(1)) && $(INSTALL) $(4) --python $(1)/bin/python -r $(2) && \
	echo "$(CURDIR)/$(3)" > $(1)/site-packages/toposieve.pth
# One lock for all versions of Python, with the same version of each package wherever there is one.
COMPILE = $(UV) pip compile --quiet --universal --fork-strategy fewest --python-version $(firstword $(VERSIONS)) \
	--generate-hashes --no-emit-index-url --no-annotate --no-header

CPU = --override requirements/cpu-overrides.txt
LIKE_JOBS = --constraint requirements/jobs.txt

# Whatever the shell's locale is: Airflow's own files need it.
export PYTHONUTF8 := 1
ifeq ($(shell test -w "$${HOME-}" && echo yes),)  # a container's user may have no home
export UV_CACHE_DIR := $(CURDIR)/.uv/cache
endif

.PHONY: help env ready firmware-env lock check-locks images schema lint format test test-unit test-spark test-training \
	test-storage test-serving test-faults test-dags test-helm test-airflow test-firmware \
	test-kubernetes test-kubernetes-faults kafka-jars golden bench demo results stream airflow backfill clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# --- environments ----------------------------------------------------------------------------------------------------

env:  ## build both environments from the locked requirements (about a minute)
	@$(MAKE) --silent --jobs 3 $(READY) .venv-jobs/.quick

ready:
	@$(MAKE) --silent --jobs 2 $(READY)

.uv/.ready: requirements/uv.txt
	@$(PYTHON) -c '$(USABLE)' 2> /dev/null || { echo "error: $(PYTHON) is missing, is none of Python $(VERSIONS) or \
	cannot make environments: install one (Debian, Ubuntu: python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
	exit 1; }
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv-jobs/.installed: requirements/jobs.txt .uv/.ready
	@echo "building .venv-jobs: Spark, HEP libraries, TensorFlow"
	@$(call BUILD,.venv-jobs,$<,jobs)
	@$(JOBS)/python -m toposieve.spark.java > /dev/null
	@touch $@

.venv-jobs/.ready: .venv-jobs/.installed
	@$(JOBS)/python -m toposieve.warm_up > /dev/null & kernels=$$!; \
	env -u PYTHONDONTWRITEBYTECODE $(JOBS)/python -m toposieve.bytecode 2> /dev/null; wait $$kernels
	@touch $@

# Spark's classes: a session starts in half the time, for 35 CPU seconds once. A demo has too few of them.
.venv-jobs/.quick: .venv-jobs/.installed
	@$(JOBS)/python -m toposieve.spark.class_archive > /dev/null
	@touch $@

# Bytecode of all but half, which no part of Airflow imports.
UNUSED := pandas|numpy|pyspark|pyarrow|mypyc?|libcst|pygments|playwright|hypothesis|kubernetes/test
.venv-airflow/.ready: requirements/airflow.txt .uv/.ready
	@echo "building .venv-airflow: Airflow and its providers"
	@$(call BUILD,.venv-airflow,$<,plugins)
	@$(AIRFLOW)/python -m compileall -q -j 0 -x '/($(UNUSED))/' .venv-airflow/lib > /dev/null || true  # what does not compile is for another Python
	@touch $@

firmware-env: .venv-firmware/.ready  ## build the environment of make_firmware.py (optional; packages under LGPL)

.venv-firmware/.ready: requirements/firmware.txt .uv/.ready
	@echo "building .venv-firmware: quantised networks, Verilog and its simulation"
	@$(call BUILD,.venv-firmware,$<,jobs,--compile-bytecode)
	@touch $@

kafka-jars: .kafka-jars/.ready  ## fetch Spark's Kafka connector, for score_stream.py (needs mvn)

.kafka-jars/.ready: requirements/kafka-jars.pom.xml
	@rm -rf $(@D)
	@mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D)
	@touch $@

lock: .uv/.ready  ## resolve the dependency groups of pyproject.toml into requirements/*.txt
	echo "uv==$$($(UV) --version | cut -d ' ' -f 2)" | $(COMPILE) - -o requirements/uv.txt
	$(COMPILE) pyproject.toml --group airflow --group helm --group test --group browser-test -o requirements/airflow.txt
	$(COMPILE) pyproject.toml --group jobs --group cpu --group test --group storage-test $(CPU) --only-binary pythia8mc -o requirements/jobs.txt
	$(COMPILE) pyproject.toml --group firmware --group cpu --group test $(CPU) $(LIKE_JOBS) -o requirements/firmware.txt
	@# The images take parts of these environments, in the same versions.
	$(COMPILE) pyproject.toml --group airflow-image --constraint requirements/airflow.txt -o requirements/airflow-image.txt
	$(COMPILE) pyproject.toml --group submit $(LIKE_JOBS) -o requirements/submit.txt
	$(COMPILE) pyproject.toml --group spark --group training --group tuning --group serving --group cpu $(CPU) $(LIKE_JOBS) --only-binary pythia8mc -o requirements/spark.txt
	$(COMPILE) pyproject.toml --group training --group cpu $(CPU) $(LIKE_JOBS) -o requirements/training.txt
	$(COMPILE) pyproject.toml --group training --group gpu $(LIKE_JOBS) -o requirements/training-gpu.txt
	$(COMPILE) pyproject.toml --group plain $(CPU) -o requirements/plain.txt

# All but Spark, which has no wheels, and plain.txt, which goes on top of another.
RESOLVE = $(UV) pip install --quiet --dry-run --require-hashes --python .uv/bin/python --target .uv/none --only-binary :all: \
	--override <(printf '%s ; python_version < "3"\n' pyspark pyspark-client)
check-locks: .uv/.ready  ## see that each lock is complete, with wheels, for each version of Python (asks the registry)
	@for lock in $(filter-out %-overrides.txt %/plain.txt,$(wildcard requirements/*.txt)); do for version in $(VERSIONS); do \
		$(RESOLVE) --python-version $$version -r $$lock || \
			{ echo "error: $$lock does not do for Python $$version: run make lock" >&2; exit 1; }; done; done

images:  ## build the container images (docker/build.sh --help has the options)
	docker/build.sh

schema: env  ## write the JSON schemas: the configuration's for the DAGs' trigger forms, the profile's for the chart
	$(JOBS)/python -m toposieve.schema_export > dags/config/schema.json
	$(AIRFLOW)/python -m toposieve_airflow.profile_schema helm/toposieve/values.schema.json

# Tests on Kubernetes need a cluster; in CI there must be one, and what failed there is tried once more: it shares its
# machine with the tests, which can be too busy to keep a time limit.
# What failed is kept apart from that of the tests beside them.
KUBERNETES = $(AIRFLOW)/python $(PYTEST) -o cache_dir=.pytest_cache/cluster tests/integration/kubernetes
NO_CLUSTER = @echo 'Kubernetes tests left out: export KUBECONFIG=$$HOME/.kube/config, once "kind create cluster" or "minikube start" made one'; \
	test -z "$(CI)"

# So is what failed, or hung, beside servers, clusters and killed jobs on the same two cores.
TWICE = $(JOBS)/python $(PYTEST) -o faulthandler_timeout=600 $(1) $(if $(CI),|| $(JOBS)/python $(PYTEST) $(1) --last-failed)

# --- running ---------------------------------------------------------------------------------------------------------

# While Airflow starts, it makes .venv-jobs/.ready.
demo:  ## simulate, select, train and evaluate on this machine, in Airflow (seven minutes)
	@$(MAKE) --silent --jobs 2 .venv-jobs/.installed .venv-airflow/.ready
	@$(AIRFLOW)/python -m toposieve_demo.demo

results: env  ## fill the README's table of results: simulate 3 × 20,000 events and train every model (five hours; resumes)
	@$(AIRFLOW)/python -m toposieve_demo.results

airflow: ready  ## open the Airflow UI on the demo's runs (Ctrl-C ends it)
	@$(AIRFLOW)/python -m toposieve_demo.server

stream: env  ## events through a Kafka started here (needs mvn) into decisions, with a switch of models: a minute
	@PYTHONPATH=tests TF_CPP_MIN_LOG_LEVEL=3 $(JOBS)/python -W ignore -m support.show_stream $(STREAM)

backfill: env  ## ingest and select days while `make airflow` runs: FROM=2026-01-01 TO=2026-01-31; TRAIN=1: then train
	@$(AIRFLOW)/python -m toposieve_demo.backfill "$(FROM)" "$(TO)" $(if $(filter-out 0,$(TRAIN)),--train)

clean:  ## remove environments, data and everything else that make made; ROOT files of your own stay
	rm -rf .uv .venv-jobs .venv-airflow .venv-firmware .kafka-jars .airflow .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@# In work/raw/SAMPLE/DAY, simulated/ and what goes with it is ours; in an old one, all beside manifest.json. Nothing else
	@# is, nor what a link leads to.
	if [ -d work ]; then find work -mindepth 1 -maxdepth 1 ! -name raw -exec rm -rf {} +; fi
	if [ -d work/raw ]; then find work/raw -mindepth 2 -maxdepth 2 -type d \
		\( -exec test -e {}/manifest.json \; -o -path '*/_pileup/*' \) -exec rm -rf {} +; fi
	if [ -d work/raw ]; then find work/raw -mindepth 3 -maxdepth 3 \( -name simulated -o -name 'manifest-[0-9]*.json' \) \
		-print | sort | while IFS= read -r ours; do (cd "$${ours%/*}" && \
		rm -rf simulated manifest-[0-9]*.json timing.json _records _heartbeats .tmp-*); done; fi
	@if [ -d work ]; then find work/ -depth -type d -empty -delete; fi
	@if [ -d work ]; then echo "kept, for they may be yours:"; find work/ -mindepth 3 -maxdepth 3; fi

# --- checking --------------------------------------------------------------------------------------------------------

lint: env  ## ruff and mypy
	$(JOBS)/ruff check .
	$(JOBS)/ruff format --check .
	$(JOBS)/mypy jobs/toposieve jobs/*.py docker/spark/entrypoint.py
	$(AIRFLOW)/mypy plugins
	MYPYPATH=tests $(JOBS)/mypy --follow-imports silent tests/benchmarks

format: env  ## let ruff mend what it can
	$(JOBS)/ruff check --fix .
	$(JOBS)/ruff format .

# In CI two parts side by side, each printed when it is done: that on the cluster, which waits more than it computes, as
# soon as our images may be there.
test: env  ## every test
	@$(MAKE) $(if $(CI),--jobs 2 --output-sync) test-unit test-training $(if $(CI),test-kubernetes) test-storage test-spark \
		test-dags test-helm test-serving test-faults test-airflow $(if $(CI),test-firmware) test-kubernetes

test-unit: env  ## physics, preprocessing, files, metrics: seconds to a minute
	$(JOBS)/python $(PYTEST) tests --ignore tests/spark --ignore tests/jobs --ignore tests/training --ignore tests/dags \
		--ignore tests/plugins --ignore tests/helm --ignore tests/docker --ignore tests/integration --ignore tests/benchmarks \
		--ignore tests/io/store

test-spark: env  ## the Spark jobs on small real files
	$(JOBS)/python $(PYTEST) tests/spark tests/jobs --ignore tests/jobs/test_train.py

test-training: env  ## models, input pipeline, the two-worker gang
	$(JOBS)/python $(PYTEST) tests/training tests/jobs/test_train.py

test-storage: env  ## every kind of store, on servers started here: S3, HDFS (needs mvn), XRootD (needs xrootd-server)
	$(call TWICE,tests/io/store tests/integration/storage/test_stages.py)
	@# In processes of their own: TensorFlow and XRootD's library do not bear each other.
	$(call TWICE,tests/integration/storage/test_training.py)
	$(call TWICE,tests/integration/storage/test_spark_anywhere.py)

test-serving: env  ## decisions by the stream, on a Kafka broker started here (needs mvn), which is killed too
	$(call TWICE,tests/integration/serving)

test-faults: env  ## jobs that are killed, at points drawn anew each time, and run again
	$(call TWICE,tests/integration/faults)

test-dags: env  ## DAG integrity, operators, rendered commands
	$(AIRFLOW)/python $(PYTEST) tests/dags tests/plugins

test-helm: env  ## the Helm chart and the images' files, without a cluster
	$(AIRFLOW)/python $(PYTEST) tests/helm tests/docker

test-airflow: env  ## the whole DAG and a backfill in a real Airflow, and its pages in a browser (needs chromium)
	$(AIRFLOW)/python $(PYTEST) tests/integration/airflow

test-firmware: firmware-env  ## firmware of a small network, proved by simulation (needs g++; part of test in CI alone)
	$(FIRMWARE)/python $(PYTEST) tests/integration/firmware

test-kubernetes: env  ## gangs, images, chart, Spark and the DAG on the cluster that KUBECONFIG names
	$(if $(KUBECONFIG),$(KUBERNETES) $(if $(CI),|| $(KUBERNETES) --last-failed),$(NO_CLUSTER))

test-kubernetes-faults: env  ## the same with all faults (TOPOSIEVE_TEST_FAULTS does them); keeps which the code has borne
	$(if $(KUBECONFIG),$(KUBERNETES) --faults all,$(NO_CLUSTER))

golden: env  ## regenerate the golden files: rendered commands and charts, and what is known of each stage's code
	$(AIRFLOW)/python $(PYTEST) tests/dags tests/plugins tests/helm --update-golden
	$(JOBS)/python $(PYTEST) tests/test_code_numbers.py --update-golden

bench: env  ## speed and memory, as a table of ratios (BENCH=selection: one part)
	@PYTHONPATH=tests $(JOBS)/python -m benchmarks $(BENCH)
