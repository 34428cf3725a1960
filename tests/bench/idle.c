/*
 * A yardstick for idle memory: a process that linked what the agent needs for its
 * work, did one request over https, let go of it, and sleeps.
 *
 *   idle URL CA HOST:PORT:ADDRESS
 *
 * libcurl asks for URL and throws the answer away; c-ares and expat are set up and put
 * to one use each, so that what they touch is touched. Prints `ready` and waits for a
 * signal.
 */
#include <ares.h>
#include <curl/curl.h>
#include <expat.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static size_t drop(char *bytes, size_t size, size_t count, void *context)
{
	(void)bytes, (void)context;
	return size * count;
}

static int request(const char *url, const char *ca, const char *resolve)
{
	struct curl_slist *names = curl_slist_append(NULL, resolve);
	CURL *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
	curl_easy_setopt(easy, CURLOPT_RESOLVE, names);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
	CURLcode code = curl_easy_perform(easy);
	curl_easy_cleanup(easy);
	curl_slist_free_all(names);
	if (code != CURLE_OK)
		fprintf(stderr, "idle: %s: %s\n", url, curl_easy_strerror(code));
	return code == CURLE_OK;
}

static int others(void)
{
	static const char text[] = "<a b='c'>d</a>";
	XML_Parser parser = XML_ParserCreate(NULL);
	ares_channel channel;

	if (!parser || XML_Parse(parser, text, (int)strlen(text), 1) != XML_STATUS_OK)
		return 0;
	XML_ParserFree(parser);
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
	    ares_init(&channel) != ARES_SUCCESS)
		return 0;
	ares_destroy(channel);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: idle URL CA HOST:PORT:ADDRESS\n");
		return 2;
	}
	curl_global_init(CURL_GLOBAL_ALL);
	if (!others() || !request(argv[1], argv[2], argv[3]))
		return 1;
	printf("ready\n");
	fflush(stdout);
	pause();
	return 0;
}
