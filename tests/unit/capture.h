#ifndef TESTS_UNIT_CAPTURE_H
#define TESTS_UNIT_CAPTURE_H

#include "common/buf.h"

#include <stdio.h>

/* What goes to one of our standard streams, until captured() is called. */
struct capture {
	char path[160];
	FILE *stream;
	int fd, saved;
	struct buf text;
};
void capture(struct capture *c, FILE *stream);
const char *captured(struct capture *c); /* lives as long as c */
void uncapture(struct capture *c);
#define autocapture __attribute__((cleanup(uncapture))) struct capture

void assert_has(const char *text, const char *part);
void assert_lacks(const char *text, const char *part);
/* One line with a line feed, and braces round it. */
void assert_one_object(const char *text);

#endif
