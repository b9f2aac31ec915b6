/* Adds the seconds in the file CLOCK_OFFSET to CLOCK_REALTIME, and to no other clock: Envoy hangs under libfaketime. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;
static long none;

static long moved_s(void) {
  if (!offset) {
    const char *file = getenv("CLOCK_OFFSET");
    int opened = file ? open(file, O_RDONLY) : -1;
    void *there = opened < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, opened, 0);
    offset = there == MAP_FAILED ? &none : there;
    if (opened >= 0) close(opened);
  }
  return *offset;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += moved_s();
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}
