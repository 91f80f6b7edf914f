/* A libnvidia-ml.so.1 without a GPU: answers from the text file named by FRED_FAKE_NVML, read again at every call.
 *
 *   driver TEXT | gpus N
 *   error FUNCTION CODE      every call of FUNCTION fails
 *   hang FUNCTION            calls of FUNCTION do not return while the line stands
 *   delay FUNCTION MS        they return late
 *   crash FUNCTION           they end the process
 *   I.KEY VALUE              of GPU I: uuid name bus total used reserved temperature power_mw utilization reasons ecc
 *                            remap_pending recovery persistence; without a line: a default, or not supported (recovery)
 *   I.error CODE             every call for GPU I fails (15: lost); I.error.FUNCTION CODE: one function only
 *   I.process PID BYTES|NA   repeated
 *   I.xid NUMBER CODE        repeated; NUMBER rises; delivered once to event sets older than the line
 *   I.mig UUID TOTAL USED    repeated; makes the GPU one with MIG devices
 *
 * Write the file beside and rename it. With -DOLD_DRIVER the functions of newer drivers are missing.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default"))) int
enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, VERSION = 25 };
enum { MOST_GPUS = 16, MOST_PARTS = 8, MIB = 1 << 20 };

typedef struct { int gpu, part; } Device; /* part -1: the whole GPU */
typedef struct { unsigned watched; long seen; } EventSet;
typedef uint64_t u64;

static Device devices[MOST_GPUS][MOST_PARTS + 1];
static int open_count;

/* The state file as one text, to be freed. */
static char *state(void) {
    const char *path = getenv("FRED_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char *text = calloc(1, 1 << 16);
    if (file) {
        size_t length = fread(text, 1, (1 << 16) - 1, file);
        text[length] = 0;
        fclose(file);
    }
    return text;
}

/* The rest of the nth line that begins with `key` and a blank. */
static int line(const char *text, const char *key, int nth, char *value, size_t room) {
    size_t length = strlen(key);
    for (const char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (!strncmp(at, key, length) && at[length] == ' ' && nth-- == 0) {
            size_t n = strcspn(at + length + 1, "\n");
            snprintf(value, room, "%.*s", (int)n, at + length + 1);
            return 1;
        }
    return 0;
}

static int of_gpu(const char *text, int gpu, const char *key, int nth, char *value, size_t room) {
    char name[96];
    snprintf(name, sizeof name, "%d.%s", gpu, key);
    return line(text, name, nth, value, room);
}

static u64 number(const char *text, int gpu, const char *key, u64 otherwise) {
    char value[128];
    return of_gpu(text, gpu, key, 0, value, sizeof value) ? strtoull(value, NULL, 0) : otherwise;
}

/* Whether a line `verb FUNCTION …` stands; *amount is what follows. */
static int told(const char *text, const char *verb, const char *function, long *amount) {
    char value[128], name[96];
    for (int i = 0; line(text, verb, i, value, sizeof value); i++)
        if (sscanf(value, "%95s %ld", name, amount) >= 1 && !strcmp(name, function)) return 1;
    return 0;
}

static void rest(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* What every call goes through: hang, delay, crash, errors. */
static int enter(const char *function, int gpu, char **text) {
    long amount = 0;
    *text = state();
    if (told(*text, "crash", function, &amount)) raise(SIGSEGV);
    while (told(*text, "hang", function, &amount)) {
        free(*text);
        rest(10);
        *text = state();
    }
    if (told(*text, "delay", function, &amount)) rest(amount);
    if (told(*text, "error", function, &amount)) return (int)amount;
    if (!open_count && strcmp(function, "nvmlInitWithFlags")) return UNINITIALIZED;
    if (gpu < 0) return SUCCESS;
    char key[96];
    snprintf(key, sizeof key, "error.%s", function);
    return (int)number(*text, gpu, key, number(*text, gpu, "error", SUCCESS));
}

#define SYSTEM                                   \
    char *text;                                  \
    int result = enter(__func__, -1, &text);     \
    if (result) return free(text), result
#define DEVICE                                       \
    Device *device = handle;                         \
    char *text;                                      \
    int result = enter(__func__, device->gpu, &text); \
    if (result) return free(text), result
#define DONE return free(text), SUCCESS
#define WHOLE_GPU \
    if (device->part >= 0) return free(text), NOT_SUPPORTED

/* -- system ------------------------------------------------------------------------------------------------------- */

API nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    SYSTEM;
    for (int gpu = 0; gpu < MOST_GPUS; gpu++)
        for (int part = 0; part <= MOST_PARTS; part++) devices[gpu][part] = (Device){gpu, part - 1};
    open_count++;
    DONE;
}

API nvmlShutdown(void) {
    SYSTEM;
    open_count--;
    const char *mark = getenv("FRED_FAKE_NVML_CLOSED");
    if (mark) fclose(fopen(mark, "w"));
    DONE;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    (void)code;
    for (;;) rest(1000); /* texts come from the caller's own table: asking here may hang */
}

API nvmlSystemGetDriverVersion(char *version, unsigned room) {
    SYSTEM;
    if (!line(text, "driver", 0, version, room)) snprintf(version, room, "580.95.05");
    DONE;
}

API nvmlDeviceGetCount_v2(unsigned *count) {
    SYSTEM;
    char value[32];
    *count = line(text, "gpus", 0, value, sizeof value) ? (unsigned)atoi(value) : 1;
    DONE;
}

/* -- who it is ---------------------------------------------------------------------------------------------------- */

API nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    SYSTEM;
    result = (int)number(text, (int)index, "error", SUCCESS);
    *handle = &devices[index][0];
    return free(text), result;
}

static void who(const char *text, const Device *device, char *uuid, size_t room) {
    char value[128];
    if (device->part >= 0 && of_gpu(text, device->gpu, "mig", device->part, value, sizeof value))
        snprintf(uuid, room, "%.*s", (int)strcspn(value, " "), value);
    else if (!of_gpu(text, device->gpu, "uuid", 0, uuid, room))
        snprintf(uuid, room, "GPU-%08d-fa4e-0000-0000-000000000000", device->gpu);
}

API nvmlDeviceGetUUID(void *handle, char *uuid, unsigned room) {
    DEVICE;
    who(text, device, uuid, room);
    DONE;
}

API nvmlDeviceGetName(void *handle, char *name, unsigned room) {
    DEVICE;
    if (!of_gpu(text, device->gpu, "name", 0, name, room)) snprintf(name, room, "NVIDIA Fake");
    DONE;
}

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
_Static_assert(sizeof(Pci) == 68, "nvmlPciInfo_t");

API nvmlDeviceGetPciInfo_v3(void *handle, Pci *pci) {
    DEVICE;
    memset(pci, 0, sizeof *pci);
    if (!of_gpu(text, device->gpu, "bus", 0, pci->bus_id, sizeof pci->bus_id))
        snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", 0x10 + device->gpu);
    DONE;
}

/* -- MIG ---------------------------------------------------------------------------------------------------------- */

API nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    DEVICE;
    char value[128];
    *now = *pending = (unsigned)of_gpu(text, device->gpu, "mig", 0, value, sizeof value);
    DONE;
}

API nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    DEVICE;
    *count = MOST_PARTS;
    DONE;
}

API nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) {
    DEVICE;
    char value[128];
    int there = of_gpu(text, device->gpu, "mig", (int)index, value, sizeof value);
    *part = &devices[device->gpu][index + 1];
    return free(text), there ? SUCCESS : NOT_FOUND;
}

/* -- memory ------------------------------------------------------------------------------------------------------- */

typedef struct { u64 total, free, used; } Memory1;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
_Static_assert(sizeof(Memory1) == 24 && sizeof(Memory2) == 40, "nvmlMemory_t");

static Memory2 memory(const char *text, const Device *device) {
    char value[128];
    unsigned long long total = 0, used = 0;
    if (device->part >= 0 && of_gpu(text, device->gpu, "mig", device->part, value, sizeof value)) {
        sscanf(value, "%*s %llu %llu", &total, &used);
        return (Memory2){0, total, 0, total - used, used};
    }
    total = number(text, device->gpu, "total", 24576ULL * MIB);
    used = number(text, device->gpu, "used", 0);
    u64 reserved = number(text, device->gpu, "reserved", 512ULL * MIB);
    return (Memory2){0, total, reserved, total - used - reserved, used};
}

API nvmlDeviceGetMemoryInfo(void *handle, Memory1 *out) {
    DEVICE;
    Memory2 all = memory(text, device);
    *out = (Memory1){all.total, all.free, all.used + all.reserved}; /* version 1 counts the reserve as used */
    DONE;
}

#ifndef OLD_DRIVER
API nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *out) {
    DEVICE;
    if (out->version != (sizeof *out | 2U << 24)) return free(text), VERSION;
    unsigned version = out->version;
    *out = memory(text, device);
    out->version = version;
    DONE;
}
#endif

/* -- processes ---------------------------------------------------------------------------------------------------- */

typedef struct { unsigned pid; u64 used; unsigned instance, compute; } Process;
_Static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");

static int processes(const char *text, int gpu, unsigned *count, Process *out) {
    char value[128], bytes[64];
    unsigned found = 0, room = out ? *count : 0;
    while (of_gpu(text, gpu, "process", (int)found, value, sizeof value)) {
        if (found < room) {
            out[found].instance = out[found].compute = UINT_MAX;
            sscanf(value, "%u %63s", &out[found].pid, bytes);
            out[found].used = strcmp(bytes, "NA") ? strtoull(bytes, NULL, 0) : UINT64_MAX;
        }
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : SUCCESS;
}

#define PROCESSES(NAME, LIST)                                     \
    API NAME(void *handle, unsigned *count, Process *out) {       \
        DEVICE;                                                   \
        if (LIST) result = processes(text, device->gpu, count, out); \
        else *count = 0;                                          \
        return free(text), result;                                \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 0)
#ifndef OLD_DRIVER
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 0)
#endif

