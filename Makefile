.DEFAULT_GOAL := help
.PHONY: help run test bench lint fmt schema

BINARY := $(or $(CARGO_TARGET_DIR),target)/release/plugchat-receiver

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the release and serve; ARGS="..." are passed on
	scripts/deps build
	cargo build --release --locked
	@echo 'Next, from another terminal in this folder: "$(BINARY) send" posts the five documented callbacks,'
	@echo '"$(BINARY) url" prints the URL to register, and README.md says how to go on. Ctrl-C stops.'
	$(BINARY) serve $(ARGS)

test: ## Run all tests, after installing what they need
	scripts/deps test
	cargo test --locked

bench: ## Measure what receiving and each sink cost on this machine; BENCH=receive or sinks for one of them
	scripts/deps test
	cargo bench --locked --bench load -- $(BENCH)

lint: ## Check formatting, code, documentation and dependencies
	scripts/deps build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	scripts/cargo-deny --locked check bans licenses sources

fmt: ## Format the code
	cargo fmt

schema: ## Write config.schema.json anew, after a change of the configuration
	UPDATE_SCHEMA=1 cargo test --locked --test it schema
