# Every target's comment is what `make help` prints.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
GO ?= go
BIN := build/bin

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: deps ## the whole story in a minute: an agent is stopped, a person is not (KEEP=1 leaves it running)
	@e2e/demo.sh

.PHONY: test
test: deps ## unit tests, fuzz seeds and the end-to-end suite on a real API server
	$(GO) vet ./...
	$(GO) test -timeout 45m -parallel 4 ./...

.PHONY: e2e
e2e: deps ## the end-to-end suite alone
	$(GO) test -count=1 -timeout 45m -parallel 4 ./e2e/...

.PHONY: policy-test
policy-test: ## the suites of the policies in manifests/policies, each rule of which has to be exercised
	@$(GO) run ./cmd/kubectl-holdfast policy test --require-coverage manifests/policies

.PHONY: threats
threats: deps ## play the threat model, and say what of it is covered: build/threats.json
	@mkdir -p build && rm -f build/threats.json build/threats.txt
	@status=0; HOLDFAST_THREATS_OUT="$(CURDIR)/build/threats.json" \
	  $(GO) test -count=1 -timeout 45m ./e2e -run '^TestThreats$$' || status=$$?; \
	cat build/threats.txt; \
	tail -n 1 build/threats.txt | grep -q ' 0 not$$' || status=1; exit $$status

.PHONY: lint
lint: $(BIN)/golangci-lint ## golangci-lint, with the floors of the layout
	$(BIN)/golangci-lint run ./...

.PHONY: generate
generate: $(BIN)/controller-gen ## deep copies and CRDs from the types, the rendered registrations, the threat model
	$(BIN)/controller-gen object:headerFile=/dev/null paths=./pkg/apis/... crd output:crd:artifacts:config=manifests/crds
	$(GO) test ./webhook/registration -run TestRender -update
	$(GO) test ./e2e -run '^TestThreatModel$$' -update

.PHONY: verify
verify: $(BIN)/controller-gen ## fail where generated files, formatting or go.mod are not what they should be
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(BIN)/controller-gen object:headerFile=/dev/null paths=./pkg/apis/... output:object:dir="$$tmp/apis" crd output:crd:artifacts:config="$$tmp/crds"; \
	diff -u pkg/apis/v1alpha1/zz_generated.deepcopy.go "$$tmp/apis/zz_generated.deepcopy.go"; \
	diff -ru manifests/crds "$$tmp/crds"
	$(GO) test ./webhook/registration -run TestRender
	$(GO) test ./e2e -run '^TestThreatModel$$'
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: bench
bench: ## the benchmarks, one line a figure, into build/bench.json
	@mkdir -p build
	$(GO) run ./e2e/bench -out build/bench.json

.PHONY: fuzz
fuzz: ## every fuzzer for FUZZTIME (default 30s)
	@$(GO) list ./... | while read -r package; do \
	  for f in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
	    echo "$$package $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime "$${FUZZTIME:-30s}" "$$package"; \
	  done; done

.PHONY: clean
clean: ## remove what was built here (the control plane in the user's cache stays)
	rm -rf build

# A Postgres server: what is there, or the distribution's package where this may install
# one. Without either the local control plane downloads one.
.PHONY: deps
deps:
	@if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb >/dev/null 2>&1 \
	   && test -z "$${DATABASE_URL:-}" && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  echo "installing PostgreSQL from the distribution"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; \
	fi

$(BIN)/%: .tools/go.mod .tools/go.sum
	@mkdir -p $(BIN)
	$(GO) build -C .tools -o ../$@ $$($(GO) list -C .tools -f '{{.ImportPath}}' tool | grep '/$*$$')
