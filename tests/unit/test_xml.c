#include "tests/unit/test.h"

#include "common/buf.h"
#include "common/own.h"
#include "common/xml.h"

#include <string.h>
#include <time.h>

/* Writes events as text: "<name a=v>", "text", "</name>". */
static enum err_code write_event(void *arg, const struct xml_item *item,
				 struct err *e)
{
	struct buf *b = arg;
	(void)e;
	if (item->event == XML_OPEN) {
		buf_print(b, "%u<%s", item->depth, item->name);
		for (const char *const *a = item->attributes; a[0]; a += 2)
			buf_print(b, " %s=%s", a[0], a[1]);
		buf_char(b, '>');
	} else {
		buf_print(b, "[%.*s]%u", SPAN_ARG(item->text), item->depth);
	}
	return ERR_OK;
}

static enum err_code ignore(void *arg, const struct xml_item *item, struct err *e)
{
	(void)arg, (void)item, (void)e;
	return ERR_OK;
}

static void assert_events(struct span document, const char *expected)
{
	autobuf b = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(document, "test", ERR_MP_REPLY, write_event, &b, &e));
	assert_string_equal(b.at, expected);
}

/* Refused, for a reason that holds `why`, in less than a second. */
static void assert_refused(struct span document, const char *why)
{
	struct err e = { 0 };
	clock_t begin = clock();
	enum err_code rc = xml_parse(document, "test", ERR_MP_REPLY, ignore, NULL, &e);
	assert_err(rc, ERR_MP_REPLY);
	assert_int_equal(e.code, ERR_MP_REPLY);
	if (strstr(e.text, why) == NULL)
		print_error("%s\n", e.text);
	assert_non_null(strstr(e.text, why));
	assert_memory_equal(e.text, "test", 4);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
	assert_true(clock() - begin < CLOCKS_PER_SEC);
#else
	(void)begin;
#endif
}

/* A document of `head`, `n` times `part`, `tail`; freed with the test's buf. */
static struct span make(struct buf *b, const char *head, size_t n,
			const char *part, const char *tail)
{
	b->max = 64u << 20;
	buf_text(b, head);
	for (size_t i = 0; i < n; i++)
		buf_text(b, part);
	buf_text(b, tail);
	assert_false(b->failed);
	return buf_as_span(b);
}

static struct span widen(struct buf *b, const char *text, bool is_big, bool mark)
{
	char pair[2];
	b->max = 64u << 20;
	if (mark)
		buf_add(b, is_big ? "\xfe\xff" : "\xff\xfe", 2);
	for (; *text; text++) {
		pair[0] = is_big ? '\0' : *text;
		pair[1] = is_big ? *text : '\0';
		buf_add(b, pair, 2);
	}
	return buf_as_span(b);
}

TEST(xml_parse__elements__events_in_order)
{
	assert_events(SPAN_LIT("<?xml version=\"1.0\"?>\n<a x='1' y='2'> t <b/>"
			       "u<![CDATA[<&]]></a>\n"),
		      "1<a x=1 y=2>2<b>[]2[t u<&]1");
}

TEST(xml_parse__prefixes__are_gone)
{
	assert_events(SPAN_LIT("<D:m xmlns:D='DAV:' xmlns='u'><D:href D:k='v'>x"
			       "</D:href></D:m>"),
		      "1<m>2<href k=v>[x]2[]1");
	assert_events(SPAN_LIT("<x:a/>"), "1<a>[]1"); /* undeclared: seen */
}

TEST(xml_parse__same_local_name__unprefixed_first)
{
	assert_events(SPAN_LIT("<a p:URL='x' URL='y' xmlns:URL='z'/>"),
		      "1<a URL=y URL=x>[]1");
}

TEST(xml_parse__five_entities_and_references__are_resolved)
{
	assert_events(SPAN_LIT("<a b='&quot;&#65;'>&lt;&gt;&amp;&apos;&#x42;</a>"),
		      "1<a b=\"A>[<>&'B]1");
}

TEST(xml_attribute__absent__null)
{
	static const char *const list[] = { "a", "1", "b", "2", NULL };
	struct xml_item item = { .attributes = list };
	assert_string_equal(xml_attribute(&item, "b"), "2");
	assert_null(xml_attribute(&item, "B"));
	item.attributes = NULL;
	assert_null(xml_attribute(&item, "a"));
}

