/* SPDX-License-Identifier: Apache-2.0
 * Kill points: named places between two effects that somebody outside can see, where a test may end, stop or delay the process.
 * Compiled in by `configure --enable-kill-points` only, for test builds; otherwise nothing is left of them (admin/check-hardening
 * asserts it). The names of a program stand in its section `kill_points`: `readelf -p kill_points PROGRAM` lists them.
 *
 * The environment variable HEADGATE_KILL_POINT says what to do: `NAME:HIT:ACTION`, with HIT counted from 1 in each process and ACTION
 * one of `kill9`, `stop` (SIGSTOP), `sleep MS`, `fail ERRNO` (a number). With `@FILE` the same text is read from that file at
 * every hit: a process already running can be armed, and the file is removed by whoever acts, so that its successor lives.
 * Without the variable the file is $HEADGATE_CONFIG.kill: web servers hand that one variable on.
 */
#ifndef BASE_KP_H
#define BASE_KP_H

#ifdef HG_KILL_POINTS

/* Returns 0, or -1 with errno set where the action is `fail`. Threads: any. Blocks: for `sleep` and `stop`, by design. */
int kp_hit(const char *name);

#define KP_NAMED(text) __extension__({ static const char kp_name[] __attribute__((section("kill_points"), used)) = text; kp_name; })
#define KP(text) ((void)kp_hit(KP_NAMED(text)))
/* Stands before a system call: true where the test wants it to fail, with errno set. */
#define KP_FAILS(text) (kp_hit(KP_NAMED(text)) < 0)

#else
#define KP(text) ((void)0)
#define KP_FAILS(text) 0
#endif

#endif
