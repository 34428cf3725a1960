#include "tests/unit/test.h"

#include "policy/choose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DP(host) "http://" host "/SMS_DP_SMSPKG$/ABC00042"
#define CLOUD(host) \
	"https://" host "/downloadrestservice.svc/getcontentxmlsecure?pid=ABC00042"

static const struct choose_rules allow = { .cloud_allow = true };

/* Sources of one test and what became of them. */
struct scene {
	struct source_list list;
	struct choose_result result;
	struct err e;
};

static void scene_free(struct scene *s)
{
	source_list_free(&s->list);
	choose_free(&s->result);
}
#define autoscene __attribute__((cleanup(scene_free))) struct scene

static void add(struct scene *s, const char *url, const char *locality)
{
	struct err e = { 0 };
	struct source one = { .url = (char *)(uintptr_t)url,
			      .locality = (char *)(uintptr_t)locality,
			      .site_locality = (char *)(uintptr_t) "LOCAL" };
	assert_ok(source_list_add(&s->list, &one, &e));
}

static enum err_code choose(struct scene *s, const struct choose_rules *rules)
{
	choose_free(&s->result);
	enum err_code rc = choose_sources(&s->list, rules, &s->result, &s->e);
	assert_int_equal(s->result.count, s->list.count);
	for (size_t i = 0; i < s->result.count; i++) {
		assert_int_equal(s->result.items[i].rank, i + 1);
		assert_int_equal(s->result.items[i].usable, i < s->result.usable);
		assert_true(s->result.items[i].reason[0]);
	}
	return rc;
}

/* "0 2 | 1": indices in order, refused ones behind the bar. */
static void assert_order(const struct scene *s, const char *want)
{
	autobuf got = { 0 };
	for (size_t i = 0; i < s->result.count; i++) {
		if (i == s->result.usable)
			buf_text(&got, "| ");
		buf_print(&got, "%zu ", s->result.items[i].source);
	}
	got.at[got.len - 1] = '\0';
	assert_string_equal(got.at, want);
}

static void assert_reason(const struct scene *s, size_t source, const char *text)
{
	for (size_t i = 0; i < s->result.count; i++)
		if (s->result.items[i].source == source &&
		    !strstr(s->result.items[i].reason, text))
			fail_msg("no \"%s\" in: %s", text, s->result.items[i].reason);
}

TEST(choose_sources__every_locality__documented_order)
{
	autoscene s = { 0 };
	add(&s, CLOUD("cloud"), "");
	add(&s, DP("inet"), "INTERNET");
	add(&s, DP("odd"), "ADSITE");
	add(&s, DP("site"), "SITE");
	add(&s, DP("neighbour"), "NEIGHBORBOUNDARYGROUP");
	add(&s, DP("group"), "BOUNDARYGROUP");
	add(&s, DP("subnet"), "subnet");
	add(&s, DP("local"), "LOCAL");
	assert_err(choose(&s, &allow), ERR_OK);
	assert_order(&s, "7 6 5 4 3 2 1 0");
	assert_reason(&s, 7, "locality LOCAL: on this computer");
	assert_reason(&s, 2, "locality ADSITE is not known: after the known ones");
	assert_reason(&s, 0, "cloud: after on-premises ([sources] cloud = fallback)");
	assert_int_equal(s.result.items[6].kind, SOURCE_INTERNET);
}

TEST(choose_sources__equal_locality__order_of_the_reply)
{
	autoscene s = { 0 };
	for (size_t i = 0; i < 100; i++)
		add(&s, i % 2 ? DP("b") : DP("a"), "SUBNET");
	assert_err(choose(&s, &allow), ERR_OK);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(s.result.items[i].source, i);
}

TEST(choose_sources__fallback_site__after_equals_of_ours)
{
	autoscene s = { 0 };
	add(&s, DP("far"), "SUBNET");
	free(s.list.items[0].site_locality);
	s.list.items[0].site_locality = strdup("FALLBACK");
	add(&s, DP("near"), "SUBNET");
	add(&s, DP("group"), "BOUNDARYGROUP");
	assert_err(choose(&s, &allow), ERR_OK);
	assert_order(&s, "1 0 2");
	assert_reason(&s, 0, "site FALLBACK");
}

