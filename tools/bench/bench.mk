# SPDX-License-Identifier: Apache-2.0
# The figures behind docs/scale.md.
build/scale_simulation: $(OBJ)/tools/bench/scale/simulation.o \
    $(foreach each,lingerd/core contract base,$(call library_of,$(each)))
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^

.PHONY: scale
scale: all build/ablinger build/scale_simulation ## What a lingering socket costs, and a million of them simulated
	@$(PYTHON) tools/bench/scale/measure.py

build/tls_trip: $(OBJ)/tools/bench/tls/trip.o $(patsubst %.cpp,$(OBJ)/%.o,$(call sources_of,mod_linger_tls/inner mod_linger_tls/layer))
	@echo "  LINK   $@"
	$(Q)$(CXX) $(VARIANT_FLAGS) -pie $(LDFLAGS) -o $@ $^ -lssl -lcrypto

.PHONY: tls-trip
tls-trip: build/tls_trip ## What a parked TLS connection's trip costs, beside handshakes
	@build/tls_trip
