// The kernel's own work: system calls, processes, page faults, switches between two processes.
#include "bench.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

u64 work_syscall(void)
{
    u64 sum = 0;
    for (int i = 0; i < 600000; i++) sum += (u64)syscall(SYS_getppid) != 0;
    return sum;
}

u64 work_fork(void)
{
    u64 sum = 0;
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (!child) _exit(i & 127);
        int status;
        if (waitpid(child, &status, 0) != child) fail("waitpid");
        sum += (u64)WEXITSTATUS(status);
    }
    return sum;
}

u64 work_faults(void)
{
    enum { PAGES = 8192, ROUNDS = 4 };
    u64 sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        u8 *area = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) fail("mmap");
        if (madvise(area, PAGES * 4096, MADV_NOHUGEPAGE)) fail("madvise");
        for (int i = 0; i < PAGES; i++) area[i * 4096 + round] = (u8)i;
        for (int i = 0; i < PAGES; i++) sum += area[i * 4096 + round];
        munmap(area, PAGES * 4096);
    }
    return sum;
}

u64 work_switch(void)
{
    enum { ROUNDS = 4000 };
    int there[2], back[2];
    u64 sum = 0;
    u8 byte = 1;
    if (pipe(there) || pipe(back)) fail("pipe");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (!child) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            if (write(back[1], &byte, 1) != 1) break;
        }
        _exit(0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) fail("pipe");
        sum += byte;
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    close(there[0]);
    close(back[0]);
    close(back[1]);
    return sum;
}
