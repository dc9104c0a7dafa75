.DEFAULT_GOAL := help
.PHONY: help setup check test test-all fmt types imports dev docs release bench demo

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## .venv, images and commit hooks for a developer
	scripts/setup

check: ## everything that reads the code: ruff, mypy, import-linter
	scripts/check

test: ## the quick tiers: pure tests, no engine needed
	scripts/test-quick

test-all: ## the whole suite in parallel, with real PostgreSQL, S3 and Docker
	scripts/test

fmt: ## write the code in its one form
	scripts/fmt

types: ## mypy alone
	scripts/types

imports: ## import-linter alone
	scripts/imports

dev: ## the server from this checkout, at port 1234
	scripts/dev

docs: ## every link between the documents leads somewhere
	scripts/docs

release: ## checked, tested, and packed into dist/
	scripts/release

bench: ## our times beside Docker's own
	scripts/bench

demo: ## a photograph through the whole system
	scripts/demo
