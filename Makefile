# make help lists what there is. Building and testing need Go and Node and nothing else; e2e needs root on Debian.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: help run build console programs test test-go test-console lint lint-go lint-console e2e e2e-alone remote broken bench accuracy kill fuzz generate faults kill-outbox clean

CONSOLE := dashboards/console
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/crowsnest
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Arguments of `crowsnest run`: make run ARGS="--simulate --data /tmp/data"
ARGS    ?=
# Go packages that test and lint look at.
PKGS    ?= ./...

# Static programs: they need no C compiler and run in an image that holds nothing
# else. Without -trimpath, which would compile every package a second time for
# those who also use plain go build; deploy/image sets it.
GO_BUILD := CGO_ENABLED=0 go build
LDFLAGS  := -s -w -X main.version=$(VERSION)
# The race detector needs a C compiler; a machine without one still tests.
RACE     := $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

run: build ## build, then watch the cluster of your kubeconfig (or a simulated one); ARGS="…" for flags
	@exec bin/crowsnest run $(ARGS)

build: console programs ## bin/crowsnest and bin/crowsnest-collector, the console in it

# npm ci only when the lock changed: the copy of the lock says what is installed.
$(CONSOLE)/node_modules/.installed-lock: $(CONSOLE)/package-lock.json
	@if ! cmp -s $< $@; then echo "console: installing packages"; cd $(CONSOLE) && npm ci --no-audit --no-fund --loglevel=error; cp package-lock.json node_modules/.installed-lock; else touch $@; fi

CONSOLE_SOURCES := $(shell find $(CONSOLE)/src $(CONSOLE)/public $(CONSOLE)/index.html $(CONSOLE)/vite.config.ts $(CONSOLE)/tsconfig.json -type f 2>/dev/null)
$(CONSOLE)/dist/index.html: $(CONSOLE)/node_modules/.installed-lock $(CONSOLE_SOURCES)
	@echo "console: building"; cd $(CONSOLE) && npm run --silent build -- --logLevel warn
console: $(CONSOLE)/dist/index.html

programs: console
	@mkdir -p bin
	@for program in crowsnest crowsnest-collector; do \
	  $(GO_BUILD) -v -ldflags '$(LDFLAGS)' -o bin/$$program ./cmd/$$program 2>&1 | awk -f tools/progress.awk -v what="$$program"; done

test: test-go test-console ## all tests that need no cluster

# Standard Webhooks' own verifier in JavaScript: what is sent is held against it where npm can get it.
VERIFIER := alerting/notify/testdata/verify
$(VERIFIER)/node_modules/.installed-lock: $(VERIFIER)/package-lock.json
	@if command -v npm >/dev/null && npm ci --prefix $(VERIFIER) --no-audit --no-fund --loglevel=error; then cp $< $@; \
	else echo "the public webhook verifier in JavaScript cannot be installed: it is not tried"; fi

# The console is embedded at build time; Go's tests do without it.
test-go: $(VERIFIER)/node_modules/.installed-lock
	@[[ -n "$(RACE)" ]] || echo "no C compiler: testing without the race detector"
	go test $(RACE) -timeout 15m $(PKGS)

test-console: $(CONSOLE)/node_modules/.installed-lock
	cd $(CONSOLE) && npm test --silent

lint: lint-go lint-console ## format, vet, staticcheck, tidy modules, eslint, types, generated files

lint-go: console
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); [[ -z $$unformatted ]] || { echo "not formatted (gofmt -w):"; echo "$$unformatted"; exit 1; }
	go vet $(PKGS)
	go vet -tags e2e ./test/e2e/...
	go vet -tags peers ./test/remote
	@mkdir -p $(CACHE)/tools; cd tools && CGO_ENABLED=0 go build -o $(CACHE)/tools/staticcheck honnef.co/go/tools/cmd/staticcheck
	@# SA1019: Prometheus marks names as deprecated that it uses all over itself.
	$(CACHE)/tools/staticcheck -tags e2e -checks inherit,-SA1019 $(PKGS)
	go mod tidy -diff
	@$(GO_BUILD) -ldflags '$(LDFLAGS)' -o bin/crowsnest ./cmd/crowsnest
	@bin/crowsnest openapi | diff -u api/openapi.json - || { echo "api/openapi.json is not what the handlers say: make generate"; exit 1; }