TEST(xml_parse__utf16__with_and_without_mark)
{
	static const char *const documents[] = {
		"<a b='c'>d</a>",
		"<?xml version='1.0' encoding='utf-16'?><a b='c'>d</a>",
		"<?xml version='1.0' encoding='utf-8'?><a b='c'>d</a>",
	};
	for (int i = 0; i < 12; i++) {
		autobuf b = { 0 };
		assert_events(widen(&b, documents[i / 4], i & 1, i & 2),
			      "1<a b=c>[d]1");
	}
}

TEST(xml_parse__utf16_beyond_ascii__becomes_utf8)
{
	static const char text[] = "<\0a\0>\0\xe4\0\x3d\xd8\x00\xde<\0/\0a\0>\0";
	assert_events((struct span){ text, 20 }, "1<a>[\xc3\xa4\xf0\x9f\x98\x80]1");
}

TEST(xml_parse__utf16_odd_length__refused)
{
	assert_refused((struct span){ "<\0a\0/\0>\0\n", 9 }, "line");
	assert_refused((struct span){ "\xff\xfe<", 3 }, "line");
	assert_refused((struct span){ "\xff\xfe", 2 }, "empty");
}

TEST(xml_parse__utf8_mark__accepted)
{
	assert_events(SPAN_LIT("\xef\xbb\xbf<a/>"), "1<a>[]1");
}

TEST(xml_parse__dtd__refused)
{
	static const char *const documents[] = {
		"<!DOCTYPE a><a/>",
		"<!DOCTYPE a SYSTEM \"http://127.0.0.1:1/e.dtd\"><a/>",
		"<!DOCTYPE a PUBLIC \"x\" \"file:///etc/passwd\"><a/>",
		"<?xml version='1.0'?><!DOCTYPE r [<!ENTITY x SYSTEM "
		"\"file:///etc/passwd\">]><r>&x;</r>",
		"<!DOCTYPE r [<!ENTITY % p SYSTEM \"http://127.0.0.1:1/\">%p;]><r/>",
		"<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;&a;&a;\">"
		"<!ENTITY c \"&b;&b;&b;&b;\">]><l>&c;</l>",
	};
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
		autobuf wide = { 0 };
		assert_refused(span_of(documents[i]), "DTD");
		assert_refused(widen(&wide, documents[i], false, true), "DTD");
	}
}

TEST(xml_parse__quadratic_entity__refused_at_the_dtd)
{
	autobuf b = { 0 };
	assert_refused(make(&b, "<!DOCTYPE q [<!ENTITY a \"AAAAAAAAAA\">]><q>", 100000,
			    "&a;", "</q>"), "DTD");
}

TEST(xml_parse__malformed__refused)
{
	static const char *const documents[] = {
		"<", "<a", "<a>", "<a></b>", "<a/><b/>", "x", " ", "<a>&foo;</a>",
		"<a>&#0;</a>", "<a>&#x1F;</a>", "<a b='<'/>", "<a b=c/>", "<a b/>",
		"<a URL='x' URL='y'/>", "<a>\x01</a>", "<a>\xff\xfe</a>",
		"<a>\xc0\x80</a>", "<a>\xed\xa0\x80</a>", "</a>", "<a><!-- -- --></a>",
		"<?xml version='1.0' encoding='UTF-7'?>+ADw-a+AD4-",
		"<?xml version='1.0' encoding='x-user'?><a/>", "<a/>x", "{}",
		"<a>]]></a>", "<html><br></html>", "\x1f\x8b",
	};
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
		assert_refused(span_of(documents[i]), "line 1");
	assert_refused(SPAN_LIT("<a>\0</a>"), "line 1");
	assert_refused(SPAN_LIT("<a/>\0"), "line 1");
	assert_refused(SPAN_LIT("\0\0\0\0"), "line 1");
	assert_refused(SPAN_LIT(""), "empty");
}

TEST(xml_parse__truncated_anywhere__refused)
{
	static const char text[] = "<?xml version='1.0'?><a b='c'><d>e</d></a>";
	for (size_t n = 0; n < sizeof(text) - 1; n++)
		assert_refused((struct span){ text, n }, "test");
}

