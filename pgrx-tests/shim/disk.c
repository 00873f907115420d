/* A slow disk: preloaded into a server, it makes each fdatasync take so many microseconds longer as UPKEEP_DISK says. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct timespec longer;

__attribute__((constructor)) static void read_time(void)
{
    const char *given = getenv("UPKEEP_DISK");
    long microseconds = given ? atol(given) : 0;
    longer.tv_sec = microseconds / 1000000;
    longer.tv_nsec = microseconds % 1000000 * 1000;
}

int fdatasync(int file)
{
    nanosleep(&longer, NULL);
    return (int) syscall(SYS_fdatasync, file);
}