TEST(choose_sources__prefer__cloud_first)
{
	autoscene s = { 0 };
	add(&s, DP("a"), "LOCAL");
	add(&s, CLOUD("c"), "");
	struct choose_rules rules = allow;
	rules.cloud = CHOOSE_CLOUD_PREFER;
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "1 0");
	assert_reason(&s, 1, "cloud = prefer");
}

TEST(choose_sources__several_cloud_sources__by_connect_time)
{
	autoscene s = { 0 };
	add(&s, CLOUD("c0"), "");
	add(&s, CLOUD("c1"), "");
	add(&s, CLOUD("c2"), "");
	add(&s, DP("a"), "SUBNET");
	const int64_t connect_ms[] = { -1, 30, 20, 1 };
	struct choose_rules rules = allow;
	rules.connect_ms = connect_ms;
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "3 2 1 0");
	assert_reason(&s, 2, "connects in 20 ms");
	rules.connect_ms = NULL;
	choose(&s, &rules);
	assert_order(&s, "3 0 1 2");
}

TEST(choose_sources__host_absent_or_ill_lately__after_the_others)
{
	autoscene s = { 0 };
	add(&s, DP("a"), "LOCAL");
	add(&s, DP("b"), "SUBNET");
	add(&s, DP("c"), "SUBNET");
	add(&s, DP("d"), "SITE");
	add(&s, CLOUD("e"), "");
	const int64_t absent[] = { -1, 720, -1, -1, -1 };
	const int64_t ill[] = { 59, 3, -1, -1, -1 };
	struct choose_rules rules = allow;
	rules.absent_s = absent;
	rules.ill_s = ill;
	assert_err(choose(&s, &rules), ERR_OK);
	/* never after the cloud: that needs evidence of this run */
	assert_order(&s, "2 3 0 1 4");
	assert_reason(&s, 0, "was not well 59 s ago: after the others; locality LOCAL");
	assert_reason(&s, 1, "did not have it 12 min ago: after the others; ");
	assert_reason(&s, 2, "locality SUBNET: in the same subnet");
	rules.absent_s = NULL;
	choose(&s, &rules);
	assert_reason(&s, 1, "was not well 3 s ago");
	rules.ill_s = NULL;
	choose(&s, &rules);
	assert_order(&s, "0 1 2 3 4");
}

TEST(choose_sources__all_hosts_absent_or_ill__order_stays_and_all_usable)
{
	autoscene s = { 0 };
	add(&s, DP("far"), "SITE");
	add(&s, DP("a"), "SUBNET");
	add(&s, DP("b"), "SUBNET");
	const int64_t absent[] = { 0, 5, -1 }, ill[] = { -1, -1, 5 };
	struct choose_rules rules = allow;
	rules.absent_s = absent;
	rules.ill_s = ill;
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "1 2 0");
	assert_int_equal(s.result.usable, 3);
}

TEST(choose_sources__cloud_ill_or_preferred__memory_moves_no_cloud)
{
	autoscene s = { 0 };
	add(&s, CLOUD("c0"), "");
	add(&s, CLOUD("c1"), "");
	add(&s, DP("a"), "SUBNET");
	const int64_t ago[] = { 5, -1, 5 };
	struct choose_rules rules = allow;
	rules.absent_s = rules.ill_s = ago;
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "2 0 1");
	assert_reason(&s, 0, "cloud: after on-premises");
	rules.cloud = CHOOSE_CLOUD_PREFER;
	choose(&s, &rules);
	assert_order(&s, "0 1 2");
}

TEST(choose_sources__from_a_host__its_memory_does_not_count)
{
	autoscene s = { 0 };
	add(&s, DP("a"), "LOCAL");
	add(&s, DP("b"), "SUBNET");
	const int64_t ago[] = { 5, 5 };
	struct choose_rules rules = allow;
	rules.absent_s = ago;
	rules.from = "b";
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "1 | 0");
	assert_reason(&s, 1, "locality SUBNET: in the same subnet");
	assert_reason(&s, 0, "not asked for");
	rules.from = "on-prem";
	choose(&s, &rules);
	assert_reason(&s, 1, "did not have it 5 s ago");
}

TEST(choose_sources__cloud_not_allowed__refused_naming_the_setting)
{
	autoscene s = { 0 };
	add(&s, CLOUD("c"), "LOCAL");
	add(&s, DP("a"), "SITE");
	struct choose_rules rules = { .cloud = CHOOSE_CLOUD_PREFER };
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "1 | 0");
	assert_reason(&s, 0, "[cloud] allow = no");
	assert_true(s.result.items[1].refused_cloud);
	rules = (struct choose_rules){ .cloud_allow = true,
				       .cloud = CHOOSE_CLOUD_NEVER };
	choose(&s, &rules);
	assert_order(&s, "1 | 0");
	assert_reason(&s, 0, "[sources] cloud = never");
}

