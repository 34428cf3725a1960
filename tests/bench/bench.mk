# Programs of the benchmark; they share nothing with the agent. The librepo peer is
# made by tests/bench/librepo, since its headers cannot be installed beside ours.
BENCH = $(BUILD)/bench
BENCH_CFLAGS = -std=gnu17 -D_GNU_SOURCE -O2 -g $(WARNINGS)

bench-programs: $(BENCH)/slowlink $(BENCH)/limit $(BENCH)/idle

$(BENCH)/slowlink: BENCH_LIBS =
$(BENCH)/limit: BENCH_LIBS = -lcrypto
# the same libraries as the agent, needed or not: that is what it is a yardstick for
$(BENCH)/idle: BENCH_LIBS = -Wl,--no-as-needed $(LIBS)

$(BENCH)/%: tests/bench/%.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $< $(BENCH_LIBS)

.PHONY: bench-programs
