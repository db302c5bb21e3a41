// The register dump.
#include <inttypes.h>

#include "frontend/log.h"
#include "devices/machine.h"

static void cpu_registers(FILE *f, const struct vcpu *v)
{
    static const char *const g[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                      "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const s[SEG_COUNT] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};
    const struct vcpu_state *st = &v->s;
    for (unsigned i = 0; i < 16; i++)
        fprintf(f, "%s=%016" PRIx64 "%s", g[i], st->gpr[i], i % 4 == 3 ? "\n" : " ");
    fprintf(f, "RIP=%016" PRIx64 " RFLAGS=%08" PRIx64 " CPL=%u %s\n", st->rip, cpu_rflags(v), v->d.cpl,
            st->vmx.guest ? "VMX non-root"
            : st->vmx.on  ? "VMX root"
                          : "");
    for (unsigned i = 0; i < SEG_COUNT; i++)
        fprintf(f, "%-4s=%04x base=%016" PRIx64 " limit=%08x ar=%05x\n", s[i], st->seg[i].sel,
                st->seg[i].base, st->seg[i].limit, st->seg[i].ar);
    fprintf(f, "GDT=%016" PRIx64 " limit=%04x IDT=%016" PRIx64 " limit=%04x\n", st->gdtr.base, st->gdtr.limit,
            st->idtr.base, st->idtr.limit);
    fprintf(f,
            "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 " EFER=%04" PRIx64 "\n",
            st->cr0, st->cr2, st->cr3, st->cr4, st->msr.efer);
}

void log_registers(FILE *f, const struct machine *m)
{
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (m->cpus_n > 1) fprintf(f, "cpu=%u\n", i);
        cpu_registers(f, m->cpu[i]);
    }
}
