# Two commands matter: `make reproduce` and `make test`. Both install what is missing (Debian 12,
# Ubuntu 24.04), quietly and once; on other systems install the packages below by hand.
PACKAGES := build-essential cmake ninja-build git libfmt-dev libyaml-cpp-dev nlohmann-json3-dev \
  libcli11-dev libeigen3-dev libgtest-dev libgmock-dev libbenchmark-dev \
  python3 python3-numpy python3-matplotlib python3-yaml python3-jinja2
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
JOBS ?= $(shell nproc)
OUT ?= out
SUITE := $(sort $(foreach f,paper beyond real,$(wildcard bench/experiments/$(f)/*.yaml)))
KVSTOW := build/release/bench/kvstow/kvstow

.PHONY: help reproduce record test cuda-check cuda-record cuda-kernels sanitize nsys ncu smoke soak bench kvstow format setup clean

help:
	@echo "make reproduce   the paper's figures and numbers into $(OUT)/paper (report.html, scoreboard.csv)"
	@echo "make kvstow      the command alone: $(KVSTOW)"
	@echo "make record      keep the scoreboard of the last make reproduce under results/paper"
	@echo "make test        every test under sanitizers, then the smoke experiment and verify in release"
	@echo "make cuda-check  compiles the CUDA kernels: warnings, spills and more registers are errors (no GPU needed)"
	@echo "make cuda-record keeps their registers and spills as they are now"
	@echo "make sanitize    compute-sanitizer's four tools over small shapes of every CUDA kernel (needs a GPU)"
	@echo "make nsys        200 decode steps under Nsight Systems, as tables (needs a GPU; core/exec/cuda/PROFILING.md)"
	@echo "make ncu         one layer of such a step under Nsight Compute"
	@echo "make soak        millions of random operations on every allocator, invariants checked"
	@echo "make bench       micro-benchmarks of allocators and CPU kernels (Google Benchmark)"
	@echo "make format      clang-format over all sources"

reproduce: kvstow
	$(KVSTOW) run $(SUITE) --out $(OUT)/paper
	$(KVSTOW) report $(OUT)/paper
	$(KVSTOW) run smoke-cpu --out $(OUT)/cpu
	@echo "the report: $(abspath $(OUT)/paper/report.html), the numbers: $(OUT)/paper/scoreboard.csv"

# Keeps what the README shows of the last `make reproduce`: small rows, and which build they are from.
record:
	mkdir -p results/paper
	cp $(OUT)/paper/scoreboard.csv $(OUT)/paper/figures/fig12.svg results/paper/
	python3 -c "import json,sys; m = json.load(open('$(OUT)/paper/manifest.json')); \
	  json.dump({n: {'build': e['build'], 'runs': len(e['runs'])} for n, e in m['experiments'].items()}, \
	  open('results/paper/manifest.json', 'w'), indent=1)"

# Tests run sanitized with every check on; the smoke experiment in release, as users run it.
test: smoke
	cmake --preset dev > /dev/null
	cmake --build --preset dev --parallel $(JOBS)
	ctest --preset dev --parallel $(JOBS)

# Needs nvcc, no GPU.
cuda-check: cuda-kernels
	python3 tests/cuda/check_registers.py build/cuda
cuda-record: cuda-kernels
	python3 tests/cuda/check_registers.py build/cuda --record
# Needs a GPU; some minutes.
sanitize: setup
	cmake --preset cuda > /dev/null
	cmake --build --preset cuda --target cuda_kernels_test --parallel $(JOBS)
	tests/cuda/sanitize.sh build/cuda/tests/cuda/cuda_kernels_test
# Need a GPU and the tool of their name.
nsys ncu: setup
	cmake --preset cuda > /dev/null
	cmake --build --preset cuda --target kvstow --parallel $(JOBS)
	bench/experiments/gpu/$@.sh build/cuda/bench/kvstow/kvstow $(OUT)/$@
cuda-kernels: setup
	cmake --preset cuda > /dev/null
	cmake --build --preset cuda --target kvstow_kernels_cuda --parallel $(JOBS)

smoke: kvstow
	rm -rf $(OUT)/smoke
	$(KVSTOW) run smoke --out $(OUT)/smoke
	$(KVSTOW) verify smoke-cpu

soak: setup
	cmake -S . -B build/soak -G Ninja -D CMAKE_BUILD_TYPE=Release -D KVSTOW_CHECKS=ON \
	  -D KVSTOW_BENCHMARKS=OFF -D KVSTOW_CUDA=OFF > /dev/null
	cmake --build build/soak --target kvstow_soak --parallel $(JOBS)
	build/soak/tests/kv/kvstow_soak

bench: setup
	cmake --preset release > /dev/null
	cmake --build --preset release --target allocator_bench cpu_kernel_bench --parallel $(JOBS)
	build/release/bench/micro/allocator_bench
	build/release/bench/micro/cpu_kernel_bench

kvstow: setup
	cmake --preset release > /dev/null
	cmake --build --preset release --target kvstow --parallel $(JOBS)

format:
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

setup:
	@missing=$$(for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing:" $$missing; \
	  $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends \
	    $$missing > /dev/null; \
	fi

clean:
	rm -rf build out
