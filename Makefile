# PYTHON is only asked to create the environment; everything else runs inside it.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= output/demo
SMALL ?= output/small
RESULTS ?= results
PYTEST_ARGS ?=
FUZZ_ARGS ?=
REPRODUCE_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
REPRODUCE = $(BIN)/python tools/reproduce.py $(REPRODUCE_ARGS) --experiment

.DEFAULT_GOAL := help
.PHONY: help install test fuzz lint demo ablation experiments reproduce-small trained-model gpu-check clean distclean

SMALL_STEPS := INPUT.MIN_SIZE_TRAIN '(192,)' INPUT.MIN_SIZE_TEST 192 INPUT.MAX_SIZE_TRAIN 256 INPUT.MAX_SIZE_TEST 256 \
    REFINEMENT.WARMUP_ITER 30 REFINEMENT.ROUNDS 2 REFINEMENT.MIN_IOU_WITH_MANUAL 0.0 SOLVER.WARMUP_ITERS 10 \
    SOLVER.MAX_ITER 60 SOLVER.CHECKPOINT_PERIOD 30 TEST.EVAL_PERIOD 60 TEST.BOOTSTRAP 200

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

install: $(INSTALLED)  ## create .venv with the tested versions (about 6 GB), once

test: $(INSTALLED)  ## run the tests on two cores; DETECTRON2_DATASETS=<folder> adds those on real images
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

fuzz: $(INSTALLED)  ## read 10,000 damaged files of all kinds, in minutes; FUZZ_ARGS='--seed 1' takes others
	$(BIN)/python -W ignore -m tests.fuzz $(FUZZ_ARGS)

lint: $(INSTALLED)  ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

demo: export DETECTRON2_DATASETS = $(DEMO)/datasets
demo: $(INSTALLED)  ## generate the phantom data, train all rounds of stage 1, draw the ROIs, make the review page
	$(BIN)/python datasets/prepare.py phantom --root $(DEMO)/datasets/phantom
	$(BIN)/python tools/train_net.py --config-file configs/tsdd_stage1_demo.yaml --resume OUTPUT_DIR $(DEMO)/stage1
	$(BIN)/python tools/draw_rois.py --run $(DEMO)/stage1
	$(BIN)/python tools/review_rois.py --run $(DEMO)/stage1

# The experiments in results/; the commands share runs. REPRODUCE_ARGS='--jobs 2' goes to each of them.
ablation: $(INSTALLED)  ## Table II on BUS-BRA in DETECTRON2_DATASETS; it goes on where it was stopped
	$(REPRODUCE) table2 --folds 1 2 3 4 --p 0.2
	$(REPRODUCE) table2 --folds 1 --p 1.0
	$(REPRODUCE) table2_seeds

experiments: ablation  ## Tables I to III, Fig. 6 to 9 on folds 1 to 4, with those of ablation: many hours
	$(REPRODUCE) table1 --folds 1 2 3 4 --p 0.2
	$(REPRODUCE) table1 --folds 1 --p 1.0
	$(REPRODUCE) table3
	$(REPRODUCE) teachers
	$(REPRODUCE) all --no-train --results $(RESULTS)
	$(BIN)/python tools/update_readme.py

# Few images and steps: it shows that all parts work together, not what the methods are worth.
reproduce-small: export DETECTRON2_DATASETS = $(SMALL)/datasets
reproduce-small: $(INSTALLED)  ## three methods on two folds of a small phantom, with tables: minutes; it goes on too
	$(BIN)/python datasets/prepare.py phantom --root $(SMALL)/datasets/phantom --patients 40
	$(BIN)/python tools/reproduce.py --experiment table1 --data phantom --methods tsddnet retinanet cnet_oracle \
	    --folds 1 2 --p 0.3 --jobs 2 --output $(SMALL)/runs --overrides $(SMALL_STEPS)

trained-model: $(INSTALLED)  ## make tsdd_d2/trained again, the model of docs/model_card.md: an hour of a core
	$(BIN)/python tools/train_net.py --data busbra --fold all --resume OUTPUT_DIR output/trained
	$(BIN)/python tools/save_model.py --run output/trained --half --output tsdd_d2/trained/busbra.pth
	$(BIN)/python tools/update_readme.py

gpu-check: $(INSTALLED)  ## check on one GPU, in minutes, what the tests cannot check on a CPU; without CUDA it is skipped
	$(BIN)/python tools/gpu_check.py --output gpu_check.json

clean:  ## remove caches and what the demo and reproduce-small wrote; other runs in output/ stay
	rm -rf $(DEMO) $(SMALL) build tsdd_d2.egg-info .pytest_cache
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
