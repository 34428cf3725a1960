# Programs of the benchmark: the slow link, the floor, the yardstick for memory. The
# librepo peer is built by tests/bench/librepo, since its headers are no package that
# could be installed beside ours.
BENCH = $(BUILD)/bench
BENCH_PROGRAMS =

bench-programs: $(BENCH_PROGRAMS)

.PHONY: bench-programs
