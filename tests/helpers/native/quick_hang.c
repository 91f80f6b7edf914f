/* LD_PRELOAD: a supervisor that waits for a hung trainer does not take the time for it.
 *
 * HUNG_FILE names a file in which a trainer that hangs has written its pid and the path of its run's state.json. While
 * that process lives, and the state is "running", a wait of the supervisor takes a fiftieth of what was asked for, and
 * its monotonic clock is moved on by the rest. So a limit of 20 s can be tested in half a second, and a healthy trainer
 * on a busy machine still has the whole 20 s. The file HUNG_FILE.skipped says how many milliseconds were skipped.
 *
 * A file HUNG_FILE.away holds seconds by which the clock is moved on once, during a wait, as when the supervisor was held
 * up; it is removed then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int supervisor;
static long long skipped_ms;

static void slurp(const char *path, char *text, size_t size) {
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
    if (file >= 0) close(file);
    if (length < 0) length = 0;
    text[length] = 0;
}

__attribute__((constructor)) static void look_at_command_line(void) {
    char line[4096];
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    if (file >= 0) close(file);
    for (ssize_t at = 0; at < length; at++)
        if (!line[at]) line[at] = ' ';
    line[length < 0 ? 0 : length] = 0;
    supervisor = strstr(line, "cli.main start") != NULL;
}

static int waits_for_the_hung(void) {
    char said[4096], state[65536], path[4000];
    int pid;
    slurp(getenv("HUNG_FILE"), said, sizeof said);
    if (sscanf(said, "%d %3999s", &pid, path) != 2 || syscall(SYS_kill, pid, 0) != 0) return 0;
    slurp(path, state, sizeof state);
    return strstr(state, "\"state\":\"running\"") != NULL;
}

static void beside(char *path, size_t size, const char *suffix) {
    snprintf(path, size, "%s%s", getenv("HUNG_FILE"), suffix);
}

static void skip(long long ms) {
    char path[4096], text[32];
    skipped_ms += ms;
    beside(path, sizeof path, ".skipped");
    int length = snprintf(text, sizeof text, "%020lld", skipped_ms);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return;
    syscall(SYS_write, file, text, length);
    close(file);
}

static void be_away(void) {
    char path[4096], text[32];
    beside(path, sizeof path, ".away");
    if (access(path, F_OK) != 0) return;
    slurp(path, text, sizeof text);
    skip(atoll(text) * 1000);
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int epoll_wait(int poll, struct epoll_event *events, int most, int timeout_ms) {
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
    if (!supervisor || !getenv("HUNG_FILE")) return real(poll, events, most, timeout_ms);
    int quick = timeout_ms >= 200 && waits_for_the_hung();
    int found = real(poll, events, most, quick ? timeout_ms / 50 : timeout_ms);
    int error = errno;
    if (quick && found == 0) skip(timeout_ms - timeout_ms / 50);
    be_away();
    errno = error;
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, out);
    if (result || clock != CLOCK_MONOTONIC) return result;
    out->tv_sec += skipped_ms / 1000;
    out->tv_nsec += skipped_ms % 1000 * 1000000;
    if (out->tv_nsec >= 1000000000) {
        out->tv_nsec -= 1000000000;
        out->tv_sec++;
    }
    return 0;
}

/* Python's time.sleep waits until an absolute time, which it takes from the clock above; the kernel's is behind it. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    static int (*real)(clockid_t, int, const struct timespec *, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_nanosleep");
    struct timespec own = *until;
    if (clock == CLOCK_MONOTONIC && flags & TIMER_ABSTIME) {
        own.tv_sec -= skipped_ms / 1000;
        own.tv_nsec -= skipped_ms % 1000 * 1000000;
        if (own.tv_nsec < 0) {
            own.tv_nsec += 1000000000;
            own.tv_sec--;
        }
    }
    return real(clock, flags, &own, left);
}
