// VM exits under KVM: a guest without firmware, in flat 32-bit protected mode, that does one thing in a loop.
#include "bench.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CODE = 0x1000,
    MEMORY = 96 << 20,
    TOUCHED = 4 << 20, // from here on, pages that the guest touches
    PORT_EXIT = 0xf4,
    PORT_WORK = 0xe0,
};

struct guest {
    int kvm, vm, cpu;
    u8 *memory;
    struct kvm_run *run;
    size_t run_size;
};

const char *kvm_skip(void)
{
    int kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0) return "no /dev/kvm";
    close(kvm);
    return NULL;
}

static void guest_make(struct guest *g, const u8 *code, size_t size, u32 count)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rcx = count, .rdi = TOUCHED};

    if ((g->kvm = open("/dev/kvm", O_RDWR)) < 0) fail("/dev/kvm");
    if ((g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0)) < 0) fail("KVM_CREATE_VM");
    if (ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000) < 0) fail("KVM_SET_TSS_ADDR");
    g->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->memory == MAP_FAILED) fail("mmap");
    memcpy(g->memory + CODE, code, size);
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY,
                                                 .userspace_addr = (u64)(uintptr_t)g->memory};
    if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) fail("KVM_SET_USER_MEMORY_REGION");
    if ((g->cpu = ioctl(g->vm, KVM_CREATE_VCPU, 0)) < 0) fail("KVM_CREATE_VCPU");
    g->run_size = (size_t)ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
    if (g->run == MAP_FAILED) fail("mmap of the vcpu");

    if (ioctl(g->cpu, KVM_GET_SREGS, &sregs) < 0) fail("KVM_GET_SREGS");
    struct kvm_segment code_segment = {
        .limit = ~0u, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment data_segment = {
        .limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    sregs.cs = code_segment;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment;
    sregs.cr0 |= 1;
    if (ioctl(g->cpu, KVM_SET_SREGS, &sregs) < 0) fail("KVM_SET_SREGS");
    if (ioctl(g->cpu, KVM_SET_REGS, &regs) < 0) fail("KVM_SET_REGS");
}

// Runs until the guest writes to PORT_EXIT; returns the number of exits to user space.
static u64 guest_run(struct guest *g)
{
    for (u64 exits = 1;; exits++) {
        if (ioctl(g->cpu, KVM_RUN, 0) < 0) fail("KVM_RUN");
        if (g->run->exit_reason != KVM_EXIT_IO) {
            fprintf(stderr, "KVM_RUN: exit reason %u\n", g->run->exit_reason);
            exit(1);
        }
        if (g->run->io.port == PORT_EXIT) return exits;
    }
}

static u64 measure(const u8 *code, size_t size, u32 count)
{
    struct guest g;
    struct kvm_regs regs;
    guest_make(&g, code, size, count);
    u64 exits = guest_run(&g);
    if (ioctl(g.cpu, KVM_GET_REGS, &regs) < 0) fail("KVM_GET_REGS");
    munmap(g.run, g.run_size);
    munmap(g.memory, MEMORY);
    close(g.cpu);
    close(g.vm);
    close(g.kvm);
    return exits << 32 | (u32)regs.rdi;
}

u64 work_kvm_cpuid(void)
{
    static const u8 code[] = {
        0x89, 0xce,                  // mov esi, ecx
        0x31, 0xc0,      0x31, 0xc9, // again: xor eax, eax; xor ecx, ecx
        0x0f, 0xa2,                  // cpuid
        0x4e, 0x75,      0xf7,       // dec esi; jnz again
        0xe6, PORT_EXIT,             // out
    };
    return measure(code, sizeof(code), 15000);
}

u64 work_kvm_io(void)
{
    static const u8 code[] = {
        0xe6, PORT_WORK,       // again: out
        0x49, 0x75,      0xfb, // dec ecx; jnz again
        0xe6, PORT_EXIT,
    };
    return measure(code, sizeof(code), 15000);
}

u64 work_kvm_ept(void)
{
    static const u8 code[] = {
        0x89, 0x0f,                              // again: mov [edi], ecx
        0x81, 0xc7,      0x00, 0x10, 0x00, 0x00, // add edi, 4096
        0x49, 0x75,      0xf5,                   // dec ecx; jnz again
        0xe6, PORT_EXIT,
    };
    return measure(code, sizeof(code), 10000);
}