/* -- readings ----------------------------------------------------------------------------------------------------- */

#define READING(NAME, TYPE, KEY, OTHERWISE)                      \
    API NAME(void *handle, TYPE *out) {                          \
        DEVICE;                                                  \
        WHOLE_GPU;                                               \
        *out = (TYPE)number(text, device->gpu, KEY, OTHERWISE);  \
        DONE;                                                    \
    }
READING(nvmlDeviceGetPowerUsage, unsigned, "power_mw", 75000)
READING(nvmlDeviceGetPersistenceMode, unsigned, "persistence", 1)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "reasons", 0)
#ifndef OLD_DRIVER
READING(nvmlDeviceGetCurrentClocksEventReasons, u64, "reasons", 0)
#endif

READING(nvmlDeviceGetCurrPcieLinkWidth, unsigned, "lanes", 16)
READING(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "lanes_max", 16)

#define CLOCK(NAME, KEY)                                             \
    API NAME(void *handle, int kind, unsigned *out) {                \
        DEVICE;                                                      \
        WHOLE_GPU;                                                   \
        (void)kind;                                                  \
        *out = (unsigned)number(text, device->gpu, KEY, 1980);       \
        DONE;                                                        \
    }
CLOCK(nvmlDeviceGetClockInfo, "clock")
CLOCK(nvmlDeviceGetMaxClockInfo, "clock_max")

API nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *out) {
    DEVICE;
    WHOLE_GPU;
    (void)sensor;
    *out = (unsigned)number(text, device->gpu, "temperature", 40);
    DONE;
}

API nvmlDeviceGetUtilizationRates(void *handle, unsigned out[2]) {
    DEVICE;
    WHOLE_GPU;
    out[0] = (unsigned)number(text, device->gpu, "utilization", 0);
    out[1] = 0;
    DONE;
}

API nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, u64 *out) {
    DEVICE;
    (void)kind, (void)counter;
    *out = number(text, device->gpu, "ecc", 0);
    DONE;
}

API nvmlDeviceGetRemappedRows(void *handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    DEVICE;
    *corrected = *uncorrected = *failed = 0;
    *pending = (unsigned)number(text, device->gpu, "remap_pending", 0);
    DONE;
}

typedef struct { unsigned id, scope; int64_t time, latency; int type, result; u64 value; } Field;
_Static_assert(sizeof(Field) == 40, "nvmlFieldValue_t");

API nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    DEVICE;
    u64 action = number(text, device->gpu, "recovery", UINT64_MAX);
    for (int i = 0; i < count; i++) {
        int known = fields[i].id == 230 && action != UINT64_MAX;
        fields[i].result = known ? SUCCESS : NOT_SUPPORTED;
        fields[i].value = known ? action : 0;
    }
    DONE;
}

/* -- events ------------------------------------------------------------------------------------------------------- */

enum { XID = 8 };
typedef struct { void *device; u64 type, data; unsigned instance, compute; } Event;
_Static_assert(sizeof(Event) == 32, "nvmlEventData_t");

/* The Xid line with the least number above `after`, of the watched GPUs; 0 without one. */
static long next_xid(const char *text, unsigned watched, long after, Event *event) {
    char value[64];
    long least = 0;
    for (int gpu = 0; gpu < MOST_GPUS; gpu++)
        for (int i = 0; watched >> gpu & 1 && of_gpu(text, gpu, "xid", i, value, sizeof value); i++) {
            long serial = 0, code = 0;
            sscanf(value, "%ld %ld", &serial, &code);
            if (serial > after && (!least || serial < least)) {
                least = serial;
                *event = (Event){&devices[gpu][0], XID, (u64)code, UINT_MAX, UINT_MAX};
            }
        }
    return least;
}

API nvmlEventSetCreate(void **set) {
    SYSTEM;
    EventSet *created = calloc(1, sizeof *created);
    Event ignored;
    for (long serial; (serial = next_xid(text, UINT_MAX, created->seen, &ignored));) created->seen = serial;
    *set = created;
    DONE;
}

API nvmlEventSetFree(void *set) {
    free(set);
    return SUCCESS;
}

API nvmlDeviceGetSupportedEventTypes(void *handle, u64 *types) {
    DEVICE;
    *types = XID;
    DONE;
}

API nvmlDeviceRegisterEvents(void *handle, u64 types, void *set) {
    DEVICE;
    if (types & ~(u64)XID) return free(text), NOT_SUPPORTED;
    ((EventSet *)set)->watched |= 1U << device->gpu;
    DONE;
}

API nvmlEventSetWait_v2(void *handle, Event *event, unsigned wait_ms) {
    EventSet *set = handle;
    SYSTEM;
    (void)wait_ms;
    long serial = next_xid(text, set->watched, set->seen, event);
    if (serial) set->seen = serial;
    return free(text), serial ? SUCCESS : TIMEOUT;
}
