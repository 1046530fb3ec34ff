/* SPDX-License-Identifier: Apache-2.0
 * The clocks and RFC 3339. Calendar arithmetic is Hinnant's days-from-civil, so no libc time zone state is touched.
 */
#include "config.h"
#include "base/clock.h"

#include "base/err.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static atomic_bool faked;
static _Atomic uint64_t fake_now_us;
static _Atomic int64_t fake_wall_us;

static int64_t read_us(clockid_t id)
{
	struct timespec ts;
	BUG_ON(clock_gettime(id, &ts) != 0);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t clock_now_us(void)
{
	if (atomic_load_explicit(&faked, memory_order_relaxed))
		return fake_now_us;
	return (uint64_t)read_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void)
{
	if (atomic_load_explicit(&faked, memory_order_relaxed))
		return fake_wall_us;
	return read_us(CLOCK_REALTIME);
}

void clock_fake(uint64_t now_us, int64_t wall_us)
{
	fake_now_us = now_us;
	fake_wall_us = wall_us;
	faked = true;
}

void clock_fake_stop(void)
{
	faked = false;
}

static void civil_from_days(int64_t days, int64_t *y_r, unsigned *m_r, unsigned *d_r)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	unsigned doe = (unsigned)(days - era * 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153;
	*d_r = doy - (153 * mp + 2) / 5 + 1;
	*m_r = mp < 10 ? mp + 3 : mp - 9;
	*y_r = (int64_t)yoe + era * 400 + (*m_r <= 2);
}

static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	unsigned yoe = (unsigned)(y - era * 400);
	unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

char *clock_rfc3339(int64_t wall_us, char out[32])
{
	int64_t ms = wall_us / 1000 - (wall_us % 1000 < 0);
	int64_t days = ms / 86400000 - (ms % 86400000 < 0);
	int64_t rest = ms - days * 86400000, y;
	unsigned m, d;
	civil_from_days(days, &y, &m, &d);
	unsigned in_day = (unsigned)rest;
	snprintf(out, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)y % 10000, m % 100, d % 100, in_day / 3600000 % 100,
		 in_day / 60000 % 60, in_day / 1000 % 60, in_day % 1000);
	return out;
}

static bool digits(struct str s, size_t at, size_t n, unsigned *out_r)
{
	uint64_t v;
	if (at + n > s.n || !str_u64(str_sub(s, at, n), &v))
		return false;
	*out_r = (unsigned)v;
	return true;
}

static unsigned days_in_month(unsigned y, unsigned m)
{
	static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	return days[m - 1] + (m == 2 && leap ? 1u : 0u);
}

/* The part after the seconds: optional fraction, then Z or an offset. */
static bool parse_tail(struct str s, int64_t *fraction_us_r, int64_t *offset_us_r)
{
	int64_t fraction = 0, scale = 100000;
	size_t i = 0;
	if (s.n && s.p[0] == '.') {
		for (i = 1; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, scale /= 10)
			fraction += (s.p[i] - '0') * scale;
		if (i == 1)
			return false;
	}
	*fraction_us_r = fraction;
	s = str_sub(s, i, s.n);
	if (s.n == 1 && (s.p[0] == 'Z' || s.p[0] == 'z')) {
		*offset_us_r = 0;
		return true;
	}
	unsigned h, m;
	if (s.n != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' || !digits(s, 1, 2, &h) || !digits(s, 4, 2, &m) || h > 23 || m > 59)
		return false;
	*offset_us_r = (int64_t)(h * 60 + m) * 60000000 * (s.p[0] == '-' ? -1 : 1);
	return true;
}

bool clock_parse_rfc3339(struct str s, int64_t *wall_us_r)
{
	unsigned y, mo, d, h, mi, sec;
	int64_t fraction, offset;
	if (s.n < 20 || s.p[4] != '-' || s.p[7] != '-' || (s.p[10] != 'T' && s.p[10] != 't' && s.p[10] != ' ') || s.p[13] != ':' || s.p[16] != ':')
		return false;
	if (!digits(s, 0, 4, &y) || !digits(s, 5, 2, &mo) || !digits(s, 8, 2, &d) || !digits(s, 11, 2, &h) || !digits(s, 14, 2, &mi) || !digits(s, 17, 2, &sec))
		return false;
	if (mo < 1 || mo > 12 || d < 1 || d > days_in_month(y, mo) || h > 23 || mi > 59 || sec > 60)
		return false;
	if (!parse_tail(str_sub(s, 19, s.n), &fraction, &offset))
		return false;
	int64_t secs = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec;
	*wall_us_r = secs * 1000000 + fraction - offset;
	return true;
}
