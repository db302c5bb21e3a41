// What things cost beyond the one unit of an instruction (REP moves: cpu/instructions/string.c). Guest state
// alone decides them, so time is the same in every engine.
#ifndef CPU_COST_H
#define CPU_COST_H

enum {
    COST_EXCEPTION = 20, // delivered through the IDT
    COST_INTERRUPT = 30,
    COST_POSTED = 20, // processing posted interrupts
    COST_TASK_SWITCH = 60,
    COST_VMEXIT = 40, // and an entry: VMX_ENTRY_UNITS
    COST_CPUID = 20,
    COST_MSR = 10, // RDMSR, WRMSR
    COST_PORT = 10,
    COST_PORT_STRING = 4, // each element of INS, OUTS
    COST_PAUSE = 10,
    COST_WBINVD = 100,
};

#endif
