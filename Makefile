# make report     train a quick version of every experiment here, into build/report/, a web page in the end
# make test       lint, unit tests, and every notebook run and compared with its committed outputs
# make html       the web page of the executed notebooks, into build/html/
# make full       train what results/ is missing, then make notebooks (days on a CPU; it resumes)
# make notebooks  run every notebook in place from results/, which writes the tables and figures, and those of the pages
# make bench      measure speed ratios on this machine
# make gpu        ten minutes that tell whether it works on this machine's GPU, and how fast: benchmarks/gpu/README.md
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)

.PHONY: setup report html test full notebooks bench gpu

setup: .venv/ready
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python " + sys.version.split()[0] + \
	  ": 3.11 or newer is needed, say make PYTHON=python3.12")'
	@echo "Setting up .venv: PyTorch and what goes with it, some gigabytes, for some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --requirement requirements.txt --editable .
	touch $@

# The web page of the notebooks in folder $(1), into folder $(2), with more options of sphinx-build in $(3). Pages lie as in
# the repository, so that links lead there and here.
define site
	rm -rf build/site $(2)
	mkdir -p build/site/notebooks build/site/benchmarks
	cp -r site/index.md README.md RELIABILITY.md CONTRIBUTING.md docs figures build/site
	cp benchmarks/README.md build/site/benchmarks
	cp $(1)/[0-9]*.ipynb build/site/notebooks
	$(BIN)/python -m sphinx --quiet --fail-on-warning -c site -d build/doctrees $(3) build/site $(2)
	@echo "The web page: $(CURDIR)/$(2)/index.html"
endef
QUICK_BANNER := A quick version, trained on this machine: few images, one seed. Front page: the recorded runs.

QUICK_MNIST := -p seeds 1 -p train_images 9000
# A look at the works on the drawn stand-in, too short to learn much: photographs take minutes an epoch.
QUICK_CALTECH := -p seeds 1 -p dataset shapes -p sparsity 0.3 -p batch_size 16 -p train_images 64 -p epochs 1
# On MNIST's stand-in, whose 360 test images are soon tested at every sparsity.
QUICK_STUDY := -p dataset digits -p sparsity 0.9 -p seeds 1 -p epochs 5 \
  -y {'learning_rates':[0.005,0.001],'batch_sizes':[64,256]}
QUICK_DISCUSSION := -p dataset digits -p sparsity 0.5 -p seeds 1 -p epochs 5
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
	    *) quick= ;; \
	  esac; \
	  SPARSECNN_OUTPUT=$(CURDIR)/build/report $(BIN)/papermill --cwd notebooks --progress-bar $$notebook \
	    build/report/$$notebook $$quick || exit; \
	done
	$(call site,build/report/notebooks,build/report/html,-D html_theme_options.announcement="$(QUICK_BANNER)")

html: setup
	$(call site,notebooks,build/html)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest --nbval --numprocesses 2 --dist loadfile --no-loadscope-reorder

full: setup
	$(BIN)/python -m sparsecnn.sweep
	$(MAKE) notebooks

notebooks: setup
	$(BIN)/jupyter nbconvert --to notebook --inplace --execute --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(BIN)/python -m sparsecnn.report.pages

bench: setup
	$(BIN)/python benchmarks/layer.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/ensembles.py
	$(BIN)/python benchmarks/profile_step.py

gpu: setup
	@$(BIN)/python benchmarks/gpu/measure.py
