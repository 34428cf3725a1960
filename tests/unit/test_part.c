#include "tests/unit/test.h"

#include "agent/keeper/part.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1u << 20)

static int dir = -1;
static struct part_place place;
static struct err e;
static char *bytes; /* 8 MiB that are not alike */

static void begin(void)
{
	own_close(&dir);
	dir = open(test_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(part_place_open(&place, dir, &e));
	if (bytes == NULL)
		bytes = malloc(8 * MIB);
	for (unsigned i = 0; i < 8 * MIB; i++)
		bytes[i] = (char)(i * 2654435761u >> 24);
}

static void hex_of(const void *data, size_t len, char out[DIGEST_HEX_SIZE])
{
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	digest_add(d, data, len);
	assert_ok(digest_hex(d, out, &e));
}

/* What the file holds, and what was hashed, are the first `len` bytes. */
static void assert_holds(struct part *p, size_t len)
{
	char want[DIGEST_HEX_SIZE], have[DIGEST_HEX_SIZE];
	autofree char *there = malloc(len + 1);
	autofd fd = openat(dir, "a", O_RDONLY);
	assert_int_equal(read(fd, there, len + 1), len);
	assert_memory_equal(there, bytes, len);
	hex_of(bytes, len, want);
	assert_ok(digest_hex(p->sha256, have, &e));
	assert_string_equal(have, want);
}

/* In pieces that fit neither sectors nor blocks. */
static void append(struct part *p, size_t from, size_t to)
{
	for (size_t n; from < to; from += n) {
		n = to - from < 65000 ? to - from : 65000;
		assert_ok(part_append(p, &place, "a", bytes + from, n, &e));
	}
	assert_ok(part_store(p, "a", &e));
}

TEST(part_append__large_file__all_of_it_whatever_the_pieces)
{
	begin();
	size_t size = 5 * MIB + 123;
	struct part *p = part_new(false, &e);
	assert_ok(part_open(p, &place, "a", size, &e));
	append(p, 0, size);
	assert_true(p->stored == size);
	assert_holds(p, size);
	part_free(p, &place);
	part_place_close(&place);
}

TEST(part_append__goes_on_amid_a_sector__all_of_it)
{
	begin();
	size_t size = 5 * MIB + 123, first = 2 * MIB + 777;
	struct part *p = part_new(false, &e);
	assert_ok(part_open(p, &place, "a", size, &e));
	append(p, 0, first);
	part_close(p, &place);
	assert_ok(part_open(p, &place, "a", size, &e));
	append(p, first, size);
	assert_holds(p, size);
	part_free(p, &place);
	part_place_close(&place);
}

TEST(part_append__no_write_past_the_page_cache__written_all_the_same)
{
	begin();
	struct part *p = part_new(false, &e);
	assert_ok(part_open(p, &place, "a", 4 * MIB, &e));
	if (p->block == NULL)
		skip(); /* the tests run in memory */
	/* memory that no disk takes its bytes from */
	autofree char *odd = malloc(PART_BLOCK_BYTES + 1);
	char *block = p->block;
	p->block = odd + 1;
	append(p, 0, 4 * MIB);
	p->block = block;
	assert_holds(p, 4 * MIB);
	part_free(p, &place);
	part_place_close(&place);
}

TEST(part_store__disk_refuses__what_is_stored_is_told)
{
	begin();
	struct part *p = part_new(false, &e);
	assert_ok(part_open(p, &place, "a", 4 * MIB, &e));
	if (p->block == NULL)
		skip();
	assert_ok(part_append(p, &place, "a", bytes, MIB + 5, &e));
	assert_true(p->stored == MIB && p->have == MIB + 5);
	/* the descriptor of a file that cannot be written to */
	own_close(&p->fd);
	p->fd = openat(dir, "a", O_RDONLY);
	assert_err(part_store(p, "a", &e), ERR_FOLDER);
	assert_true(p->stored == MIB);
	part_free(p, &place);
	part_place_close(&place);
}

TEST(part_open__more_large_files_than_blocks__the_others_do_without)
{
	begin();
	struct part *parts[PART_BLOCKS + 2];
	char name[8];
	for (unsigned i = 0; i < PART_BLOCKS + 2; i++) {
		snprintf(name, sizeof(name), "%u", i);
		parts[i] = part_new(false, &e);
		assert_ok(part_open(parts[i], &place, name, 2 * MIB, &e));
		assert_ok(part_append(parts[i], &place, name, bytes, 70000, &e));
		assert_ok(part_store(parts[i], name, &e));
		assert_true(parts[i]->stored == 70000);
	}
	assert_null(parts[PART_BLOCKS]->block);
	for (unsigned i = 0; i < PART_BLOCKS + 2; i++)
		part_free(parts[i], &place);
	part_place_close(&place);
}

TEST(part_put__ahead_of_its_turn__hashed_when_the_others_are_there)
{
	begin();
	size_t size = 6 * MIB;
	struct part *p = part_new(false, &e);
	assert_ok(part_open(p, &place, "a", size, &e));
	p->split = calloc(1, sizeof(*p->split));
	split_begin(p->split, 0, 0, size);
	struct stream *first = &p->split->streams[0], *second = &p->split->streams[1];
	p->split->count = 2;
	first->end = 3 * MIB;
	*second = (struct stream){ .asked = 3 * MIB, .next = 3 * MIB, .end = size,
				   .state = STREAM_COMING };
	assert_ok(part_put(p, &place, "a", second, bytes + 3 * MIB, 2 * MIB + 9, &e));
	assert_true(p->have == 0 && p->split->ahead == 2 * MIB + 9);
	assert_ok(part_put(p, &place, "a", first, bytes, 3 * MIB, &e));
	assert_true(p->have == 5 * MIB + 9 && p->split->ahead == 0);
	assert_ok(part_put(p, &place, "a", second, bytes + 5 * MIB + 9, MIB - 9, &e));
	assert_true(p->have == size);
	assert_ok(part_store(p, "a", &e));
	assert_holds(p, size);
	assert_true(part_unsplit(p) == 0);
	part_free(p, &place);
	part_place_close(&place);
}

/* A file of which [0, 1), [4, 24) and [32, 40) MiB are there. */
static int make_gaps(void)
{
	autofree char *some = calloc(1, 20 * MIB);
	int fd = openat(dir, "a", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	memset(some, 'x', 20 * MIB);
	assert_int_equal(pwrite(fd, some, MIB, 0), MIB);
	assert_int_equal(pwrite(fd, some, 20 * MIB, 4 * MIB), 20 * MIB);
	assert_int_equal(pwrite(fd, some, 8 * MIB, 32 * MIB), 8 * MIB);
	if (lseek(fd, 0, SEEK_HOLE) != MIB)
		skip(); /* this file system knows no holes */
	return fd;
}

TEST(part_find_ahead__parts_beyond_a_gap__taken_up)
{
	begin();
	autofd fd = make_gaps();
	struct split *s = part_find_ahead(fd, MIB - 65536, 64 * MIB);
	assert_non_null(s);
	const struct stream *first = split_first(s);
	assert_true(first->asked == MIB - 65536 && first->end == 4 * MIB);
	/* without the last page or so of each */
	assert_true(s->ahead == 28 * MIB - 2 * 65536);
	assert_true(s->frontier == 40 * MIB - 65536);
	free(s);
	part_place_close(&place);
}

TEST(part_find_ahead__too_little_or_of_another_size__null)
{
	begin();
	autofd fd = make_gaps();
	assert_null(part_find_ahead(fd, MIB - 65536, 39 * MIB));
	assert_null(part_find_ahead(fd, 30 * MIB, 64 * MIB));
	assert_null(part_find_ahead(fd, 50 * MIB, 64 * MIB));
	part_place_close(&place);
}

TEST(part_trim__with_parts_ahead__they_stay_gaps_give_their_blocks_back)
{
	struct stat before, after;
	begin();
	autofd fd = make_gaps();
	struct part *p = part_new(false, &e);
	p->stored = MIB - 65536;
	p->split = part_find_ahead(fd, p->stored, 64 * MIB);
	/* as part_open() leaves it */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 64 * MIB) != 0)
		skip();
	assert_int_equal(fstat(fd, &before), 0);
	assert_ok(part_trim(p, fd, "a", &e));
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_size, 40 * MIB - 65536);
	assert_true(after.st_blocks < before.st_blocks &&
		    (uint64_t)after.st_blocks * 512 < 30 * MIB);
	assert_int_equal(lseek(fd, 24 * MIB, SEEK_DATA), 32 * MIB);
	part_free(p, &place);
	part_place_close(&place);
}
