/* Preloaded into ackd: an fdatasync(2) that a test holds up or lets fail, see disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* Announce the call, wait while the test has the lock, then fail with the test's errno, if any. */
int fdatasync(int descriptor)
{
    char text[16] = "";
    int calls = open(getenv("DISK_CALLS"), O_WRONLY | O_CLOEXEC);
    int gate = open(getenv("DISK_GATE"), O_RDONLY | O_CLOEXEC);

    if (calls < 0 || gate < 0 || write(calls, ".", 1) != 1)
        abort();
    close(calls);
    while (flock(gate, LOCK_SH) == -1)
        if (errno != EINTR)
            abort();
    if (read(gate, text, sizeof text - 1) < 0)
        abort();
    close(gate);
    errno = atoi(text);
    if (errno)
        return -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}
