# make                     build/agent
# make check               every test (scripts/check installs what they need)
# make bench               what it costs beside its peers, measured here (docs/bench)
# make limit               what no client can do without, measured here
# make SANITIZE=address,undefined ...   the same with sanitizers, in build/san
# make install DESTDIR= PREFIX=/usr/local
CC ?= gcc
Q = $(if $(V),,@)# make V=1 shows every command
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BUILD = $(if $(SANITIZE),build/san,build)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1)

WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wformat=2 -Wswitch-enum -Werror
DIALECT = -std=gnu17 -D_GNU_SOURCE -DAGENT_VERSION='"$(VERSION)"' -I.
HARDENING = -fPIE -fstack-protector-strong -fstack-clash-protection \
	$(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
CFLAGS ?= -O2 -g
AGENT_CFLAGS = $(DIALECT) -MMD -MP $(HARDENING) $(WARNINGS) \
	$(if $(findstring clang,$(CC)),,-Wno-format-truncation) \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
AGENT_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE))
LIBS = -lcurl -lssl -lcrypto -lcares -linih -lexpat -lz -lsqlite3 -ljansson

# The file list is the data flow; scripts/layers.txt is the file list.
MODULES := $(shell sed -n 's/^\([a-z][^ \#]*\).*/\1/p' scripts/layers.txt)
OBJ = $(BUILD)/obj
OBJECTS = $(MODULES:%=$(OBJ)/%.o)
PARTS = $(filter-out $(OBJ)/agent/main.o,$(OBJECTS))
NET_OBJECTS = $(filter $(OBJ)/agent/net/%,$(OBJECTS))
UNIT_OBJECTS = $(patsubst %.c,$(OBJ)/%.o,$(sort $(wildcard tests/unit/*.c)))

all: $(BUILD)/agent

$(BUILD)/agent: $(OBJECTS)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) $(AGENT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# tests plant files and do not care whether the planting itself failed
$(OBJ)/tests/%.o: WARNINGS += -Wno-unused-result

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) -c -o $@ $<

-include $(shell find $(OBJ) $(BUILD)/lint -name '*.d' 2>/dev/null)

include tests/lab/lab.mk
include tests/bench/bench.mk

$(BUILD)/tests/unit/unit: $(UNIT_OBJECTS) $(PARTS)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) $(AGENT_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

$(BUILD)/tests/jail/jail: $(OBJ)/tests/jail/jail.o \
		$(OBJ)/common/sandbox.o $(OBJ)/common/err.o $(OBJ)/common/buf.o
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) $(AGENT_LDFLAGS) -o $@ $^

$(BUILD)/tests/certs/judge: $(OBJ)/tests/certs/judge.o $(PARTS)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) $(AGENT_LDFLAGS) -o $@ $^ $(LIBS)

# The real keeper with a network role that lies: tests/liar.
$(BUILD)/tests/liar/agent: $(OBJ)/tests/liar/liar.o \
		$(filter-out $(NET_OBJECTS),$(OBJECTS))
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(AGENT_CFLAGS) $(CFLAGS) $(AGENT_LDFLAGS) -o $@ $^ $(LIBS)

TEST_PROGRAMS = $(addprefix $(BUILD)/tests/,unit/unit jail/jail certs/judge \
	liar/agent)

tests: all lab bench-programs $(TEST_PROGRAMS)

check: tests lint-layers
	scripts/run-tests $(BUILD)

bench:
	scripts/bench --plots build/bench

limit:
	scripts/bench limit

demo: all lab
	scripts/demo

lint-layers:
	scripts/check-layers

lint: lint-layers
	scripts/lint

# clang-tidy is slow: a stamp says that a file, with its headers, was clean. It
# compiles as well, so what clang alone warns of shows here.
$(BUILD)/lint/%.ok: %.c .clang-tidy scripts/tidy
	@mkdir -p $(@D)
	$(Q)$(CC) $(DIALECT) -MM -MP -MT $@ -MF $(@:.ok=.d) $<
	$(Q)scripts/tidy $< $(DIALECT) $(WARNINGS)
	@touch $@

tidy: $(MODULES:%=$(BUILD)/lint/%.ok)

format:
	git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

UNITS = cloud-dp-agent.service cloud-dp-net.socket cloud-dp-net@.service

install: all
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,sbin share/man/man8 share/man/man5 \
		share/bash-completion/completions \
		share/doc/cloud-dp-agent/examples lib/systemd/system lib/sysusers.d \
		lib/tmpfiles.d) $(addprefix $(DESTDIR)$(SYSCONFDIR)/,cloud-dp-agent/policy.d \
		cloud-dp-agent/hooks.d polkit-1/rules.d)
	install -m 0755 build/agent $(DESTDIR)$(PREFIX)/sbin/agent
	install -m 0644 man/agent.8 man/cloud-dp-agent.service.8 \
		$(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 0644 man/agent.conf.5 man/agent-policy.5 \
		$(DESTDIR)$(PREFIX)/share/man/man5/
	build/agent --help=completion \
		> $(DESTDIR)$(PREFIX)/share/bash-completion/completions/agent
	set -e; for unit in $(UNITS); do sed 's|@PREFIX@|$(PREFIX)|' scripts/systemd/$$unit \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done
	install -m 0644 scripts/systemd/cloud-dp-agent.sysusers \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/cloud-dp-agent.conf
	install -m 0644 scripts/systemd/cloud-dp-agent.tmpfiles \
		$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/cloud-dp-agent.conf
	install -m 0644 scripts/systemd/50-cloud-dp-agent.rules \
		$(DESTDIR)$(SYSCONFDIR)/polkit-1/rules.d/
	install -m 0644 scripts/systemd/cloud-dp-content@.service.example \
		$(DESTDIR)$(PREFIX)/share/doc/cloud-dp-agent/examples/
	install -m 0755 scripts/make-policy $(DESTDIR)$(PREFIX)/share/doc/cloud-dp-agent/examples/

clean:
	rm -rf build

.PHONY: all tests check bench limit demo lint lint-layers tidy format install clean
.DEFAULT_GOAL := all
