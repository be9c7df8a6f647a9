# `make` alone lists what there is to do; `make check` is the one to run.

GO ?= go
FUZZTIME ?= 10s
GOBENCH ?= .
GOLANGCI := bin/golangci-lint
NATS := bin/nats
JAVASCRIPT := signature/testdata/javascript

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check
check: fmt lint test ## format, lint and test: the one to run before a commit

.PHONY: demo
demo: postgres $(NATS) ## watch relay work: publish, deliver, retry, dead-letter, replay
	PATH="$(CURDIR)/bin:$$PATH" $(GO) run ./cmd/relay dev --demo

# So many tests of one package run at a time. They wait more than they work, so
# it is more than most machines have cores.
PARALLEL ?= 4

.PHONY: test
test: postgres $(NATS) ## run all tests, on a real NATS and a real Postgres
	$(GO) test -parallel $(PARALLEL) ./...
	CGO_ENABLED=0 $(GO) test ./delivery

.PHONY: race
race: postgres $(NATS) ## run all tests with the race detector (needs a C compiler)
	$(GO) test -race -parallel $(PARALLEL) ./...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME, 10s by default
	@grep -rEo --include='*_test.go' 'func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file name; do \
		dir=$$(dirname "$$file"); name=$${name#func }; echo "$$dir $$name"; \
		$(GO) test "$$dir" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

.PHONY: interop
interop: postgres $(JAVASCRIPT)/node_modules ## have the official JavaScript library verify what relay sends (needs npm)
	$(GO) test -tags javascript -run '^TestJavaScript' ./signature

# One seed for a minute and a half; SEED chooses it, CAMPAIGN adds flags
# (-cluster, -from COMMIT). EVERY is the pause between two faults, on average.
# After every so many faults, REST, none comes until relay must work again.
SEED ?= 1
SEEDS ?= 1 2 3 4 5
DURATION ?= 90s
EVERY ?= 700ms
REST ?= 3
CAMPAIGN ?=
REPORTS ?=

.PHONY: campaign
campaign: postgres ## break everything around relay under load, and account for every event
	$(GO) run ./campaign -seed $(SEED) -duration 70s -rate 235 -every 400ms -rest 12 $(CAMPAIGN)

.PHONY: campaign-long
campaign-long: postgres ## the same for SEEDS="1 2 …", DURATION each
	@for seed in $(SEEDS); do \
		$(GO) run ./campaign -seed $$seed -duration $(DURATION) -rate 220 -every $(EVERY) -rest $(REST) $(CAMPAIGN) || exit 1; \
	done

.PHONY: campaign-sum
campaign-sum: ## add up the reports of campaigns: REPORTS="directory …"
	@$(GO) run ./campaign -add-up $(REPORTS)

.PHONY: bench
bench: postgres ## measure relay against the bare loop and its goals, and write BENCHMARKS.md; takes hours
	$(GO) run ./bench/suite $(BENCH)

.PHONY: gobench
gobench: postgres ## run the benchmarks of the packages; GOBENCH=regexp chooses
	$(GO) test -run '^$$' -bench '$(GOBENCH)' -benchmem ./...

.PHONY: cover
cover: postgres $(NATS) ## test, and say how much of the code ran; cover.out has the details
	$(GO) test -coverprofile=cover.out -coverpkg=./... ./...
	$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: fmt
fmt: $(GOLANGCI) ## format the code (gofumpt, goimports)
	$(GOLANGCI) fmt

.PHONY: lint
lint: $(GOLANGCI) ## vet, golangci-lint, and what Go itself would write newer
	$(GOLANGCI) fmt --diff
	$(GOLANGCI) run
	$(GO) vet ./...
	@newer=$$($(GO) fix -diff ./... 2>&1); \
	if [ -n "$$newer" ]; then echo "$$newer"; echo "go fix would change this: run go fix ./..."; exit 1; fi

.PHONY: generate
generate: ## write the files that are made from the code
	$(GO) generate ./...

.PHONY: verify
verify: generate ## fail if a generated file is not what the code says
	git diff --exit-code

.PHONY: build
build: ## build bin/relay
	$(GO) build -o bin/relay ./cmd/relay

.PHONY: tools
tools: $(NATS) $(GOLANGCI) ## build the nats command line and golangci-lint into bin
	$(GO) build -C tools -o ../bin/benchstat golang.org/x/perf/cmd/benchstat

# Each tool has a module of its own, so that relay's has only what relay needs.
$(NATS): tools/go.mod
	$(GO) build -C tools -o ../$@ github.com/nats-io/natscli/nats
	@touch $@

$(GOLANGCI): tools/lint/go.mod
	@echo "Building golangci-lint: one minute, once."
	$(GO) build -C tools/lint -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(JAVASCRIPT)/node_modules: $(JAVASCRIPT)/package-lock.json
	cd $(JAVASCRIPT) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: postgres
postgres:
	@tools/ensure-postgres.sh

.PHONY: clean
clean: ## remove what was built and measured
	rm -rf bin cover.out
