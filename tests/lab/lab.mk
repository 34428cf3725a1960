# Stand-ins of the laboratory; they share nothing with the agent.
# Alone: make -f tests/lab/lab.mk BUILD=build lab
BUILD ?= build
LAB_DIR ?= tests/lab
CFLAGS_LAB ?= -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wshadow -Werror
LDFLAGS_LAB ?=
LAB_SANITIZE ?=
ifneq ($(LAB_SANITIZE),)
LAB_EXTRA = -fsanitize=$(LAB_SANITIZE) -fno-omit-frame-pointer
endif

LAB_COMMON = buf xmldoc standin reply script
LAB_MP = $(LAB_COMMON) mp_request mp_rules mp_reply mp_location mp_identity \
	mp_site mp_signed mp_register mp_policy mp_relay mp
LAB_CLOUD = $(LAB_COMMON) cloud

.PHONY: lab check-lab
lab: $(BUILD)/lab/mp $(BUILD)/lab/cloud

# Every object sees every header: there are few, and no header is forgotten so.
$(BUILD)/lab/%.o: $(LAB_DIR)/%.c $(wildcard $(LAB_DIR)/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_LAB) $(LAB_EXTRA) -c -o $@ $<

$(BUILD)/lab/mp: $(LAB_MP:%=$(BUILD)/lab/%.o)
	$(CC) $(CFLAGS_LAB) $(LAB_EXTRA) $(LDFLAGS_LAB) -o $@ $^ \
		-lmicrohttpd -lgnutls -lcrypto -lexpat -lz -lpthread

$(BUILD)/lab/cloud: $(LAB_CLOUD:%=$(BUILD)/lab/%.o)
	$(CC) $(CFLAGS_LAB) $(LAB_EXTRA) $(LDFLAGS_LAB) -o $@ $^ \
		-lmicrohttpd -lgnutls -lexpat -lpthread

check-lab: lab
	python3 $(LAB_DIR)/test_standin.py --bin $(BUILD)/lab
