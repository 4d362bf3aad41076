# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Everything made goes under build/; VARIANT=asan|tsan builds into
# build/asan, build/tsan; CXX=clang++ works as well as g++.
# A line for each file that is made; V=1 shows the commands.
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

Q := $(if $(filter 1,$(V)),,@)
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
PYTHON ?= /usr/bin/python3
export PYTHONDONTWRITEBYTECODE := 1
PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
VARIANT ?= release
OUT := $(if $(filter release,$(VARIANT)),build,build/$(VARIANT))
OBJ := build/obj/$(VARIANT)

include packaging/deps.mk

# ---- Flags -----------------------------------------------------------------------------------

CXXFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Werror
# False alarms of GCC 12: overlapping copies in std::string::insert (its bug 105651); with sanitizers,
# uninitialized members inside std::regex, and that it knows no fences (they stand between atomics).
ifeq ($(findstring clang,$(CXX)),)
WARNINGS += -Wno-restrict
WARNINGS += $(if $(filter asan tsan,$(VARIANT)),-Wno-maybe-uninitialized)
WARNINGS += $(if $(filter tsan,$(VARIANT)),-Wno-tsan)
endif
HARDENING := -fstack-protector-strong -D_FORTIFY_SOURCE=2
RELRO := -Wl,-z,relro,-z,now
flags_release = $(CXXFLAGS) $(HARDENING)
flags_clang = $(CXXFLAGS) $(HARDENING)
flags_asan = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
flags_tsan = -O1 -g -fno-omit-frame-pointer -fsanitize=thread
flags_fuzz = -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
             -fno-sanitize-recover=all
VARIANT_FLAGS = $(or $(flags_$(VARIANT)),$(error VARIANT=$(VARIANT): release, clang, asan, tsan or fuzz))
COMPILE = $(CXX) -std=c++20 -I. $(CPPFLAGS) $(VARIANT_FLAGS) $(WARNINGS) -MMD -MP

# One question at a time: apxs joins several answers with ;;. Asked in recipes only, because
# `make deps` runs before there is an apxs.
APXS = $(or $(APXS_FOUND),$(error neither apxs nor apxs2 is in PATH: run make deps))
APXS_FOUND = $(shell command -v apxs || command -v apxs2)
APXS_INCLUDES = $(patsubst -I%,-isystem %,\
    -I$(shell $(APXS) -q INCLUDEDIR) $(filter-out -I. -I/usr/include,$(shell $(APXS) -q EXTRA_INCLUDES)))
APXS_FLAGS = $(shell $(APXS) -q EXTRA_CPPFLAGS) $(APXS_INCLUDES)

# ---- Rooms -----------------------------------------------------------------------------------

