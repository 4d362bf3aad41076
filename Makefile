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

# Line numbers for backtraces; -g alone takes a fifth of the build, for a debugger.
CXXFLAGS ?= -O2 -g1
WARNINGS := -Wall -Wextra -Werror
# False alarms of GCC 12, for packages too, which choose WARNINGS: overlapping copies, and such that are
# too large, in std::string::insert (its bug 105651); with sanitizers, uninitialized members inside std::regex, and
# that it knows no fences (they stand between atomics).
ifeq ($(findstring clang,$(CXX)),)
FALSE_ALARMS += -Wno-restrict -Wno-stringop-overflow
FALSE_ALARMS += $(if $(filter asan tsan,$(VARIANT)),-Wno-maybe-uninitialized)
FALSE_ALARMS += $(if $(filter tsan,$(VARIANT)),-Wno-tsan)
endif
HARDENING := -fstack-protector-strong -D_FORTIFY_SOURCE=2
RELRO := -Wl,-z,relro,-z,now
flags_release = $(CXXFLAGS) $(HARDENING)
flags_clang = $(CXXFLAGS) $(HARDENING)
flags_asan = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
flags_tsan = -O1 -g -fno-omit-frame-pointer -fsanitize=thread
flags_fuzz = -O1 -g1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
             -fno-sanitize-recover=all
VARIANT_FLAGS = $(or $(flags_$(VARIANT)),$(error VARIANT=$(VARIANT): release, clang, asan, tsan or fuzz))
COMPILE = $(CXX) -std=c++20 -I. -D_FILE_OFFSET_BITS=64 -D_REENTRANT $(CPPFLAGS) $(VARIANT_FLAGS) $(WARNINGS) $(FALSE_ALARMS) -MMD -MP

# One question at a time: apxs joins several answers with ;;. Asked in recipes only, because
# `make deps` runs before there is an apxs; and once, because each answer takes a Perl.
APXS = $(or $(APXS_FOUND),$(error neither apxs nor apxs2 is in PATH: run make deps))
APXS_FOUND = $(shell command -v apxs || command -v apxs2)
APXS_INCLUDES = $(patsubst -I%,-isystem %,\
    -I$(shell $(APXS) -q INCLUDEDIR) $(filter-out -I. -I/usr/include,$(shell $(APXS) -q EXTRA_INCLUDES)))
APXS_FLAGS = $(eval APXS_FLAGS := $(shell $(APXS) -q EXTRA_CPPFLAGS) $(APXS_INCLUDES))$(APXS_FLAGS)

# ---- Rooms -----------------------------------------------------------------------------------

