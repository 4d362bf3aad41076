# SPDX-License-Identifier: Apache-2.0
# The figures behind docs/scale.md.
build/scale_simulation: $(OBJ)/t/bench/scale/simulation.o $(OBJ)/lingerd/lingerer.o \
    $(OBJ)/lingerd/deadlines.o
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^

.PHONY: scale
scale: all build/ablinger build/scale_simulation ## What a lingering socket costs, and a million of them simulated
	@$(PYTHON) t/bench/scale/measure.py
