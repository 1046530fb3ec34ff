/* SPDX-License-Identifier: Apache-2.0
 * What a kill point does in a test build. Empty in all others.
 */
#include "config.h"
#include "base/kp.h"

#ifdef HG_KILL_POINTS
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SPEC_BYTES = 200 };

struct order {
	struct str name;
	uint64_t hit;
	struct str action;
	uint64_t number; /* milliseconds, or an errno */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects the two below; innermost */
static struct timespec armed; /* which writing of the file the hits belong to */
static uint64_t hits;

static bool parse(struct str spec, struct order *o)
{
	struct str rest, hit, action, number;
	*o = (struct order){ .hit = 0 };
	if (!str_split(&spec, '\n', &rest) || !str_split(&rest, ':', &o->name) || !str_split(&rest, ':', &hit) || !str_split(&rest, ':', &action) || !str_u64(hit, &o->hit))
		return false;
	str_split(&action, ' ', &o->action);
	return !str_split(&action, ' ', &number) || str_u64(number, &o->number);
}

/* The text of the order; of a file also when it was written. */
static struct str read_spec(const char *env, char text[SPEC_BYTES], struct timespec *when_r)
{
	struct stat st;
	*when_r = (struct timespec){ 0 };
	if (env[0] != '@')
		return str_c(env);
	int fd = open(env + 1, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, SPEC_BYTES);
	if (fd >= 0 && fstat(fd, &st) == 0)
		*when_r = st.st_mtim;
	if (fd >= 0)
		close(fd);
	return str_pn(text, n > 0 ? (size_t)n : 0);
}

static bool is_due(const struct order *o, struct timespec when)
{
	pthread_mutex_lock(&lock);
	if (when.tv_sec != armed.tv_sec || when.tv_nsec != armed.tv_nsec)
		hits = 0;
	armed = when;
	bool due = ++hits == o->hit;
	pthread_mutex_unlock(&lock);
	return due;
}

static int act(const struct order *o)
{
	if (str_eq(o->action, STR("kill9")))
		kill(getpid(), SIGKILL);
	else if (str_eq(o->action, STR("stop")))
		kill(getpid(), SIGSTOP);
	else if (str_eq(o->action, STR("sleep")))
		usleep((useconds_t)o->number * 1000);
	if (!str_eq(o->action, STR("fail")))
		return 0;
	errno = (int)o->number;
	return -1;
}

/* NOLINTBEGIN(concurrency-mt-unsafe): nobody sets these in here */
static const char *where(char beside[PATH_MAX])
{
	const char *env = getenv("HEADGATE_KILL_POINT"), *config = getenv("HEADGATE_CONFIG");
	if (env || !config)
		return env;
	int n = snprintf(beside, PATH_MAX, "@%s.kill", config);
	return n < PATH_MAX ? beside : NULL;
}
/* NOLINTEND(concurrency-mt-unsafe) */

int kp_hit(const char *name)
{
	char text[SPEC_BYTES], beside[PATH_MAX];
	const char *env = where(beside);
	struct timespec when;
	struct order o;
	int before = errno;
	if (!env || !parse(read_spec(env, text, &when), &o) || !str_eq(o.name, str_c(name)) || !is_due(&o, when) ||
	    (env[0] == '@' && unlink(env + 1) != 0)) {
		errno = before;
		return 0;
	}
	errno = before;
	return act(&o);
}
#endif
