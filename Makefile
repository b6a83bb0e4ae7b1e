# make report     train a quick version of every experiment here, into build/report/, a web page in the end
# make test       lint, unit tests, and every notebook run and compared with its committed outputs
# make html       the web page of the executed notebooks, into build/html/
# make full       train what results/ is missing, then make notebooks (days on a CPU; it resumes)
# make notebooks  run every notebook in place from results/, which writes the tables and figures, and those of the pages
# make bench      measure speed ratios on this machine
# make lock       the versions of requirements.in that fit together, with hashes, into requirements.txt (needs uv)
# make test-lowest  unit tests with the lowest versions that pyproject.toml allows, in build/lowest (needs uv)
# make gpu        ten minutes that tell whether it works on this machine's GPU, and how fast: benchmarks/gpu/README.md
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)

# Files are UTF-8, whatever the locale. Where the home folder can't be written to, Jupyter has one in build/. Tools are
# called as modules, since scripts name their Python by its path, which may hold spaces and quotes.
export PYTHONUTF8 := 1
# Images for containers often have Python keep no bytecode: each process would compile all of PyTorch anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export HOME := $(shell mkdir -p build/home && cd build/home && pwd)
endif

.PHONY: setup report html test full notebooks bench gpu lock test-lowest

setup: .venv/ready
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python " + sys.version.split()[0] + \
	  ": 3.11 or newer is needed, say make PYTHON=python3.12")'
	@echo "Setting up .venv: PyTorch and what goes with it, some gigabytes, for some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --editable .
	touch $@

# The web page of the notebooks in folder $(1), into folder $(2), with more options of sphinx-build in $(3). Pages lie as in
# the repository, so that links lead there and here.
define site
	rm -rf build/site $(2)
	mkdir -p build/site/notebooks build/site/benchmarks/gpu
	cp -r site/index.md README.md RELIABILITY.md CONTRIBUTING.md docs figures build/site
	cp benchmarks/README.md build/site/benchmarks
	cp benchmarks/gpu/README.md build/site/benchmarks/gpu
	cp $(1)/[0-9]*.ipynb build/site/notebooks
	$(BIN)/python -m sphinx --quiet --fail-on-warning -c site -d build/doctrees $(3) build/site $(2)
	@echo "The web page: $$PWD/$(2)/index.html"
endef
QUICK_BANNER := A quick version, trained on this machine: few images, one seed. Front page: the recorded runs.

QUICK_MNIST := -p seeds 1 -p train_images 9000
# A look at the works on the drawn stand-in, too short to learn much: photographs take minutes an epoch.
QUICK_CALTECH := -p seeds 1 -p dataset shapes -p sparsity 0.3 -p batch_size 16 -p train_images 64 -p epochs 1
# On MNIST's stand-in, whose 360 test images are soon tested at every sparsity.
QUICK_STUDY := -p dataset digits -p sparsity 0.9 -p seeds 1 -p epochs 5 \
  -y {'learning_rates':[0.005,0.001],'batch_sizes':[64,256]}
QUICK_DISCUSSION := -p dataset digits -p sparsity 0.5 -p seeds 1 -p epochs 5
QUICK_ALTERNATIVES := -p dataset digits -p sparsity 0.5 -p seeds 1 -p epochs 2
# On the drawn street, whose eight scans to train on are soon done.
QUICK_DEPTH := -p dataset street -p sparsity 0.8 -p seeds 1 -p epochs 1
# MNIST's stand-in has fewer images, and so needs more epochs to learn anything.
EPOCHS := from sparsecnn.data.datasets import available; print(1 if available("mnist") == "mnist" else 15)
report: setup
	mkdir -p build/report/notebooks
	epochs=$$($(BIN)/python -c '$(EPOCHS)' | tail -n 1); \
	for notebook in $(NOTEBOOKS); do \
	  case $$notebook in \
	    */02_*) quick="$(QUICK_MNIST) -p epochs $$epochs" ;; \
	    */03_*) quick="$(QUICK_CALTECH)" ;; \
	    */04_*) quick="$(QUICK_STUDY)" ;; \
	    */05_*) quick="$(QUICK_DISCUSSION)" ;; \
	    */06_*) quick="$(QUICK_ALTERNATIVES)" ;; \
	    */07_*) quick="$(QUICK_DEPTH)" ;; \
	    *) quick= ;; \
	  esac; \
	  SPARSECNN_OUTPUT="$$PWD/build/report" $(BIN)/python -m papermill --cwd notebooks --progress-bar $$notebook \
	    build/report/$$notebook $$quick || exit; \
	done
	$(call site,build/report/notebooks,build/report/html,-D html_theme_options.announcement="$(QUICK_BANNER)")

html: setup
	$(call site,notebooks,build/html)

# Two processes of one thread each: with more, threads wait for one another, up to ten times as long.
test test-lowest: export OMP_NUM_THREADS := 1

test: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())' --no-cache
	$(BIN)/python -m pytest --nbval --numprocesses 2 --dist loadfile --no-loadscope-reorder

full: setup
	$(BIN)/python -m sparsecnn.sweep
	$(MAKE) notebooks

notebooks: setup
	$(BIN)/python -m nbconvert --to notebook --inplace --execute --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(BIN)/python -m sparsecnn.report.pages

bench: setup
	$(BIN)/python benchmarks/layer.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/ensembles.py
	$(BIN)/python benchmarks/profile_step.py
	$(BIN)/python benchmarks/alternatives.py

# What is locked stays at its version where it can; with UPGRADE=--upgrade it does not.
lock:
	uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" requirements.in -o requirements.lock
	awk 'BEGIN { print "# Made of requirements.lock by make lock: pinned versions that the tests pass with." } \
	  NR == FNR { if (split($$1, pin, "==") == 2) version[pin[1]] = pin[2]; next } \
	  !/^#/ { printf "%-24s %s\n", $$1 "==" version[$$1], substr($$0, index($$0, "#")) }' \
	  requirements.lock requirements.in > requirements.txt

# The package with the lowest versions of what it names, tested by the newest of what only tests name. With pyarrow,
# which many have: pandas then stores text in it, as it does not for make test.
LOWEST := build/lowest/bin/python
test-lowest:
	uv venv --quiet --clear --seed --python 3.11 build/lowest
	uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable '.[report,cluster]'
	uv pip freeze --quiet --python $(LOWEST) --exclude-editable > build/lowest/pins
	sed 's/ *#.*//' requirements.in | uv pip install --quiet --python $(LOWEST) --constraint build/lowest/pins --requirement - pyarrow
	$(LOWEST) -m pytest tests --numprocesses 2 --dist loadfile --no-loadscope-reorder

gpu: setup
	@$(BIN)/python benchmarks/gpu/measure.py