TEST(choose_sources__only_cloud_and_forbidden__cloud_refused)
{
	autoscene s = { 0 };
	add(&s, CLOUD("c"), "");
	add(&s, "https://p:8003/SCCM_BranchCache$/ABC00042", "SUBNETPEER");
	struct choose_rules rules = { 0 };
	assert_err(choose(&s, &rules), ERR_CLOUD_REFUSED);
	assert_non_null(strstr(s.e.text, "[cloud] allow = no"));
	rules = (struct choose_rules){ .cloud_allow = true,
				       .cloud = CHOOSE_CLOUD_NEVER };
	assert_err(choose(&s, &rules), ERR_CLOUD_REFUSED);
	assert_non_null(strstr(s.e.text, "[sources] cloud = never"));
}

TEST(choose_sources__only_forbidden_cloud_asked_for__cloud_refused)
{
	autoscene s = { 0 };
	add(&s, CLOUD("c"), "");
	add(&s, DP("a"), "SUBNET");
	struct choose_rules rules = { .from = "cloud" };
	assert_err(choose(&s, &rules), ERR_CLOUD_REFUSED);
	assert_order(&s, "| 1 0");
	rules.from = "elsewhere.example.net";
	assert_err(choose(&s, &rules), ERR_NOT_USABLE);
}

TEST(choose_sources__empty_list__no_location_and_why)
{
	autoscene s = { 0 };
	assert_err(choose(&s, &allow), ERR_NO_LOCATION);
	assert_string_equal(s.e.text, "no source is listed");
	struct choose_rules rules = { 0 };
	assert_err(choose(&s, &rules), ERR_NO_LOCATION);
	assert_non_null(strstr(s.e.text, "[cloud] allow = no"));
}

TEST(choose_sources__peers_and_microsoft_update__listed_not_used)
{
	autoscene s = { 0 };
	add(&s, "https://p:8003/SCCM_BranchCache$/ABC00042", "SUBNETPEER");
	add(&s, "http://p:8003/x", "SUBNET");
	add(&s, DP("p"), "BOUNDARYGROUPPEER");
	add(&s, "https://p/sccm_branchcache$/x", "LOCAL");
	add(&s, "http://a.download.windowsupdate.com/x.cab", "");
	add(&s, "http://wsus:8530/Content/AB/x.cab", "WUMU");
	assert_err(choose(&s, &allow), ERR_NOT_USABLE);
	assert_int_equal(s.result.usable, 0);
	for (size_t i = 0; i < 4; i++)
		assert_reason(&s, i, "peers are not used by this agent");
	assert_reason(&s, 4, "not served by a distribution point");
	assert_reason(&s, 5, "not served by a distribution point");
}

TEST(choose_sources__url_that_cannot_be_read__unknown_with_the_reason)
{
	autoscene s = { 0 };
	add(&s, "ftp://x/SMS_DP_SMSPKG$/A", "LOCAL");
	add(&s, "https://user@x/SMS_DP_SMSPKG$/A", "LOCAL");
	add(&s, "", "LOCAL");
	add(&s, "\\\\dp\\SMSPKGD$\\A", "LOCAL");
	assert_err(choose(&s, &allow), ERR_NOT_USABLE);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(s.result.items[i].kind, SOURCE_UNKNOWN);
		assert_reason(&s, i, "URL");
		assert_string_equal(s.result.items[i].host, "");
	}
}

TEST(choose_sources__cloud_over_http__refused)
{
	autoscene s = { 0 };
	add(&s, "http://c/DownloadRestService.svc/getcontentxmlsecure", "");
	assert_err(choose(&s, &allow), ERR_NOT_USABLE);
	assert_int_equal(s.result.items[0].kind, SOURCE_CLOUD);
	assert_reason(&s, 0, "https only");
}

TEST(choose_sources__service_name_inside_another__no_cloud)
{
	autoscene s = { 0 };
	add(&s, "https://c/xdownloadrestservice.svc/a", "");
	add(&s, "https://c/a?downloadrestservice.svc", "");
	choose(&s, &allow);
	assert_int_equal(s.result.items[0].kind, SOURCE_UNKNOWN);
	assert_int_equal(s.result.items[1].kind, SOURCE_UNKNOWN);
	assert_reason(&s, 0, "tried as it stands");
}