TEST(xml_parse__depth__limit_is_exact)
{
	autobuf good = { 0 }, bad = { 0 }, endless = { 0 };
	struct err e = { 0 };
	make(&good, "", XML_MAX_DEPTH, "<a>", "");
	for (int i = 0; i < XML_MAX_DEPTH; i++)
		buf_text(&good, "</a>");
	assert_ok(xml_parse(buf_as_span(&good), "test", ERR_LISTING, ignore, NULL, &e));
	make(&bad, "", XML_MAX_DEPTH + 1, "<a>", "");
	for (int i = 0; i <= XML_MAX_DEPTH; i++)
		buf_text(&bad, "</a>");
	assert_refused(buf_as_span(&bad), "nested too deep");
	assert_refused(make(&endless, "", 1000000, "<a>", ""), "nested too deep");
}

static struct span with_attributes(struct buf *b, unsigned n)
{
	b->max = 64u << 20;
	buf_text(b, "<a ");
	for (unsigned i = 0; i < n; i++)
		buf_print(b, "a%u=\"1\" ", i);
	buf_text(b, "/>");
	return buf_as_span(b);
}

TEST(xml_parse__attributes__limit_is_exact)
{
	autobuf good = { 0 }, bad = { 0 }, many = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(with_attributes(&good, XML_MAX_ATTRIBUTES), "test",
			    ERR_LISTING, ignore, NULL, &e));
	assert_refused(with_attributes(&bad, XML_MAX_ATTRIBUTES + 1),
		       "too many attributes");
	assert_refused(with_attributes(&many, 800000), "too long");
}

TEST(xml_parse__million_attributes__refused)
{
	autobuf b = { 0 };
	assert_refused(with_attributes(&b, 1000000), "longer than");
}

TEST(xml_parse__elements__limit_is_exact)
{
	autobuf good = { 0 }, bad = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(make(&good, "<r>", XML_MAX_ELEMENTS - 1, "<a/>", "</r>"),
			    "test", ERR_LISTING, ignore, NULL, &e));
	assert_refused(make(&bad, "<r>", XML_MAX_ELEMENTS, "<a/>", "</r>"),
		       "too many elements");
}

TEST(xml_parse__text__limit_is_exact)
{
	autobuf good = { 0 }, bad = { 0 }, attribute = { 0 }, split = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(make(&good, "<r>", XML_MAX_TEXT, "x", "</r>"), "test",
			    ERR_LISTING, ignore, NULL, &e));
	assert_refused(make(&bad, "<r>", XML_MAX_TEXT + 1, "x", "</r>"),
		       "text of an element is too long");
	assert_refused(make(&split, "<r>", XML_MAX_TEXT / 2 + 1, "x<a/>y", "</r>"),
		       "text of an element is too long");
	assert_refused(make(&attribute, "<r a='", XML_MAX_TEXT + 1, "x", "'/>"),
		       "attribute is too long");
}

TEST(xml_parse__bytes__limit_is_exact)
{
	autobuf good = { 0 }, bad = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(make(&good, "<r/>", XML_MAX_BYTES - 4, " ", ""), "test",
			    ERR_LISTING, ignore, NULL, &e));
	assert_refused(make(&bad, "<r/>", XML_MAX_BYTES - 3, " ", ""), "longer than");
}

TEST(xml_parse__one_endless_token__refused_in_time)
{
	static const char *const heads[] = { "<a b='", "<a><!--", "<", "<a ",
					     "<?x ", "<a>&", "<a/><!-- ", "</" };
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		autobuf b = { 0 };
		assert_refused(make(&b, heads[i], (10u << 20) - 100, "x", ""), "line");
	}
}

TEST(xml_parse__big_sibling_documents__no_false_alarm)
{
	/* Many small tokens over many steps: the token limit must not count. */
	autobuf b = { 0 };
	struct err e = { 0 };
	assert_ok(xml_parse(make(&b, "<r>", 150000, "<a b='0123456789'>text</a>\n",
				 "</r>"), "test", ERR_LISTING, ignore, NULL, &e));
}

static enum err_code refuse_b(void *arg, const struct xml_item *item, struct err *e)
{
	unsigned *calls = arg;
	(*calls)++;
	if (strcmp(item->name, "b") == 0)
		return err_set(e, ERR_LIMIT, "no more");
	return ERR_OK;
}

TEST(xml_parse__callback_refuses__its_code_and_no_more_calls)
{
	unsigned calls = 0;
	struct err e = { 0 };
	assert_err(xml_parse(SPAN_LIT("<a><b/><c/>"), "test", ERR_LISTING, refuse_b,
			     &calls, &e), ERR_LIMIT);
	assert_string_equal(e.text, "no more");
	assert_int_equal(calls, 2);
}
