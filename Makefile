# PYTHON is only asked to create the environment; everything else runs inside it.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= output/demo
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install test demo ablation clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

install: $(INSTALLED)  ## create .venv with the tested versions (about 6 GB), once

test: $(INSTALLED)  ## run the tests; DETECTRON2_DATASETS=<folder> adds those on real images
	$(BIN)/python -m pytest $(PYTEST_ARGS)

demo: export DETECTRON2_DATASETS = $(DEMO)/datasets
demo: $(INSTALLED)  ## generate the phantom data, train all rounds of stage 1, draw the ROIs, make the review page
	$(BIN)/python datasets/prepare_phantom.py --root $(DEMO)/datasets/phantom
	$(BIN)/python tools/train_net.py --config-file configs/tsdd_stage1_demo.yaml --resume OUTPUT_DIR $(DEMO)/stage1
	$(BIN)/python tools/visualize_rois.py --run $(DEMO)/stage1
	$(BIN)/python tools/compare_figures.py --run $(DEMO)/stage1
	$(BIN)/python tools/review_rois.py --run $(DEMO)/stage1

ablation: $(INSTALLED)  ## Table II on BUS-BRA in $$DETECTRON2_DATASETS: hours; the same command goes on
	$(BIN)/python tools/ablation.py --results results/ablation.json

clean:  ## remove caches and what the demo wrote; other runs in output/ stay
	rm -rf $(DEMO) build tsdd_d2.egg-info .pytest_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## the same, and remove .venv
	rm -rf $(VENV)

# The stamp is written last: an installation that was interrupted is taken up again by the next make.
$(INSTALLED): setup.py constraints.txt tools/install_detectron2.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 10) <= v[:2] <= (3, 12) and \
	    f"Python 3.10 to 3.12 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	$(BIN)/python tools/install_detectron2.py
	@touch $@
