/* LD_PRELOAD: a process whose command line holds FRED_KILL_WHO dies of SIGKILL just before its call number FRED_KILL_AT
 * of those below: what it does to files, processes and pipes. FRED_KILL_COUNT names a file that holds the number of calls
 * so far. Every gap between two effects on the world can be hit, and the program under test knows nothing of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int meant(void) {
    static int known = -1;
    if (known >= 0) return known;
    const char *who = getenv("FRED_KILL_WHO");
    char line[8192] = {0};
    int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : syscall(SYS_read, file, line, sizeof line - 1);
    if (file >= 0) syscall(SYS_close, file);
    for (ssize_t at = 0; at < length; at++)
        if (!line[at]) line[at] = ' ';
    return known = who && strstr(line, who) != NULL;
}

static void call(void) {
    static long calls;
    if (!meant()) return;
    calls++;
    const char *count = getenv("FRED_KILL_COUNT"), *at = getenv("FRED_KILL_AT");
    if (count) {
        char text[32];
        int length = snprintf(text, sizeof text, "%08ld", calls);
        int file = (int)syscall(SYS_openat, AT_FDCWD, count, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (file >= 0) {
            syscall(SYS_write, file, text, length);
            syscall(SYS_close, file);
        }
    }
    if (!at || calls != atol(at)) return;
    const char *once = getenv("FRED_KILL_ONCE"); /* the next process of the same name is spared */
    if (!once || syscall(SYS_openat, AT_FDCWD, once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) >= 0) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

#define COUNTED(type, name, parameters, arguments)                        \
    type name parameters {                                                \
        static type(*real) parameters;                                    \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);             \
        call();                                                           \
        return real arguments;                                            \
    }

COUNTED(ssize_t, write, (int file, const void *from, size_t length), (file, from, length))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, fsync, (int file), (file))
COUNTED(int, unlink, (const char *name), (name))
COUNTED(int, mkdir, (const char *name, mode_t mode), (name, mode))
COUNTED(int, kill, (pid_t pid, int number), (pid, number))
COUNTED(pid_t, fork, (void), ())
COUNTED(int, pipe2, (int ends[2], int flags), (ends, flags))
COUNTED(int, posix_spawn,
        (pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *restrict attributes, char *const words[restrict], char *const environment[restrict]),
        (pid, path, actions, attributes, words, environment))