# A folder is a room, and a static library: programs are linked with them from above to below, so that
# a room which needs one above itself doesn't link. t/lint_wall.py has the same order, for includes.
ROOMS := lingerd/start lingerd/succession lingerd/io lingerd/core report contract base
MODULE_ROOMS := mod_linger mod_linger/keepalive mod_linger/request mod_linger/stay mod_linger/offload mod_linger/link report contract
TLS_ROOMS := mod_linger_tls mod_linger_tls/inner mod_linger_tls/layer
MODULE_BASE := fd_passing numbers unix_socket
sources_of = $(wildcard $(addsuffix /*.cpp,$(1)))
objects_of = $(patsubst %.cpp,$(OBJ)/%.o,$(call sources_of,$(1)))
library_of = $(OUT)/lib/$(subst /,-,$(1)).a
# What runs at the start, or when somebody asks. Small code compiles in half the time.
COLD_SOURCES := $(call sources_of,lingerctl lingerd lingerd/start lingerd/succession report) \
    $(addprefix base/,errand.cpp flags.cpp log.cpp notify.cpp) lingerd/io/stats_file.cpp \
    $(addprefix mod_linger/,child.cpp mod_linger.cpp settings.cpp status.cpp) \
    $(addprefix mod_linger/stay/,hooks.cpp objections.cpp listener_socket.cpp listener.cpp) \
    $(addsuffix /hooks.cpp,mod_linger/keepalive mod_linger/offload mod_linger/request)

daemon_libs = $(shell pkg-config --libs libsystemd)

.PHONY: all
all: $(OUT)/mod_linger.so $(OUT)/mod_linger_tls.so $(OUT)/lingerd $(OUT)/lingerctl ## Build build/mod_linger.so, build/mod_linger_tls.so, build/lingerd and build/lingerctl (the default)

# The flags that the objects were made with: another CXX or CXXFLAGS makes them again.
$(OBJ)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' >$@
FORCE:

# One object for all: the module's is a shared library, and what it shares with lingerd is compiled once.
$(OBJ)/%.o: %.cpp $(OBJ)/flags
	@mkdir -p $(@D)
	@echo "  CXX    $<"
	$(Q)$(COMPILE) $(EXTRA_FLAGS) -fPIC -fvisibility=hidden -c -o $@ $<
$(OBJ)/mod_linger/%.o $(OBJ)/mod_linger_tls/%.o: EXTRA_FLAGS += $(APXS_FLAGS)
$(if $(findstring -O2,$(VARIANT_FLAGS)),$(COLD_SOURCES:%.cpp=$(OBJ)/%.o)): EXTRA_FLAGS += -Os

# Reading the standard library's headers is two thirds of compiling: they are compiled once, for each of
# the two levels of optimization. What a file includes it names all the same, which `make lint-includes`
# and clang++, which builds without this, see. ccache can't keep what was compiled so: with it each file
# reads them. httpd's flags have _REENTRANT, which has to be the same everywhere for this.
STANDARD := algorithm array atomic charconv cstddef cstdint cstring functional memory optional span \
    string string_view system_error unordered_map utility vector
ifeq ($(filter-out release,$(VARIANT))$(findstring clang,$(CXX))$(findstring ccache,$(CXX) $(realpath $(shell command -v $(CXX)))),)
cold_objects := $(if $(findstring -O2,$(VARIANT_FLAGS)),$(COLD_SOURCES:%.cpp=$(OBJ)/%.o))
hot_objects := $(filter-out $(cold_objects),$(call objects_of,$(sort $(ROOMS) $(MODULE_ROOMS) $(TLS_ROOMS) lingerd lingerctl)))
$(OBJ)/standard/cold.h.gch: LEVEL := -Os
$(OBJ)/standard/%.h.gch: $(OBJ)/flags
	@mkdir -p $(@D)
	@echo "  CXX    $(@:.gch=)"
	@printf '#include <%s>\n' $(STANDARD) >$(@:.gch=)
	$(Q)$(COMPILE) $(LEVEL) -fPIC -fvisibility=hidden -x c++-header -o $@ $(@:.gch=)
define precompiled
$$($(1)_objects): $$(OBJ)/standard/$(1).h.gch
$$($(1)_objects): private EXTRA_FLAGS += -include $$(OBJ)/standard/$(1).h
endef
$(foreach each,hot cold,$(eval $(call precompiled,$(each))))
endif

# The list of a room's objects: one that is added or removed makes its library again.
define room
$(call library_of,$(1)).list: FORCE
	@mkdir -p $$(@D)
	@echo '$(call objects_of,$(1))' | cmp -s - $$@ || echo '$(call objects_of,$(1))' >$$@
$(call library_of,$(1)): $(call objects_of,$(1)) $(call library_of,$(1)).list
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $(call objects_of,$(1))
endef
$(foreach each,$(ROOMS) lingerctl,$(eval $(call room,$(each))))

$(OUT)/lingerd: $(call objects_of,lingerd) $(foreach each,$(ROOMS),$(call library_of,$(each)))
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(RELRO) $(LDFLAGS) -o $@ $^ $(daemon_libs)

$(OUT)/lingerctl: $(OBJ)/lingerctl/main.o $(foreach each,lingerctl report contract base,$(call library_of,$(each)))
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(RELRO) $(LDFLAGS) -o $@ $^

# Linked without -z defs: httpd itself provides the symbols of httpd and APR.
module_objects := $(call objects_of,$(MODULE_ROOMS)) $(MODULE_BASE:%=$(OBJ)/base/%.o)
$(OUT)/mod_linger.so: $(module_objects)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -shared $(RELRO) $(LDFLAGS) -o $@ $^

# The one that knows TLS: with the libssl that mod_ssl has.
tls_objects := $(call objects_of,$(TLS_ROOMS))
$(OUT)/mod_linger_tls.so: $(tls_objects)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -shared $(RELRO) $(LDFLAGS) -o $@ $^ -lssl -lcrypto

# ---- Tests -----------------------------------------------------------------------------------

include t/unit/tests.mk
unit_tests := $(patsubst t/unit/%.cpp,%,$(wildcard t/unit/*_test.cpp))
unit_runners := $(unit_tests:%=$(OUT)/unit/%)
cpputest_libs = $(shell pkg-config --libs cpputest)
# clang's ASan can't be linked in beside CppUTest's own operator new, of which its headers warn: as a
# library it can.
ifeq ($(VARIANT),fuzz)
UNIT_LINK = -shared-libasan -Wl,-rpath,$(dir $(shell $(CXX) -print-file-name=libclang_rt.asan-$(shell uname -m).so))
$(unit_tests:%=$(OBJ)/t/unit/%.o) $(OBJ)/t/unit/runner.o: EXTRA_FLAGS += -DCPPUTEST_MEM_LEAK_DETECTION_DISABLED
endif
TSAN_RUN := $(if $(filter tsan,$(VARIANT)),setarch -R)

# A unit test is a program of its own, linked with the objects that t/unit/tests.mk names for it and
# no others: the list shows what a room depends on.
define unit_runner
$(OUT)/unit/$(1): $(OBJ)/t/unit/$(1).o $(OBJ)/t/unit/runner.o $(LINKS_$(1):%=$(OBJ)/%.o)
	@mkdir -p $$(@D)
	$(if $(filter undefined,$(origin LINKS_$(1))),@echo "t/unit/tests.mk has no LINKS_$(1)" >&2; exit 1)
	@echo "  LINK   $$@"
	$$(Q)$$(CXX) $$(VARIANT_FLAGS) $$(UNIT_LINK) -pie $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(cpputest_libs) $$(LIBS_$(1)) -pthread
endef
$(foreach test,$(unit_tests),$(eval $(call unit_runner,$(test))))
# Compiled in a third of the time without optimization. The models run longer than they compile.
$(patsubst %,$(OBJ)/t/unit/%.o,runner $(filter-out %_model_test,$(unit_tests))): \
    EXTRA_FLAGS += -O0 -U_FORTIFY_SOURCE

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
race: PYTEST_ARGS := -q -s -k 'test_keepalive_races or test_tls_races'
race: all ## Keep-alive clients that ask around every event: RACE_REQUESTS (1000000), and half as many over TLS
	@$(call RUN_PYTEST,RACE_REQUESTS=$(or $(RACE_REQUESTS),1000000))

.PHONY: hostile
hostile: all ## Peers that do anything beside an honest httpd: HOSTILE_SECONDS (60), HOSTILE_SEED
	@$(PYTHON) t/hostile/run.py

.PHONY: asan tsan asan-unit
asan-unit:
	@$(MAKE) VARIANT=asan unit
# httpd itself isn't built with ASan: its module brings the runtime along, by LD_PRELOAD
# (t/integration/harness/sanitized.py). TSan would have to know httpd's own locks.
SANITIZED_SOAK = SOAK_CONNECTIONS=$(or $(SOAK_CONNECTIONS),10000) SOAK_RATE=500 \
    LINGERD="$(CURDIR)/build/$(1)/lingerd" $(PYTHON) tools/bench/soak.py
asan: all asan-unit build/ablinger ## Unit tests, lingerd and the module inside httpd under ASan and UBSan
	@$(MAKE) VARIANT=asan build/asan/lingerd build/asan/mod_linger.so build/asan/mod_linger_tls.so
	@$(call RUN_PYTEST,LINGERD="$(CURDIR)/build/asan/lingerd" MOD_LINGER="$(CURDIR)/build/asan/mod_linger.so")
	@$(call SANITIZED_SOAK,asan)
tsan: all build/ablinger ## Unit tests and lingerd under ThreadSanitizer, integration tests against that lingerd
	@$(MAKE) VARIANT=tsan build/tsan/lingerd unit
	@$(call RUN_PYTEST,LINGERD="$(CURDIR)/build/tsan/lingerd")
	@$(call SANITIZED_SOAK,tsan)

FUZZ_SECONDS ?= 30
# What reads bytes that somebody else wrote, and what acts on them.
fuzzed := $(call objects_of,contract report lingerd/core mod_linger_tls/inner mod_linger_tls/layer) \
    $(addprefix $(OBJ)/,base/numbers.o lingerctl/text.o lingerd/start/options.o \
        mod_linger/request/missing.o mod_linger/request/read_timeout.o)
fuzz_targets := $(patsubst t/fuzz/%.cpp,build/fuzz/%,$(wildcard t/fuzz/*_fuzz.cpp))
.PHONY: fuzz fuzz-targets
fuzz: ## Fuzz the decoders, each for FUZZ_SECONDS (30); needs clang++
	@$(MAKE) VARIANT=fuzz CXX=clang++ fuzz-targets
	@build/fuzz/make_seeds build/fuzz/seeds && cp t/fuzz/config/* conf/lingerd.conf build/fuzz/seeds/config_fuzz
	@printf '%s\n' $(fuzz_targets) | xargs -P $$(nproc) -I '{}' sh -c 'mkdir -p {}.corpus; \
	    {} -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix=build/fuzz/ \
	        {}.corpus build/fuzz/seeds/$${0##*/} >{}.log 2>&1; status=$$?; \
	    [ $$status = 0 ] || tail -n 50 {}.log; \
	    echo "==== {}: $$(grep -E "DONE|Done|number_of_executed" {}.log | tr "\n" " ")"; exit $$status' {}
fuzz-targets: $(fuzz_targets) build/fuzz/make_seeds
build/fuzz/%_fuzz: $(OBJ)/t/fuzz/%_fuzz.o $(fuzzed)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -fsanitize=fuzzer -o $@ $^ -lssl -lcrypto
build/fuzz/make_seeds: $(OBJ)/t/fuzz/make_seeds.o $(fuzzed)
	@mkdir -p $(@D)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -o $@ $^ -lssl -lcrypto

bench_objects := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tools/ablinger/*.cpp))
build/ablinger: $(bench_objects)
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^ -lssl -lcrypto -pthread

.PHONY: bench soak demo tools
tools: build/ablinger build/scale_simulation # What bench, soak and demo run
bench: all build/ablinger ## Compare with stock httpd
	@$(PYTHON) tools/bench/bench.py $(BENCH_ARGS)
soak: all build/ablinger ## Long run under load: nothing leaks, nothing is lost
	@$(PYTHON) tools/bench/soak.py
# No prerequisite of its: what builds is asked for only when deps has brought it.
demo: ## Show stock httpd beside httpd with lingerd (DEMO_PORT=8080, DEMO_SECONDS=N to end by itself)
	@$(MAKE) --no-print-directory deps DEPS="build load demo"
	@$(MAKE) -s -j$$(nproc) build/mod_linger.so build/lingerd build/ablinger
	@$(PYTHON) tools/bench/demo.py

.PHONY: check
check: deps ## Everything that must hold: build (g++, clang++), unit, asan unit, integration, lint, packages
	@$(PYTHON) t/check.py

# ---- Lint ------------------------------------------------------------------------------------

product := $(sort $(ROOMS) $(MODULE_ROOMS) $(TLS_ROOMS) lingerd lingerctl)
cpp_files := $(foreach each,$(product) t/unit t/fuzz tools/ablinger tools/bench/scale tools/bench/tls,$(wildcard $(each)/*.cpp $(each)/*.h))
# Where clang-tidy's opinion matters; tests follow by clang-format and the compilers' warnings.
tidy_sources := $(call sources_of,$(product))
.PHONY: lint lint-wall lint-sizes lint-format lint-includes lint-tidy format
lint: lint-wall lint-sizes lint-format lint-includes lint-tidy ## clang-format, clang-tidy, what files include, the walls between rooms, and sizes
lint-wall:
	@$(PYTHON) t/lint_wall.py
lint-sizes:
	@$(PYTHON) t/lint_sizes.py
lint-format:
	@echo clang-format: $(words $(cpp_files)) files
	@clang-format --dry-run -Werror $(cpp_files)
lint-includes: $(cpp_files:%=$(OBJ)/%.includes) ## Each file includes what it uses (FIX=1 adds what is missing)
$(OBJ)/%.includes: % t/lint_includes.py $(filter %.h,$(cpp_files))
	@mkdir -p $(@D)
	@echo "  INCLUDES $<"
	@$(PYTHON) t/lint_includes.py $< -std=c++20 -I. $(APXS_FLAGS)
	@touch $@
# How far the analyzer follows one function: at its own 225000 steps it takes twice as long, for
# functions that it then gives up on.
ANALYZER := -Xclang -analyzer-config -Xclang max-nodes=50000
lint-tidy: $(tidy_sources:%=$(OBJ)/%.tidy)
$(OBJ)/%.cpp.tidy: %.cpp .clang-tidy $(filter %.h,$(cpp_files))
	@mkdir -p $(@D)
	@echo "  TIDY   $<"
	@clang-tidy --quiet $< -- -std=c++20 -I. $(APXS_FLAGS) $(ANALYZER) 2>$@.err || { cat $@.err; exit 1; }
	@touch $@
format: ## Format all C++ files
	clang-format -i $(cpp_files)

# ---- Packages, installation ------------------------------------------------------------------

.PHONY: deps install install-docs clean help
deps: ## Install what building and testing needs, with apt-get or dnf; no-op when all is there
	@if command -v dpkg-query >/dev/null; then packaging/install-deps deb $(foreach p,$(DEB_PACKAGES),'$p'); \
	elif command -v dnf >/dev/null; then packaging/install-deps rpm $(foreach p,$(RPM_PACKAGES),'$p'); \
	else echo "deps: neither apt-get nor dnf here; install: $(RPM_PACKAGES)" >&2; exit 1; fi

include packaging/packages.mk
include tools/bench/bench.mk

MODULEDIR = $(shell $(APXS) -q LIBEXECDIR)
DOCDIR ?= $(PREFIX)/share/doc/mod_linger
MANDIR ?= $(PREFIX)/share/man
install: all install-docs ## Install (DESTDIR, PREFIX=/usr/local, SYSCONFDIR, MODULEDIR)
	install -D -m 755 $(OUT)/lingerd $(DESTDIR)$(PREFIX)/sbin/lingerd
	install -D -m 755 $(OUT)/lingerctl $(DESTDIR)$(PREFIX)/bin/lingerctl
	install -D -m 644 -t $(DESTDIR)$(MODULEDIR) $(OUT)/mod_linger.so $(OUT)/mod_linger_tls.so
	install -d $(DESTDIR)$(DOCDIR)/examples
	find conf -type f ! -perm -u+x -exec install -m 644 -t $(DESTDIR)$(DOCDIR)/examples {} +
	find conf -type f -perm -u+x -exec install -m 755 -t $(DESTDIR)$(DOCDIR)/examples {} +
	for page in $(wildcard packaging/man/*.[1-8]); do \
	    install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page; done
# As they lie here, so that links between them lead somewhere.
install-docs:
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) $(wildcard *.md)
	install -D -m 644 -t $(DESTDIR)$(DOCDIR)/docs $(wildcard docs/*)

clean: ## Remove build/
	rm -rf build

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(filter-out %.d,$(MAKEFILE_LIST))

# No other variant's, which may be being made beside this one.
-include $(shell [ -d $(OBJ) ] && find $(OBJ) -name '*.d')