DAEMON_MAIN := lingerd/main.cpp
CTL_SOURCES := $(wildcard lingerd/lingerctl*.cpp)
LIB_SOURCES := $(filter-out $(DAEMON_MAIN) $(CTL_SOURCES),$(wildcard lingerd/*.cpp))
MODULE_SOURCES := $(wildcard mod_linger/*.cpp)
# What the module takes from lingerd/: the contract, and nothing else.
MODULE_SHARED := $(wildcard lingerd/record.cpp lingerd/stats_page.cpp lingerd/stats_reader.cpp \
                   lingerd/report*.cpp lingerd/html*.cpp)

lib_objects := $(LIB_SOURCES:%.cpp=$(OBJ)/%.o)
module_objects := $(MODULE_SOURCES:%.cpp=$(OBJ)/pic/%.o) $(MODULE_SHARED:%.cpp=$(OBJ)/pic/%.o)
daemon_libs = $(shell pkg-config --libs libsystemd)

.PHONY: all
all: $(if $(MODULE_SOURCES),$(OUT)/mod_linger.so) $(OUT)/lingerd $(if $(CTL_SOURCES),$(OUT)/lingerctl) ## Build build/mod_linger.so, build/lingerd and build/lingerctl (the default)

# The flags that the objects were made with: another CXX or CXXFLAGS makes them anew.
$(OBJ)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' >$@
FORCE:

$(OBJ)/pic/%.o: %.cpp $(OBJ)/flags
	@mkdir -p $(@D)
	@echo "  CXX    $<"
	$(Q)$(COMPILE) -fPIC -fvisibility=hidden $(APXS_FLAGS) -c -o $@ $<

$(OBJ)/%.o: %.cpp $(OBJ)/flags
	@mkdir -p $(@D)
	@echo "  CXX    $<"
	$(Q)$(COMPILE) -fPIE -c -o $@ $<

$(OUT)/liblingerd.a: $(lib_objects)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(OUT)/lingerd: $(DAEMON_MAIN:%.cpp=$(OBJ)/%.o) $(OUT)/liblingerd.a
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(RELRO) $(LDFLAGS) -o $@ $^ $(daemon_libs)

$(OUT)/lingerctl: $(CTL_SOURCES:%.cpp=$(OBJ)/%.o) $(OUT)/liblingerd.a
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(RELRO) $(LDFLAGS) -o $@ $^ $(daemon_libs)

# Linked without -z defs: httpd itself provides the symbols of httpd and APR.
$(OUT)/mod_linger.so: $(module_objects)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -shared $(RELRO) $(LDFLAGS) -o $@ $^

# ---- Tests -----------------------------------------------------------------------------------

include t/unit/tests.mk
unit_tests := $(patsubst t/unit/%.cpp,%,$(wildcard t/unit/*_test.cpp))
unit_runners := $(unit_tests:%=$(OUT)/unit/%)
cpputest_libs = $(shell pkg-config --libs cpputest)
TSAN_RUN := $(if $(filter tsan,$(VARIANT)),setarch -R)

# A unit test is a program of its own, linked with the objects that t/unit/tests.mk names for it and
# no others: the list shows what a room depends on.
define unit_runner
$(OUT)/unit/$(1): $(OBJ)/t/unit/$(1).o $(OBJ)/t/unit/runner.o $(LINKS_$(1):%=$(OBJ)/%.o)
	@mkdir -p $$(@D)
	$(if $(filter undefined,$(origin LINKS_$(1))),@echo "t/unit/tests.mk has no LINKS_$(1)" >&2; exit 1)
	@echo "  LINK   $$@"
	$$(Q)$$(CXX) $$(VARIANT_FLAGS) -pie $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(cpputest_libs) -pthread
endef
$(foreach test,$(unit_tests),$(eval $(call unit_runner,$(test))))

.PHONY: unit
unit: $(unit_runners) ## Unit tests (CppUTest)
	@failed=; for runner in $(unit_runners); do \
	    echo "$$runner"; $(TSAN_RUN) $$runner || failed="$$failed $$runner"; \
	done; [ -z "$$failed" ] || { echo "unit tests failed:$$failed" >&2; exit 1; }

# A directory for each run, so that two runs don't share one; kept when a test fails.
RUN_PYTEST = mkdir -p build; dir=$$(mktemp -d "$(CURDIR)/build/pytest.XXXXXX"); chmod 755 "$$dir"; \
    $(1) $(PYTHON) -m pytest -p no:cacheprovider --basetemp="$$dir/t" $(or $(TESTS),t/integration) \
    $(PYTEST_ARGS) \
    && rm -rf "$$dir"

.PHONY: integration
integration: all build/ablinger ## Integration tests on a real httpd, prefork, worker and event (PYTEST_ARGS)
	@$(call RUN_PYTEST,)

.PHONY: race
race: PYTEST_ARGS := -q -s -k test_keepalive_races
race: all ## Keep-alive clients that ask around every event: RACE_REQUESTS (1000000), each answered
	@$(call RUN_PYTEST,RACE_REQUESTS=$(or $(RACE_REQUESTS),1000000))

.PHONY: asan tsan asan-unit
asan-unit:
	@$(MAKE) VARIANT=asan unit
# httpd itself isn't built with ASan: its module brings the runtime along, by LD_PRELOAD
# (t/integration/harness/sanitized.py). TSan would have to know httpd's own locks.
SANITIZED_SOAK = SOAK_CONNECTIONS=$(or $(SOAK_CONNECTIONS),10000) SOAK_RATE=500 \
    LINGERD="$(CURDIR)/build/$(1)/lingerd" $(PYTHON) t/bench/soak.py
asan: all asan-unit build/ablinger ## Unit tests, lingerd and the module inside httpd under ASan and UBSan
	@$(MAKE) VARIANT=asan build/asan/lingerd build/asan/mod_linger.so
	@$(call RUN_PYTEST,LINGERD="$(CURDIR)/build/asan/lingerd" MOD_LINGER="$(CURDIR)/build/asan/mod_linger.so")
	@$(call SANITIZED_SOAK,asan)
tsan: all build/ablinger ## Unit tests and lingerd under ThreadSanitizer, integration tests against that lingerd
	@$(MAKE) VARIANT=tsan build/tsan/lingerd unit
	@$(call RUN_PYTEST,LINGERD="$(CURDIR)/build/tsan/lingerd")
	@$(call SANITIZED_SOAK,tsan)

FUZZ_SECONDS ?= 30
# What reads bytes that somebody else wrote, and what acts on them.
FUZZED := record stats_page options carry lingerer parked deadlines delivery lingerctl_text report_auto report_chart \
          report_html report_json report_metrics report_series report_words
fuzz_targets := $(patsubst t/fuzz/%.cpp,build/fuzz/%,$(wildcard t/fuzz/*_fuzz.cpp))
.PHONY: fuzz fuzz-targets
fuzz: ## Fuzz the decoders, each for FUZZ_SECONDS (30); needs clang++
	@$(MAKE) VARIANT=fuzz CXX=clang++ fuzz-targets
	@build/fuzz/make_seeds build/fuzz/seeds && cp t/fuzz/config/* conf/lingerd.conf build/fuzz/seeds/config_fuzz
	@for target in $(fuzz_targets); do echo "==== $$target"; mkdir -p $$target.corpus; \
	    $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix=build/fuzz/ \
	        $$target.corpus build/fuzz/seeds/$${target##*/} >$$target.log 2>&1 \
	        || { tail -n 50 $$target.log; exit 1; }; \
	    grep -E 'DONE|Done|number_of_executed' $$target.log; \
	done
fuzz-targets: $(fuzz_targets) build/fuzz/make_seeds
build/fuzz/%_fuzz: $(OBJ)/t/fuzz/%_fuzz.o $(FUZZED:%=$(OBJ)/lingerd/%.o)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -fsanitize=fuzzer -o $@ $^
build/fuzz/make_seeds: $(OBJ)/t/fuzz/make_seeds.o $(FUZZED:%=$(OBJ)/lingerd/%.o)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -o $@ $^

bench_objects := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard t/bench/*.cpp))
build/ablinger: $(bench_objects)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^ -lssl -lcrypto -pthread

.PHONY: bench soak demo
bench: all build/ablinger ## Compare with stock httpd
	@$(PYTHON) t/bench/bench.py $(BENCH_ARGS)
soak: all build/ablinger ## Long run under load: nothing leaks, nothing is lost
	@$(PYTHON) t/bench/soak.py
demo: PACKAGING_DEB :=
demo: PACKAGING_RPM :=
demo: deps ## Show stock httpd beside httpd with lingerd (DEMO_PORT=8080, DEMO_SECONDS=N to end by itself)
	@$(MAKE) -s all build/ablinger
	@$(PYTHON) t/bench/demo.py

.PHONY: check
check: deps ## Everything that must hold: build (g++, clang++), unit, asan unit, integration, lint, packages
	@$(PYTHON) t/check.py

# ---- Lint ------------------------------------------------------------------------------------

cpp_sources := $(wildcard lingerd/*.cpp mod_linger/*.cpp t/unit/*.cpp t/fuzz/*.cpp t/bench/*.cpp)
cpp_files := $(cpp_sources) $(wildcard lingerd/*.h mod_linger/*.h t/unit/*.h t/fuzz/*.h t/bench/*.h)
# Where clang-tidy's opinion matters; tests follow by clang-format and the compilers' warnings.
tidy_sources := $(wildcard lingerd/*.cpp mod_linger/*.cpp)
.PHONY: lint lint-wall lint-format lint-tidy format
lint: lint-wall lint-format lint-tidy ## clang-format, clang-tidy, and the wall between pure code and the system
lint-wall:
	@$(PYTHON) t/lint_wall.py
lint-format:
	@echo clang-format: $(words $(cpp_files)) files
	@clang-format --dry-run -Werror $(cpp_files)
lint-tidy: $(tidy_sources:%=$(OBJ)/%.tidy)
$(OBJ)/%.cpp.tidy: %.cpp .clang-tidy $(wildcard lingerd/*.h mod_linger/*.h)
	@mkdir -p $(@D)
	@echo "  TIDY   $<"
	@clang-tidy --quiet $< -- -std=c++20 -I. $(APXS_FLAGS) 2>$@.err || { cat $@.err; exit 1; }
	@touch $@
format: ## Format all C++ files
	clang-format -i $(cpp_files)

# ---- Packages, installation ------------------------------------------------------------------

.PHONY: deps install clean help
deps: ## Install what building and testing needs, with apt-get or dnf; no-op when all is there
	@if command -v dpkg-query >/dev/null; then packaging/install-deps deb $(foreach p,$(DEB_PACKAGES) $(PACKAGING_DEB),'$p'); \
	elif command -v dnf >/dev/null; then packaging/install-deps rpm $(foreach p,$(RPM_PACKAGES) $(PACKAGING_RPM),'$p'); \
	else echo "deps: neither apt-get nor dnf here; install: $(RPM_PACKAGES)" >&2; exit 1; fi

include packaging/packages.mk
include t/bench/bench.mk

MODULEDIR = $(shell $(APXS) -q LIBEXECDIR)
DOCDIR ?= $(PREFIX)/share/doc/mod_linger
MANDIR ?= $(PREFIX)/share/man
install: all ## Install (DESTDIR, PREFIX=/usr/local, SYSCONFDIR, MODULEDIR)
	install -D -m 755 $(OUT)/lingerd $(DESTDIR)$(PREFIX)/sbin/lingerd
	install -D -m 755 $(OUT)/lingerctl $(DESTDIR)$(PREFIX)/bin/lingerctl
	install -D -m 644 $(OUT)/mod_linger.so $(DESTDIR)$(MODULEDIR)/mod_linger.so
	install -d $(DESTDIR)$(DOCDIR)/examples
	find conf -type f ! -perm -u+x -exec install -m 644 -t $(DESTDIR)$(DOCDIR)/examples {} +
	find conf -type f -perm -u+x -exec install -m 755 -t $(DESTDIR)$(DOCDIR)/examples {} +
	for page in $(wildcard packaging/man/*.[1-8]); do \
	    install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page; done

clean: ## Remove build/
	rm -rf build

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile packaging/packages.mk

-include $(shell [ -d build/obj ] && find build/obj -name '*.d')
