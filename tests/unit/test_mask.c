#include "tests/unit/test.h"

#include "common/mask.h"

#include <time.h>

static void assert_values(const char *text, const char *expected)
{
	autobuf b = { 0 };
	mask_values(span_of(text), &b);
	assert_string_equal(b.at ? b.at : "", expected);
}

TEST(mask_values__secrets__become_stars)
{
	assert_values("https://h/p?sv=1&sig=AbC%2B%3D&se=2026", /* Azure SAS */
		      "https://h/p?sv=1&sig=***&se=2026");
	assert_values("https://h/p?SIG=x", "https://h/p?SIG=***");
	assert_values("?s%69g=x&a=b", "?s%69g=***&a=b");
	assert_values("https://h/?code=x&key=y&signature=z&accesstoken=t",
		      "https://h/?code=***&key=***&signature=***&accesstoken=***");
	assert_values("sig=x", "sig=***");
	assert_values("https://h/?u=https%3A%2F%2Fb%3Fsig%3Dx%26y&z=1",
		      "https://h/?u=https%3A%2F%2Fb%3Fsig%3D***&z=1");
	assert_values("https://u:p@h/?a=b@c", "https://***@h/?a=b@c");
	assert_values("https://u:p@q@h/", "https://***@h/");
	assert_values("a token=\"x y\" b", "a token=*** b");
	assert_values("<u>https://h/?a=1&amp;sig=x&amp;b=2</u>",
		      "<u>https://h/?a=1&amp;sig=***&amp;b=2</u>");
	assert_values("<AccessToken>x</AccessToken>",
		      "<AccessToken>***</AccessToken>");
	assert_values("sig=", "sig=");
	assert_values("sig=\"x", "sig=***");
}

TEST(mask_values__what_is_no_secret__stays)
{
	static const char *const same[] = {
		"", "=", "?=", "://", "https://h/p?a=b&se=2026&sp=r",
		"failed code=TLS_CHAIN key=1", "token_file=/etc/x", "design=1",
		"<URL>x</URL>", "a > b", "https://h/sig/x", "https://h:1/a@b", NULL,
	};
	for (size_t i = 0; same[i]; i++)
		assert_values(same[i], same[i]);
}

static void assert_text(const char *text, const char *expected)
{
	autobuf b = { 0 };
	mask_text(span_of(text), &b);
	assert_string_equal(b.at ? b.at : "", expected);
}

TEST(mask_text__secrets__become_stars)
{
	assert_text("x Bearer abc.def-_= y", "x Bearer *** y");
	assert_text("bearer abc\nz", "bearer ***\nz");
	assert_text("Authorization: Basic dTpw\r\nHost: h",
		      "Authorization: ***\r\nHost: h");
	assert_text("CCMToken: abc", "CCMToken: ***");
	assert_text("a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n"
		      "-----END RSA PRIVATE KEY-----\nb", "a\n***\nb");
	assert_text("-----BEGIN PRIVATE KEY-----\nMII", "***");
	assert_text("-----BEGIN CERTIFICATE-----\nMII",
		      "-----BEGIN CERTIFICATE-----\nMII");
	assert_text("get https://u:p@h/?sig=x failed",
		      "get https://***@h/?sig=*** failed");
	assert_text("forbearer x Bearer", "forbearer x Bearer");
	assert_text("", "");
}

TEST(mask_text__endless_begins__in_time)
{
	autobuf b = { .max = 1u << 20 }, out = { .max = 1u << 20 };
	clock_t begin = clock();
	while (b.len < 60000)
		buf_text(&b, "-----BEGIN ");
	while (b.len < 120000)
		buf_text(&b, "?sig=%3D://@Bearer ");
	mask_text(buf_as_span(&b), &out);
	assert_true(clock() - begin < CLOCKS_PER_SEC);
}
