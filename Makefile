# Every chore of this repository. All of them set up what they need.
SHELL := /bin/bash
export PATH := $(CURDIR)/.tools/node/bin:$(CURDIR)/node_modules/.bin:$(PATH)
DEST ?= build/havirt

.PHONY: help demo test soak simulate bench build lint types unit lab check-lab dist install man format clean setup

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## show the main job on a lab of three real nodes (root, Debian 12 or later)
	@scripts/demo

test: ## everything: lint, types, unit tests, 20000 simulated clusters, the lab and its tests (root, Debian 12 or later)
	@scripts/needs-debian-root 'make test'
	@$(MAKE) --no-print-directory lint types build check-lab
	@SEEDS=20000 scripts/test-all

soak: build ## properties on new cases, RUNS of each (default 2000), 50 races, 200 faults, and the lab's tests three times
	@export HAVIRT_SEED=$${HAVIRT_SEED:-$$RANDOM$$RANDOM}; echo "soak: HAVIRT_SEED=$$HAVIRT_SEED"; \
	HAVIRT_RUNS=$${RUNS:-2000} vitest run --project unit --reporter=default --reporter=./scripts/closing-line.mjs && \
	HAVIRT_SOAK=1 vitest run --project lab races kills --reporter=default --reporter=./scripts/closing-line.mjs
	@for turn in 1 2 3; do $(MAKE) --no-print-directory lab || exit 1; done

simulate: setup ## SEEDS runs (default 10000) of a simulated cluster, FROM one on, PLOT of one kind; SEED=K tells one in words
	@node scripts/simulate.mjs --seeds '$(SEEDS)' --from '$(FROM)' --seed '$(SEED)' --plot '$(PLOT)'

bench: build ## the figures of docs/performance.md, each measured side by side in one run
	@node bench/run.mjs $(ARGS)

build: setup ## bundle src/ into dist/, so that bin/havirt runs
	@node scripts/build.mjs

lint: setup ## Biome: lint and format, warnings count
	@biome check --error-on-warnings .

types: setup ## TypeScript, strictest settings
	@tsc --noEmit

unit: setup ## tests that need nothing but Node.js
	@vitest run --project unit --reporter=default --reporter=./scripts/closing-line.mjs

lab: build ## end-to-end tests, on several labs side by side
	@scripts/test-lab

check-lab: build ## the lab's own test
	@lab/check

install: build ## copy the program to DEST, the home folder on the share
	@scripts/install '$(DEST)'

dist: ## a folder with everything in it, Node.js too, to copy to the share
	@scripts/setup --own-node
	@$(MAKE) --no-print-directory install

man: build ## write the manual page to dist/havirt.1
	@bin/havirt man > dist/havirt.1

format: setup ## let Biome mend the format
	@biome check --write .

clean: ## remove what the build made; .tools and node_modules stay
	@rm -rf dist/* build

setup:
	@scripts/setup
