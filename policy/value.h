#ifndef POLICY_VALUE_H
#define POLICY_VALUE_H

#include "common/buf.h"
#include "common/span.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Numbers as settings and policy write them: decimal digits only, no sign, no
 * blank, no fraction, no exponent, nothing beyond INT64_MAX. All return false,
 * with *out untouched, for anything else.
 */
bool value_number(struct span text, uint64_t *out);
/* Bytes; a unit k, M, G or T (powers of 1024, any case) may follow. */
bool value_size(struct span text, uint64_t *bytes);
/* Milliseconds from "500ms", "2s", "60m", "8h", "1d"; a bare number: seconds. */
bool value_time(struct span text, int64_t *ms);

/* The shortest text that means exactly the same: "5G", "90s", "1d". */
void value_print_size(uint64_t bytes, struct buf *out);
void value_print_time(int64_t ms, struct buf *out);

#endif
