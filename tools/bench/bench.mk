# SPDX-License-Identifier: Apache-2.0
# The figures behind docs/scale.md.
build/scale_simulation: $(OBJ)/tools/bench/scale/simulation.o \
    $(foreach each,lingerd/core contract base,$(call library_of,$(each)))
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^

.PHONY: scale
scale: all build/ablinger build/scale_simulation ## What a lingering socket costs, and a million of them simulated
	@$(PYTHON) tools/bench/scale/measure.py
