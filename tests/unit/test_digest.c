#include "tests/unit/test.h"

#include "common/digest.h"
#include "common/own.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* FIPS 180-4 examples (NIST CAVP). */
static const struct {
	enum digest_alg alg;
	const char *text, *hex;
} known[] = {
	{ DIGEST_SHA256, "",
	  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ DIGEST_SHA256, "abc",
	  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ DIGEST_SHA256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	{ DIGEST_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },
};
#define MILLION_A \
	"cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
#define HEX64 "0123456789ABCDEFabcdef01234567890123456789abcdef0123456789abcdef"
#define LOWER "0123456789abcdefabcdef01234567890123456789abcdef0123456789abcdef"

TEST(digest_hex__known_vectors__equal)
{
	struct err e = { 0 };
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		char hex[DIGEST_HEX_SIZE];
		autodigest struct digest *d = digest_new(known[i].alg, &e);
		assert_non_null(d);
		digest_add(d, known[i].text, strlen(known[i].text));
		assert_int_equal(digest_length(d), strlen(known[i].text));
		assert_ok(digest_hex(d, hex, &e));
		assert_string_equal(hex, known[i].hex);
	}
}

TEST(digest_add__million_in_odd_pieces__equal)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE], piece[997];
	memset(piece, 'a', sizeof(piece));
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	for (size_t left = 1000000; left;) {
		size_t n = left < sizeof(piece) ? left : sizeof(piece);
		digest_add(d, piece, n);
		digest_add(d, NULL, 0);
		left -= n;
	}
	assert_ok(digest_hex(d, hex, &e));
	assert_string_equal(hex, MILLION_A);
}

TEST(digest_reset__after_hex__starts_anew)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	digest_add(d, "other", 5);
	assert_ok(digest_hex(d, hex, &e));
	digest_reset(d);
	assert_int_equal(digest_length(d), 0);
	digest_add(d, "abc", 3);
	assert_ok(digest_hex(d, hex, &e));
	assert_string_equal(hex, known[1].hex);
}

TEST(digest_hex__twice_without_reset__internal)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	autodigest struct digest *d = digest_new(DIGEST_SHA256, &e);
	assert_ok(digest_hex(d, hex, &e));
	digest_add(d, "x", 1);
	assert_err(digest_hex(d, hex, &e), ERR_INTERNAL);
	assert_string_equal(hex, "");
}

TEST(digest_free__null__nothing)
{
	digest_free(NULL);
}

TEST(digest_is_hex__right_and_wrong__told_apart)
{
	char out[DIGEST_HEX_SIZE];
	assert_true(digest_is_hex(DIGEST_SHA256, HEX64, 64, out));
	assert_string_equal(out, LOWER);
	assert_true(digest_is_hex(DIGEST_SHA1, HEX64, 40, out));
	assert_int_equal(strlen(out), 40);
	assert_false(digest_is_hex(DIGEST_SHA256, HEX64, 63, out));
	assert_false(digest_is_hex(DIGEST_SHA256, HEX64 "0", 65, out));
	assert_false(digest_is_hex(DIGEST_SHA1, HEX64, 64, out));
	assert_false(digest_is_hex(DIGEST_SHA256, "", 0, out));
	char bad[] = HEX64;
	static const char wrong[] = "g/:@`G \n\xff";
	for (size_t i = 0; i < sizeof(wrong); i++) {
		bad[63] = wrong[i];
		assert_false(digest_is_hex(DIGEST_SHA256, bad, 64, out));
	}
}

TEST(digest_parse__sha256__lower_case)
{
	struct err e = { 0 };
	char out[DIGEST_HEX_SIZE];
	assert_ok(digest_parse("sha256:" HEX64, out, &e));
	assert_string_equal(out, LOWER);
}

TEST(digest_parse__anything_else__usage_with_reason)
{
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{ "", "sha256:" },
		{ HEX64, "does not begin" },
		{ "sha1:" HEX64, "does not begin" },
		{ "SHA256:" HEX64, "does not begin" },
		{ " sha256:" HEX64, "does not begin" },
		{ "sha256:", "0 digits" },
		{ "sha256:" HEX64 "0", "65 digits" },
		{ "sha256:" HEX64 "\n", "65 digits" },
		{ "sha256: 123456789ABCDEFabcdef01234567890123456789abcdef01234567"
		  "89abcdef", "no hex digit" },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct err e = { 0 };
		char out[DIGEST_HEX_SIZE] = "kept";
		assert_err(digest_parse(bad[i].text, out, &e), ERR_USAGE);
		assert_non_null(strstr(e.text, bad[i].reason));
		assert_string_equal(out, "kept");
	}
}

static int make_file(const char *bytes, size_t len, size_t times)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/file", test_folder());
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (times--)
		assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

TEST(digest_file__many_blocks_from_any_offset__whole_file)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	uint64_t size = 0;
	autofd fd = make_file("aaaaaaaaaa", 10, 100000);
	assert_ok(digest_file(fd, hex, &size, &e)); /* it stands at the end */
	assert_string_equal(hex, MILLION_A);
	assert_int_equal(size, 1000000);
}

TEST(digest_file__empty__hash_of_nothing)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	autofd fd = make_file("", 0, 0);
	assert_ok(digest_file(fd, hex, NULL, &e));
	assert_string_equal(hex, known[0].hex);
}

TEST(digest_file__unreadable__state)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	assert_err(digest_file(-1, hex, NULL, &e), ERR_FOLDER);
	autofd folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_err(digest_file(folder, hex, NULL, &e), ERR_FOLDER);
	assert_non_null(strstr(e.text, "hash"));
}

static enum err_code stop_third(void *arg)
{
	unsigned *asked = arg;
	return ++*asked == 3 ? ERR_SIGINT : ERR_OK;
}

TEST(digest_file_until__stopped__soon_and_with_its_code)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	unsigned asked = 0;
	autofd fd = make_file("", 0, 0);
	assert_int_equal(ftruncate(fd, 8ll << 30), 0); /* of holes: costs nothing */
	assert_err(digest_file_until(fd, hex, NULL, stop_third, &asked, &e),
		   ERR_SIGINT);
	assert_int_equal(asked, 3);
	assert_int_equal(e.code, ERR_SIGINT);
}

TEST(digest_file_until__never_stopped__as_digest_file)
{
	struct err e = { 0 };
	char hex[DIGEST_HEX_SIZE];
	unsigned asked = 3;
	autofd fd = make_file("aaaaaaaaaa", 10, 100000);
	assert_ok(digest_file_until(fd, hex, NULL, stop_third, &asked, &e));
	assert_string_equal(hex, MILLION_A);
}
