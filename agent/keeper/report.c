#include "agent/keeper/report.h"

#include <stdlib.h>

const char *job_result_word(enum job_result result)
{
	switch (result) {
	case JOB_VERIFIED:
		return "verified";
	case JOB_CACHED:
		return "cached";
	case JOB_UNVERIFIED:
		return "unverified";
	case JOB_PLANNED:
		return "planned";
	case JOB_FAILED:
		break;
	}
	return "failed";
}

void job_report_free(struct job_report *r)
{
	free(r->path);
	for (size_t i = 0; i < r->attempt_count; i++) {
		free(r->attempts[i].host);
		free(r->attempts[i].url);
	}
	free(r->attempts);
	ask_location_free(&r->location);
	choose_free(&r->chosen);
	for (size_t i = 0; i < r->step_count; i++) {
		free(r->steps[i].step);
		free(r->steps[i].source);
		free(r->steps[i].detail);
	}
	free(r->steps);
	*r = (struct job_report){ 0 };
}