TEST(choose_sources__token_rung_without_token__usable_and_said)
{
	autoscene s = { 0 };
	add(&s, "https://a/CCMTOKENAUTH_SMS_DP_SMSPKG$/A", "SUBNET");
	add(&s, "https://b/SMS_DP_SMSPKG$/A", "SUBNET");
	s.list.items[1].auth_method = 1024;
	assert_err(choose(&s, &allow), ERR_OK);
	assert_order(&s, "0 1");
	assert_reason(&s, 0, "wants a token, there is none");
	assert_reason(&s, 1, "wants a token, there is none");
	struct choose_rules rules = allow;
	rules.has_token = true;
	choose(&s, &rules);
	assert_reason(&s, 0, "takes our token");
}

TEST(choose_sources__from__only_such_sources)
{
	autoscene s = { 0 };
	add(&s, DP("dp1"), "SUBNET");
	add(&s, "http://DP2:8080/SMS_DP_SMSPKG$/A", "SUBNET");
	add(&s, CLOUD("c"), "");
	struct choose_rules rules = allow;
	rules.from = "on-prem";
	assert_err(choose(&s, &rules), ERR_OK);
	assert_order(&s, "0 1 | 2");
	assert_reason(&s, 2, "not asked for (--from on-prem)");
	rules.from = "cloud";
	choose(&s, &rules);
	assert_order(&s, "2 | 0 1");
	rules.from = "DP2";
	choose(&s, &rules);
	assert_order(&s, "1 | 0 2");
	rules.from = "dp2:8080";
	choose(&s, &rules);
	assert_order(&s, "1 | 0 2");
	rules.from = "dp1.";
	choose(&s, &rules);
	assert_order(&s, "0 | 1 2");
	rules.from = "elsewhere";
	assert_err(choose(&s, &rules), ERR_NOT_USABLE);
}

TEST(choose_sources__host__with_port_where_not_default)
{
	autoscene s = { 0 };
	add(&s, "https://A.example.net:443/SMS_DP_SMSPKG$/A", "LOCAL");
	add(&s, "https://a.example.net:8443/SMS_DP_SMSPKG$/A", "LOCAL");
	add(&s, "http://[::1]:81/SMS_DP_SMSPKG$/A", "LOCAL");
	choose(&s, &allow);
	assert_string_equal(s.result.items[0].host, "a.example.net");
	assert_string_equal(s.result.items[1].host, "a.example.net:8443");
	assert_string_equal(s.result.items[2].host, "[::1]:81");
}

TEST(choose_sources__long_hostile_texts__cut_not_overrun)
{
	autoscene s = { 0 };
	char word[5000], url[300];
	memset(word, 'A', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	/* 63.63.63.61 = 253 bytes, the longest host there is */
	snprintf(url, sizeof(url), "https://%.63s.%.63s.%.63s.%.61s:65535/x", word,
		 word, word, word);
	add(&s, url, word);
	struct choose_rules rules = allow;
	choose(&s, &rules);
	assert_int_equal(strlen(s.result.items[0].host), 253 + 6);
	rules.from = word;
	choose(&s, &rules);
	assert_err(choose(&s, &rules), ERR_NOT_USABLE);
}

TEST(source_list_add__more_than_10000__limit)
{
	autoscene s = { 0 };
	struct err e = { 0 };
	for (size_t i = 0; i < 10000; i++)
		add(&s, DP("a"), "LOCAL");
	struct source one = { 0 };
	assert_err(source_list_add(&s.list, &one, &e), ERR_LIMIT);
	assert_int_equal(s.list.count, 10000);
}

TEST(source_kind_name__each__word_of_the_interface)
{
	assert_string_equal(source_kind_name(SOURCE_ON_PREM), "on-prem");
	assert_string_equal(source_kind_name(SOURCE_CLOUD), "cloud");
	assert_string_equal(source_kind_name(SOURCE_PEER), "peer");
	assert_string_equal(source_kind_name(SOURCE_INTERNET), "internet");
	assert_string_equal(source_kind_name(SOURCE_MICROSOFT_UPDATE),
			    "microsoft-update");
	assert_string_equal(source_kind_name(SOURCE_UNKNOWN), "unknown");
}