lint-console: $(CONSOLE)/node_modules/.installed-lock
	cd $(CONSOLE) && npm run --silent lint
	cd $(CONSOLE) && npm run --silent typecheck
	@cd $(CONSOLE) && schema=$$(mktemp --suffix .d.ts) && npx --no-install openapi-typescript ../../api/openapi.json -o $$schema >/dev/null \
	  && diff -u src/api/schema.d.ts $$schema && rm -f $$schema || { echo "src/api/schema.d.ts is not what api/openapi.json says: make generate"; exit 1; }

e2e: build ## tests on a real cluster and in a browser; root on Debian; E2E="-run TestX" for a part
	@[[ $$(id -u) == 0 ]] || { echo "make e2e starts a real cluster (containerd, kubelet, iptables): it must run as root"; exit 1; }
	bash test/e2e/prepare.sh
	go test -tags e2e -count 1 -timeout 40m -parallel 128 -v ./test/e2e $(E2E)

e2e-alone: build ## what breaks the whole cluster on purpose: its kubelet killed, cAdvisor without labels, replicas killed; root on Debian, some 20 minutes
	go test -tags e2e -count 1 -timeout 40m -v ./test/e2e/alone $(E2E)

broken: build ## the console's pages on a server that answers 500, hangs, restarts, is empty, has odd names, targets that fail (some 10 minutes); BROKEN="--only names,empty" for a part
	bash dashboards/console/e2e/broken.sh $(BROKEN)

remote: ## the storage test-suites, moves and a whole server on VictoriaMetrics, Thanos and VictoriaLogs, built from their modules (some 15 minutes the first time)
	go test -tags peers -count 1 -timeout 45m -v ./test/remote

bench: build ## measure, and record in docs/benchmarks.json
	go run ./test/bench $(BENCH)

kill: ## kill a server 200 times at 50,000 series and 5 times at a million, and record what is missing: about an hour
	go run ./test/bench --only kills_50000
	go run ./test/bench --only kills_1000000

FUZZ_FOR ?= 30s
fuzz: ## send anything to all that reads what others wrote: each fuzz test for FUZZ_FOR (30s), half an hour
	@git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's|^(.*)/[^/]*:func (.*)|\1 \2|' | while read -r package target; do \
	  echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_FOR) "./$$package" </dev/null; done

accuracy: build ## compare with the kernel's own figures on a real cluster; writes docs/accuracy.json and the page made of it; root on Debian
	bash test/e2e/prepare.sh
	go run ./test/bench --only accuracy

# What is to be broken, as crash-loop,oom-kill; "missing" for what docs/alert-quality.json has not; all when empty (75 minutes).
FAULTS ?=
faults: build ## break a real cluster in known ways, record what is found in docs/alert-quality.json; FAULTS="crash-loop,oom-kill" for some
	@[[ $$(id -u) == 0 ]] || { echo "make faults starts a real cluster (containerd, kubelet, iptables): it must run as root"; exit 1; }
	bash test/e2e/cluster/build.sh
	go run ./test/quality/faults -only "$(FAULTS)"

KILLS ?= 1000
kill-outbox: ## kill the server KILLS times while it delivers, and record what is lost or out of order: a quarter of an hour
	go run ./test/bench --only outbox_kills --kills $(KILLS)

generate: $(CONSOLE)/node_modules/.installed-lock ## rewrite what is derived: OpenAPI, the console's types, reference pages
	$(GO_BUILD) -ldflags '$(LDFLAGS)' -o bin/crowsnest ./cmd/crowsnest
	bin/crowsnest openapi > api/openapi.json.new && mv api/openapi.json.new api/openapi.json
	cd $(CONSOLE) && npm run --silent generate
	go run ./internal/docgen
	go run ./internal/grafanagen
	go test ./cmd/crowsnest ./cmd/crowsnest-collector -run Reference -update
	go run ./test/bench --render
	go run ./test/quality/faults -render

clean: ## remove what was built; data stays
	rm -rf bin $(CONSOLE)/dist $(CONSOLE)/node_modules/.vite test/e2e/artifacts
	mkdir -p $(CONSOLE)/dist && touch $(CONSOLE)/dist/.gitkeep
