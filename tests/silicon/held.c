// What holds a row that the silicon test does not draw: why it does not, and the test that does instead. A
// row must be in one of the two; `test_silicon --rows` lists all, and a test runs it.
#include <stdio.h>
#include <string.h>

#include "tests/silicon/silicon.h"

// clang-format off
#define CPL_0   "privileged: natively #GP(0) at CPL 3"
#define LEAVES  "goes elsewhere than to the next instruction"
#define KERNEL  "asks the host's kernel"
#define HOST    "shows the host's processor or its kernel's settings"
#define SEGMENT "selectors are the host kernel's"
#define NOTHING "has no result"
#define WAITS   "waits for what the host's clock and kernel do"
#define VT      "wants VMX operation"

// The first that fits counts. A name that ends in * is a prefix; no operands: any.
const struct row_held rows_held[] = {
    {"j*", "Jb", LEAVES, "tests/test_cpu_branches.c"}, {"j*", "Jz", LEAVES, "tests/test_cpu_branches.c"},
    {"loop*", NULL, LEAVES, "tests/test_cpu_branches.c"},
    {"call", "Jz", LEAVES, "tests/test_cpu_seam.c"}, {"call", "Ev", LEAVES, "tests/test_cpu_seam.c"},
    {"call", NULL, LEAVES, "tests/test_cpu_segments.c"},
    {"jmp", "Ev", LEAVES, "tests/test_cpu_debug.c"}, {"jmp", NULL, LEAVES, "tests/test_cpu_segments.c"},
    {"ret", NULL, LEAVES, "tests/test_cpu_seam.c"}, {"retf", NULL, LEAVES, "tests/test_cpu_segments.c"},
    {"iret", NULL, LEAVES, "tests/test_cpu_segments.c"},
    {"int3", NULL, KERNEL, "roms/conformance/faults.c"}, {"int1", NULL, KERNEL, "roms/conformance/faults.c"},
    {"int", NULL, KERNEL, "tests/test_cpu_delivery.c"},
    {"syscall", NULL, KERNEL, "roms/conformance/modes.c"}, {"sysret", NULL, LEAVES, "tests/test_cpu_control.c"},
    {"sysenter", NULL, KERNEL, "roms/conformance/modes.c"}, {"sysexit", NULL, LEAVES, "tests/test_cpu_control.c"},
    {"cpuid", NULL, HOST, "tests/test_cpu_control.c"},
    {"rdtsc*", NULL, HOST, "tests/test_vmx_exits.c"}, {"rdpmc", NULL, HOST, "tests/test_vmx_exits.c"},
    {"rdrand", NULL, HOST, "tests/test_cpu_control.c"}, {"rdseed", NULL, HOST, "tests/test_cpu_control.c"},
    {"rdpid", NULL, HOST, "tests/test_cpu_control.c"}, {"xgetbv", NULL, HOST, "tests/test_cpu_fp.c"},
    {"xsetbv", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"rdfsbase", NULL, HOST, "tests/test_cpu_branches.c"}, {"rdgsbase", NULL, HOST, "tests/test_cpu_control.c"},
    {"wrfsbase", NULL, "FS is the host's thread pointer", "tests/test_cpu_branches.c"},
    {"wrgsbase", NULL, HOST, "tests/test_cpu_control.c"},
    {"mov", "Sw,Ew", SEGMENT, "tests/test_cpu_segments.c"}, {"mov", "Ev,Sw", SEGMENT, "tests/test_cpu_segments.c"},
    {"push", "r", SEGMENT, "tests/test_cpu_segments.c"}, {"pop", "r", SEGMENT, "tests/test_cpu_segments.c"},
    {"les", NULL, SEGMENT, "tests/test_cpu_segments.c"}, {"lds", NULL, SEGMENT, "tests/test_cpu_branches.c"},
    {"lss", NULL, SEGMENT, "tests/test_cpu_segments.c"}, {"lfs", NULL, SEGMENT, "tests/test_cpu_branches.c"},
    {"lgs", NULL, SEGMENT, "tests/test_cpu_segments.c"},
    {"lar", NULL, SEGMENT, "tests/test_cpu_segments.c"}, {"lsl", NULL, SEGMENT, "tests/test_cpu_segments.c"},
    {"verr", NULL, SEGMENT, "tests/test_cpu_segments.c"}, {"verw", NULL, SEGMENT, "tests/test_cpu_segments.c"},
    {"sgdt", NULL, HOST, "roms/conformance/vmx-state.c"}, {"sidt", NULL, HOST, "roms/conformance/vmx-state.c"},
    {"sldt", NULL, HOST, "roms/conformance/vmx-state.c"}, {"str", NULL, HOST, "roms/conformance/vmx-state.c"},
    {"smsw", NULL, HOST, "tests/test_cpu_control.c"},
    {"lgdt", NULL, CPL_0, "roms/conformance/vmx-state.c"}, {"lidt", NULL, CPL_0, "roms/conformance/modes.c"},
    {"lldt", NULL, CPL_0, "tests/test_cpu_segments.c"}, {"ltr", NULL, CPL_0, "tests/test_cpu_segments.c"},
    {"lmsw", NULL, CPL_0, "tests/test_cpu_control.c"}, {"clts", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"mov", "Rd,Cd", CPL_0, "tests/test_cpu_control.c"}, {"mov", "Cd,Rd", CPL_0, "tests/test_cpu_control.c"},
    {"mov", "Rd,Dd", CPL_0, "tests/test_cpu_control.c"}, {"mov", "Dd,Rd", CPL_0, "tests/test_cpu_debug.c"},
    {"invlpg", NULL, CPL_0, "roms/conformance/paging.c"}, {"invpcid", NULL, CPL_0, "roms/conformance/paging.c"},
    {"invd", NULL, CPL_0, "tests/test_cpu_control.c"}, {"wbinvd", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"rdmsr", NULL, CPL_0, "tests/test_cpu_control.c"}, {"wrmsr", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"wrmsrns", NULL, CPL_0, "tests/test_cpu_control.c"}, {"rdmsrlist", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"wrmsrlist", NULL, CPL_0, "tests/test_cpu_control.c"}, {"hlt", NULL, CPL_0, "tests/test_cpu_control.c"}, {"swapgs", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"clac", NULL, CPL_0, "roms/conformance/paging.c"}, {"stac", NULL, CPL_0, "roms/conformance/paging.c"},
    {"xsaves", NULL, CPL_0, "tests/test_cpu_fp.c"}, {"xrstors", NULL, CPL_0, "tests/test_cpu_fp.c"},
    {"rdpkru", NULL, "the host's kernel has CR4.PKE off", "roms/conformance/paging.c"},
    {"wrpkru", NULL, "takes the test's own memory away", "roms/conformance/paging.c"},
    {"monitor", NULL, CPL_0, "tests/test_cpu_control.c"}, {"mwait", NULL, CPL_0, "tests/test_cpu_control.c"},
    {"umonitor", NULL, WAITS, "tests/test_cpu_control.c"}, {"umwait", NULL, WAITS, "tests/test_cpu_control.c"},
    {"tpause", NULL, WAITS, "tests/test_cpu_control.c"},
    {"movdir64b", NULL, "its destination is a register's value, on 64 bytes", "tests/test_cpu_control.c"},
    {"rsm", NULL, "#UD outside system management mode", "tests/test_cpu_branches.c"},
    {"clflush", NULL, NOTHING, "tests/test_cpu_branches.c"}, {"clflushopt", NULL, NOTHING, "tests/test_cpu_branches.c"},
    {"clwb", NULL, NOTHING, "tests/test_cpu_branches.c"},
    {"prefetch*", NULL, NOTHING, "tests/test_cpu_control.c"}, {"nop", NULL, NOTHING, "tests/test_cpu_control.c"},
    {"vmcall", NULL, VT, "roms/conformance/vmx-instructions.c"}, {"vmlaunch", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"vmresume", NULL, VT, "roms/conformance/vmx-instructions.c"}, {"vmxoff", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"vmfunc", NULL, VT, "roms/conformance/vmx-ept.c"}, {"vmread", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"vmwrite", NULL, VT, "roms/conformance/vmx-instructions.c"}, {"vmptrld", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"vmclear", NULL, VT, "roms/conformance/vmx-instructions.c"}, {"vmxon", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"vmptrst", NULL, VT, "roms/conformance/vmx-instructions.c"}, {"invept", NULL, VT, "roms/conformance/vmx-instructions.c"},
    {"invvpid", NULL, VT, "roms/conformance/vmx-instructions.c"},
};
// clang-format on
const unsigned rows_held_n = ARRAY_LEN(rows_held);

const struct row_held *row_held(const struct row *r)
{
    char operands[64];
    row_operands(r, operands, sizeof operands);
    for (unsigned i = 0; i < rows_held_n; i++) {
        const struct row_held *h = &rows_held[i];
        size_t n = strcspn(h->name, "*");
        bool same = h->name[n] ? !strncmp(r->name, h->name, n) : !strcmp(r->name, h->name);
        if (same && (!h->operands || !strcmp(h->operands, operands))) return h;
    }
    return NULL;
}

// Did that test run the row? `ran` is a folder with a file of row numbers for each test (tests/rows_held).
static bool has_run(const char *ran, const char *test, unsigned row)
{
    char path[4096];
    const char *name = strrchr(test, '/') + 1;
    unsigned x;
    bool found = false;
    snprintf(path, sizeof path, "%s/%.*s", ran, (int)strcspn(name, "."), name);
    FILE *f = fopen(path, "r");
    while (f && !found && fscanf(f, "%u", &x) == 1) found = x == row;
    if (f) fclose(f);
    return found;
}

int rows_list(const char *ran)
{
    unsigned drawn = 0, held = 0, unaccounted = 0;
    bool used[ARRAY_LEN(rows_held)] = {false};
    for (unsigned i = ROW_FIXED; i < rows_n; i++) {
        const struct row *r = &rows[i];
        const struct row_held *h = row_held(r);
        char operands[64];
        row_operands(r, operands, sizeof operands);
        if (h) used[h - rows_held] = true;
        if (encode_drawn(r, 16) || encode_drawn(r, 32) || encode_drawn(r, 64)) {
            printf("%-12s %-20s silicon\n", r->name, operands);
            drawn++;
        } else if (h && has_run(ran, h->by, i)) {
            printf("%-12s %-20s %s: %s (not drawn: %s)\n", r->name, operands,
                   strncmp(h->by, "roms/", 5) ? "unit" : "guest", h->by, h->why);
            held++;
        } else {
            printf("%-12s %-20s UNACCOUNTED%s%s\n", r->name, operands, h ? ": not run by " : "",
                   h ? h->by : "");
            unaccounted++;
        }
    }
    for (unsigned i = 0; i < rows_held_n; i++)
        if (!used[i])
            printf("%-12s no row needs this line of tests/silicon/held.c\n", rows_held[i].name),
                unaccounted++;
    printf("# %u rows drawn by the silicon test, %u held elsewhere, %u unaccounted\n", drawn, held,
           unaccounted);
    return unaccounted != 0;
}
